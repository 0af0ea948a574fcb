r"""The relativistic game of a posterior: of two parameters and one x, which one made it?

.. math:: L_C = \mathbb{E}_{(\theta, x) \sim p, \, z} \operatorname{softplus}\left(c(f(z, x), x) - c(\theta, x)\right),
    \quad L_G = \mathbb{E} \operatorname{softplus}\left(c(\theta, x) - c(f(z, x), x)\right)

Both are asked at the *same* x, so the critic is free to add any function of x, which says nothing about theta and
which a critic of single pairs has to learn to be without. At the optimum :math:`c = \log p(\theta \mid x) /
q(\theta \mid x)` up to such a function. Zero-centred penalties at data and draws make the game converge locally.

References:
    | The GAN is dead; long live the GAN! A Modern Baseline GAN (Huang et al., 2024)
    | https://arxiv.org/abs/2501.05441
    | The relativistic discriminator: a key element missing from standard GAN (Jolicoeur-Martineau, 2019)
    | https://arxiv.org/abs/1807.00734
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import softplus

from implicit_estimators.comparisons import Comparison
from implicit_estimators.penalties import R1, R2, Penalty
from implicit_estimators.penalties.combined import Sum


@dataclass(frozen=True)
class PairedRelativistic(Comparison):
    r"""The pairing game at one x, with the penalties :math:`\frac{\gamma}{2} \mathbb{E} \|\nabla c\|^2` of both sides.

    Row i of the data and row i of the draws belong to the same x: for conditional games only.

    Args:
        penalty_weight: :math:`\gamma`, of data and of draws; 0 for no penalty.
        critic_steps: Critic steps for each generator step.

    Raises:
        ValueError: If the weight is negative, or there is no critic step.
    """

    penalty_weight: float = 0.1
    critic_steps: int = 1

    name: ClassVar[str] = "paired-relativistic"

    def __post_init__(self) -> None:
        if not self.penalty_weight >= 0:
            raise ValueError(f"penalty_weight: expected a number that is not negative; got {self.penalty_weight}")
        if self.critic_steps < 1:
            raise ValueError(f"critic_steps: expected a positive int; got {self.critic_steps}")

    @property
    def regulariser(self) -> Penalty | None:
        """R1 and R2, or None."""
        return Sum((R1(self.penalty_weight), R2(self.penalty_weight))) if self.penalty_weight else None

    def critic_objective(self, at_data: Tensor, at_model: Tensor) -> Tensor:
        """The log score of telling the datum from the draw at each x.

        Raises:
            ValueError: If the outputs are not one number for each row of one batch.
        """
        self._check(at_data, at_model)
        return softplus(at_model - at_data).mean()

    def generator_objective(self, at_data: Tensor, at_model: Tensor) -> Tensor:
        """The same with the two exchanged.

        Raises:
            ValueError: If the outputs are not one number for each row of one batch.
        """
        self._check(at_data, at_model)
        return softplus(at_data - at_model).mean()

    @staticmethod
    def _check(at_data: Tensor, at_model: Tensor) -> None:
        if at_data.ndim != 1 or at_data.shape != at_model.shape or not len(at_data):
            shapes = f"{tuple(at_data.shape)}, {tuple(at_model.shape)}"
            raise ValueError(f"at_data, at_model: expected one shape (n,), row i of both at the same x; got {shapes}")
