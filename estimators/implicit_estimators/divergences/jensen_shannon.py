"""Jensen-Shannon: how well the best classifier tells the two laws apart, in nats."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from implicit_estimators.divergences.base import Divergence
from implicit_estimators.divergences.tamed import LOG2, exp_minus_one, softplus


class JensenShannon(Divergence):
    r"""Jensen-Shannon divergence :math:`\frac12 KL(p \| m) + \frac12 KL(q \| m)`, :math:`m = (p + q) / 2`.

    .. math:: f(u) = \tfrac12 u \log u - \tfrac12 (u + 1) \log \tfrac{u + 1}{2}, \quad
        f' = \tfrac12 \log \tfrac{2u}{1 + u}, \quad f^*(t) = -\tfrac12 \log(2 - e^{2t}), \; t < \tfrac12 \log 2.

    The loss of a GAN's discriminator is :math:`\log 4 - 2` times this bound.
    """

    name = "js"
    domain = (-math.inf, 0.5 * LOG2)

    def f(self, log_r: Tensor) -> Tensor:
        """Half of r (log 2 - softplus(-log r)) + (log 2 - softplus(log r))."""
        ratio = exp_minus_one(log_r) + 1
        return 0.5 * (ratio * (LOG2 - softplus(-log_r)) + (LOG2 - softplus(log_r)))

    def critic(self, log_r: Tensor) -> Tensor:
        """Half of log(2 r / (1 + r))."""
        return 0.5 * (LOG2 - softplus(-log_r))

    def _conjugate(self, t: Tensor) -> Tensor:
        return -0.5 * torch.log1p(-torch.expm1(2 * t))

    def conjugate_of_critic(self, log_r: Tensor) -> Tensor:
        """Half of log((1 + r) / 2)."""
        return 0.5 * (softplus(log_r) - LOG2)
