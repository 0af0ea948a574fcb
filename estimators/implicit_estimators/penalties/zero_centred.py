"""Zero slope, at the data, at the model's samples or between: the penalties with which GANs converge locally."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_estimators.penalties.base import Penalty, between
from implicit_estimators.seeds import Seed


@dataclass(frozen=True)
class R1(Penalty):
    r"""Zero slope at the data, :math:`\frac{\gamma}{2} \mathbb{E}_p\|\nabla c\|^2`: makes GANs converge locally.

    References:
        | Which Training Methods for GANs do actually Converge? (Mescheder et al., 2018)
        | https://arxiv.org/abs/1801.04406

    Args:
        weight: :math:`\gamma`.
    """

    weight: float = 1.0

    name = "r1"
    needs_draws = False

    def points(self, real: Tensor, fake: Tensor, seed: Seed) -> Tensor:
        """The data."""
        return real

    def charge(self, slope: Tensor) -> Tensor:
        """Half of the squared slope."""
        return 0.5 * self.weight * slope.square()

    def charge_gradient(self, gradient: Tensor) -> Tensor:
        """The same of gradients; a square is smooth at 0, where the length that it is the square of is not."""
        flat = (gradient == 0).all(1)
        return torch.where(flat, 0.5 * self.weight * gradient.square().sum(1), super().charge_gradient(gradient))


@dataclass(frozen=True)
class R2(R1):
    r"""Zero slope at the model's samples, :math:`\frac{\gamma}{2} \mathbb{E}_q\|\nabla c\|^2` (see :class:`R1`).

    Args:
        weight: :math:`\gamma`.
    """

    name = "r2"
    needs_draws = True

    def points(self, real: Tensor, fake: Tensor, seed: Seed) -> Tensor:
        """The model's samples."""
        return fake


@dataclass(frozen=True)
class ZeroCentred(R1):
    r"""Zero slope between data and model, :math:`\frac{\gamma}{2} \mathbb{E}\|\nabla c\|^2` on the segments.

    References:
        | Improving Generalization and Stability of Generative Adversarial Networks (Thanh-Tung et al., 2019)
        | https://arxiv.org/abs/1902.03984

    Args:
        weight: :math:`\gamma`.
    """

    name = "zero-centred"
    needs_draws = True

    def points(self, real: Tensor, fake: Tensor, seed: Seed) -> Tensor:
        """One uniform point on the segment of each pair."""
        return between(real, fake, seed)
