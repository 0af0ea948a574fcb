r"""The comparison with a trained critic: any ratio loss for the critic with any generator loss for the model.

The two are free of each other (Mohamed and Lakshminarayanan, 2017): the critic estimates the log-ratio with one loss,
and the model descends another function of it. Which pairs converge is a matter of theory, not of types: every pair is
legal, and the documentation's matrix says what each does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from implicit_estimators.comparisons.base import Comparison
from implicit_estimators.generator_losses import GeneratorLoss, generator_loss
from implicit_estimators.penalties import Penalty, penalty
from implicit_estimators.ratio_losses import RatioLoss, ratio_loss


@dataclass(frozen=True)
class Adversarial(Comparison):
    r"""A critic that learns by ``ratio_loss`` and a model that descends ``generator_loss``.

    References:
        | Learning in Implicit Generative Models (Mohamed and Lakshminarayanan, 2017)
        | https://arxiv.org/abs/1610.03483

    Args:
        ratio_loss: How the critic learns: a name in ``RATIO_LOSSES`` or ``CRITIC_LOSSES``, or a loss.
        generator_loss: What the model descends: a name in ``GENERATOR_LOSSES``, or a loss.
        penalty: What keeps the critic smooth: a name in ``PENALTIES``, a penalty, or None.
        clip: The largest absolute value of the critic's weights, or None.
        spectral_norm: Whether the critic's layers are spectrally normalised.
        critic_steps: Critic steps for each generator step.

    Raises:
        ValueError: If a name is unknown, or a number is not positive.
    """

    ratio_loss: str | RatioLoss = "log"
    generator_loss: str | GeneratorLoss = "non-saturating"
    penalty: str | Penalty | None = None
    clip: float | None = None
    spectral_norm: bool = False
    critic_steps: int = 1

    name = "adversarial"

    def __post_init__(self) -> None:
        # a loss may remember its batches: each comparison has its own
        object.__setattr__(self, "ratio_loss", replace(ratio_loss(self.ratio_loss)))
        object.__setattr__(self, "generator_loss", generator_loss(self.generator_loss))
        object.__setattr__(self, "penalty", None if self.penalty is None else penalty(self.penalty))
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip: expected a positive number or None; got {self.clip}")
        if self.critic_steps < 1:
            raise ValueError(f"critic_steps: expected a positive int; got {self.critic_steps}")

    @property
    def learns(self) -> RatioLoss:
        """The critic's loss, as an object."""
        assert isinstance(self.ratio_loss, RatioLoss)
        return self.ratio_loss

    @property
    def moves(self) -> GeneratorLoss:
        """The model's loss, as an object."""
        assert isinstance(self.generator_loss, GeneratorLoss)
        return self.generator_loss

    @property
    def regulariser(self) -> Penalty | None:
        """The penalty, as an object."""
        assert not isinstance(self.penalty, str)
        return self.penalty

    @property
    def needs_data(self) -> bool:
        """Whether the generator loss compares draws with data, as the relativistic ones do."""
        return self.moves.needs_data

    def critic_objective(self, at_data: Tensor, at_model: Tensor) -> Tensor:
        """The ratio loss."""
        return self.learns.loss(at_data, at_model)

    def generator_objective(self, at_data: Tensor, at_model: Tensor) -> Tensor:
        """The generator loss of the log-ratio that the critic tells."""
        return self.moves.loss(self.learns.log_ratio(at_model), self.learns.log_ratio(at_data))

    def log_ratio(self, output: Tensor) -> Tensor | None:
        """Log p/q as the ratio loss reads it off the output; None for a critic loss that is not one of ratios."""
        return self.learns.log_ratio(output) if self.learns.tells_ratio else None

    def log_normaliser(self, at_data: Tensor, at_model: Tensor) -> float:
        """See :meth:`Comparison.log_normaliser`."""
        return self.learns.log_normaliser(at_data, at_model)

    def state_dict(self) -> dict[str, Tensor]:
        """What the ratio loss remembers."""
        return self.learns.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put it back."""
        self.learns.load_state_dict(state)
