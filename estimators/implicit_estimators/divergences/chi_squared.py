"""The two chi-squared divergences: squared differences of the densities in units of the one or the other."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from implicit_estimators.divergences.base import Divergence
from implicit_estimators.divergences.tamed import exp_minus_one


class Pearson(Divergence):
    r"""Pearson chi-squared divergence :math:`\mathbb{E}_q[(r - 1)^2] = \int (p - q)^2 / q`.

    :math:`f(u) = (u - 1)^2`, :math:`f' = 2 (u - 1)`, :math:`f^*(t) = t + t^2 / 4` for t > -2 and -1 below.
    """

    name = "pearson"

    def f(self, log_r: Tensor) -> Tensor:
        """The square of r - 1."""
        return self._excess(log_r).square()

    def critic(self, log_r: Tensor) -> Tensor:
        """Twice r - 1."""
        return 2 * self._excess(log_r)

    def _conjugate(self, t: Tensor) -> Tensor:
        t = t.clamp(min=-2)
        return t + t.square() / 4

    def conjugate_of_critic(self, log_r: Tensor) -> Tensor:
        """R^2 - 1."""
        excess = self._excess(log_r)
        # the product is the tamed form, but far below 0 its slope is a difference that rounds to nothing
        return torch.where(log_r < 1, exp_minus_one(2 * log_r.clamp(max=1)), excess * (excess + 2))

    @staticmethod
    def _excess(log_r: Tensor) -> Tensor:
        # one tamed r - 1 for all three: were r and r^2 tamed apart, the bound would have no lower end
        return exp_minus_one(log_r, squared=True)


class Neyman(Divergence):
    r"""Neyman's chi-squared divergence :math:`\int (p - q)^2 / p`, which is Pearson's with p and q exchanged.

    :math:`f(u) = (u - 1)^2 / u`, :math:`f' = 1 - u^{-2}`, :math:`f^*(t) = 2 - 2 \sqrt{1 - t}` for :math:`t \le 1`.
    """

    name = "neyman"
    domain = (-math.inf, 1.0)

    def f(self, log_r: Tensor) -> Tensor:
        """The square of sqrt(r) - 1/sqrt(r)."""
        half = 0.5 * log_r
        return (exp_minus_one(half, squared=True) - exp_minus_one(-half, squared=True)).square()

    def critic(self, log_r: Tensor) -> Tensor:
        """1 - 1/r^2."""
        excess = self._excess(log_r)
        # as in Pearson's conjugate: the tamed form where 1/r is large, the one with a slope where it is small
        return -torch.where(log_r > -1, exp_minus_one(-2 * log_r.clamp(min=-1)), excess * (excess + 2))

    def _conjugate(self, t: Tensor) -> Tensor:
        return 2 - 2 * (1 - t).sqrt()

    def conjugate_of_critic(self, log_r: Tensor) -> Tensor:
        """Twice 1 - 1/r."""
        return -2 * self._excess(log_r)

    @staticmethod
    def _excess(log_r: Tensor) -> Tensor:
        return exp_minus_one(-log_r, squared=True)
