r"""A comparison: what tells a model's draws from data, and what the model descends to make them alike.

A comparison is two functions of what a critic says at data and at the model's draws: the loss that the *critic*
minimises, and the loss that the *model* minimises. Where nothing is trained (maximum mean discrepancy, energy distance,
optimal transport), the critic is the identity, and the second function alone remains. So every comparison meets every
model, every penalty and every way of stepping the game.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

if TYPE_CHECKING:
    from implicit_estimators.penalties import Penalty


@dataclass(frozen=True)
class Comparison:
    """A child sets ``name`` and writes ``generator_objective``, and ``critic_objective`` if its critic is trained.

    Attributes:
        name: The name in ``COMPARISONS``.
        trained: Whether a critic is trained; if not, what is compared are the samples themselves.
        outputs: Numbers that the critic gives for each sample: 1, or the width of its features.
        critic_steps: Critic steps for each generator step that the comparison is meant to be used with.
    """

    name: ClassVar[str]
    trained: ClassVar[bool] = True

    @property
    def outputs(self) -> int:
        """Width of the critic's output; with 1, a critic gives shape (n,), otherwise (n, outputs)."""
        return 1

    @property
    def critic_steps(self) -> int:
        """Critic steps for each generator step, unless the game says otherwise."""
        return 1

    @property
    def regulariser(self) -> Penalty | None:
        """The penalty on the critic that belongs to the comparison, or None."""
        return None

    @property
    def clip(self) -> float | None:
        """The largest absolute value of the critic's weights after each of its steps, or None."""
        return None

    @property
    def spectral_norm(self) -> bool:
        """Whether the critic is to be built with spectrally normalised layers."""
        return False

    @property
    def needs_data(self) -> bool:
        """Whether ``generator_objective`` looks at ``at_data``; if not, anything of its shape may stand in for it."""
        return True

    def critic_objective(self, at_data: Tensor, at_model: Tensor) -> Tensor:
        """The scalar that the critic minimises, without penalty.

        Args:
            at_data: The critic's outputs at samples of the data (p), with shape (n,) or (n, outputs).
            at_model: Its outputs at draws of the model (q), with shape (m,) or (m, outputs), detached from the model.

        Returns:
            The loss, with shape ().

        Raises:
            ValueError: If a batch is empty.
        """
        raise NotImplementedError(f"{type(self).__name__} must write critic_objective(at_data, at_model)")

    def generator_objective(self, at_data: Tensor, at_model: Tensor) -> Tensor:
        """The scalar that the model minimises; its gradient reaches the model through ``at_model``.

        Args:
            at_data: The critic's outputs at samples of the data; the samples themselves, with shape (n, d), where
                nothing is trained.
            at_model: The same at draws of the model.

        Returns:
            The loss, with shape ().

        Raises:
            ValueError: If a batch is empty.
        """
        raise NotImplementedError(f"{type(self).__name__} must write generator_objective(at_data, at_model)")

    def log_ratio(self, output: Tensor) -> Tensor | None:
        """Log p/q as the trained critic's output tells it, elementwise; None where the critic is no ratio."""
        return None

    def log_normaliser(self, at_data: Tensor, at_model: Tensor) -> float:
        """What ``log_ratio`` exceeds log p/q by everywhere, from the critic's outputs at fresh samples of both.

        0 where the critic tells the ratio itself; some (Donsker and Varadhan's, KLIEP's, relativistic ones) tell it up
        to a factor.
        """
        return 0.0

    def state_dict(self) -> dict[str, Tensor]:
        """What the comparison remembers of its batches (multipliers, moving averages), for a checkpoint."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`state_dict` gave."""
