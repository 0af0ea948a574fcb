"""Squared Hellinger: KL and reverse KL in equal parts, and bounded."""

from __future__ import annotations

import math

from torch import Tensor

from implicit_estimators.divergences.base import Divergence
from implicit_estimators.divergences.tamed import exp_minus_one


class SquaredHellinger(Divergence):
    r"""Squared Hellinger distance :math:`\frac12 \int (\sqrt p - \sqrt q)^2 = 1 - \int \sqrt{p q}`.

    :math:`f(u) = \frac12 (\sqrt u - 1)^2`, :math:`f' = \frac12 (1 - u^{-1/2})`, :math:`f^*(t) = t / (1 - 2t)` for
    t < 1/2. As a loss it is the exponential loss of boosting.
    """

    name = "hellinger"
    domain = (-math.inf, 0.5)

    def f(self, log_r: Tensor) -> Tensor:
        """Half of the square of sqrt(r) - 1."""
        return 0.5 * exp_minus_one(0.5 * log_r, squared=True).square()

    def critic(self, log_r: Tensor) -> Tensor:
        """Half of 1 - 1/sqrt(r)."""
        return -0.5 * exp_minus_one(-0.5 * log_r)

    def _conjugate(self, t: Tensor) -> Tensor:
        return t / (1 - 2 * t)

    def conjugate_of_critic(self, log_r: Tensor) -> Tensor:
        """Half of sqrt(r) - 1."""
        return 0.5 * exp_minus_one(0.5 * log_r)
