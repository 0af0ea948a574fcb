"""Slope 1 near the data: the penalty of DRAGAN."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_estimators.penalties.wasserstein import WassersteinPenalty
from implicit_estimators.seeds import Seed, generator


@dataclass(frozen=True)
class Dragan(WassersteinPenalty):
    r"""DRAGAN: slope 1 near the data, :math:`\lambda \, \mathbb{E}(\|\nabla c(x + \delta)\| - 1)^2`.

    :math:`\delta` is normal with ``spread`` times the standard deviation of the batch in each coordinate, so that
    units do not matter.

    References:
        | On Convergence and Stability of GANs (Kodali et al., 2017)
        | https://arxiv.org/abs/1705.07215

    Args:
        weight: :math:`\lambda`.
        one_sided: Charge only slopes above 1.
        spread: Size of the perturbation.
    """

    spread: float = 0.5

    name = "dragan"
    needs_draws = False

    def points(self, real: Tensor, fake: Tensor, seed: Seed) -> Tensor:
        """The data with noise."""
        noise = torch.randn(real.shape, generator=generator(seed, real.device), device=real.device, dtype=real.dtype)
        return real + self.spread * real.std(0, correction=0) * noise
