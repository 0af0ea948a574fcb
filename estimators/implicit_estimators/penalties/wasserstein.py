"""Slope 1 on the segments between data and model: the penalty of WGAN-GP, two-sided and one-sided."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from implicit_estimators.penalties.base import Penalty, between
from implicit_estimators.seeds import Seed


@dataclass(frozen=True)
class WassersteinPenalty(Penalty):
    r"""WGAN-GP: slope 1 on the segments between data and model, :math:`\lambda \, \mathbb{E}(\|\nabla c\| - 1)^2`.

    An optimal Wasserstein critic has slope 1 on the segments that transport joins; pairs drawn at random are a
    stand-in for those. Games with it need not converge (Mescheder et al., 2018).

    References:
        | Improved Training of Wasserstein GANs (Gulrajani et al., 2017)
        | https://arxiv.org/abs/1704.00028
        | On the regularization of Wasserstein GANs (Petzka, Fischer and Lukovnikov, 2018)
        | https://arxiv.org/abs/1709.08894

    Args:
        weight: :math:`\lambda`.
        one_sided: Charge only slopes above 1 ("wgan-lp"; Petzka et al., 2018): a critic of slope at most 1 may be
            flatter anywhere.
    """

    weight: float = 10.0
    one_sided: bool = False

    name = "wgan-gp"

    def points(self, real: Tensor, fake: Tensor, seed: Seed) -> Tensor:
        """One uniform point on the segment of each pair."""
        return between(real, fake, seed)

    def charge(self, slope: Tensor) -> Tensor:
        """The square of the distance from slope 1."""
        excess = slope - 1
        return self.weight * (excess.clamp(min=0) if self.one_sided else excess).square()
