"""What comparisons of a critic's features share: the features as a matrix, and the settings that all of them have."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from implicit_estimators.penalties import Critic


def features_of(critic: Critic) -> Callable[..., Tensor]:
    """The critic as a function of samples and a condition or None, with result (n, features) even for one feature."""

    def features(samples: Tensor, condition: Tensor | None = None) -> Tensor:
        output = critic(samples) if condition is None else critic(samples, condition)
        return output[:, None] if output.ndim == 1 else output

    return features


def check_numbers(features: int, critic_steps: int, penalty_weight: float) -> None:
    """Refuse settings out of their range.

    Raises:
        ValueError: If a count is not positive, or the weight is negative.
    """
    for argument, value in (("features", features), ("critic_steps", critic_steps)):
        if value < 1:
            raise ValueError(f"{argument}: expected a positive int; got {value}")
    if not penalty_weight >= 0:
        raise ValueError(f"penalty_weight: expected a number that is not negative; got {penalty_weight}")
