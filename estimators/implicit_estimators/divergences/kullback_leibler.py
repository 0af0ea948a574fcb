"""KL, reverse KL and their sum: averages of the log-ratio itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from implicit_estimators.divergences.base import Divergence
from implicit_estimators.divergences.tamed import exp_minus_one


class KL(Divergence):
    r"""Kullback-Leibler divergence :math:`\mathbb{E}_p[\log r]`, with :math:`f(u) = u \log u - u + 1`.

    :math:`f' = \log u`, :math:`f^*(t) = e^t - 1`.
    """

    name = "kl"

    def f(self, log_r: Tensor) -> Tensor:
        """R log r - r + 1."""
        excess = exp_minus_one(log_r)
        return log_r * (excess + 1) - excess

    def critic(self, log_r: Tensor) -> Tensor:
        """Log r."""
        return log_r

    def _conjugate(self, t: Tensor) -> Tensor:
        return exp_minus_one(t)

    def conjugate_of_critic(self, log_r: Tensor) -> Tensor:
        """R - 1."""
        return exp_minus_one(log_r)


class ReverseKL(Divergence):
    r"""Reverse KL divergence :math:`\mathbb{E}_q[-\log r]`, with :math:`f(u) = u - 1 - \log u`.

    :math:`f' = 1 - 1/u`, :math:`f^*(t) = -\log(1 - t)` for t < 1.
    """

    name = "reverse-kl"
    domain = (-math.inf, 1.0)

    def f(self, log_r: Tensor) -> Tensor:
        """R - 1 - log r."""
        return exp_minus_one(log_r) - log_r

    def critic(self, log_r: Tensor) -> Tensor:
        """1 - 1/r."""
        return -exp_minus_one(-log_r)

    def _conjugate(self, t: Tensor) -> Tensor:
        return -torch.log1p(-t)

    def conjugate_of_critic(self, log_r: Tensor) -> Tensor:
        """Log r."""
        return log_r


class Jeffreys(Divergence):
    r"""Jeffreys divergence :math:`KL(p \| q) + KL(q \| p)`, with :math:`f(u) = (u - 1) \log u`.

    :math:`f' = \log u + 1 - 1/u`, and with :math:`w + \log w = 1 - t` (Wright's omega),
    :math:`f^*(t) = w + 1/w + t - 2`.
    """

    name = "jeffreys"

    def f(self, log_r: Tensor) -> Tensor:
        """(r - 1) log r."""
        return log_r * exp_minus_one(log_r)

    def critic(self, log_r: Tensor) -> Tensor:
        """Log r + 1 - 1/r."""
        return log_r - exp_minus_one(-log_r)

    def _conjugate(self, t: Tensor) -> Tensor:
        target = 1 - t
        with torch.no_grad():
            # This start is never left of the root, from where Newton on a convex increasing function cannot overshoot.
            log_w = torch.minimum(target, target.clamp(min=1).log())
            for _ in range(8):
                log_w = log_w - (log_w.exp() + log_w - target) / (log_w.exp() + 1)
        log_w = log_w - (log_w.exp() + log_w - target) / (log_w.exp() + 1)  # with the graph: the implicit derivative
        return exp_minus_one(log_w) + exp_minus_one(-log_w) + t

    def conjugate_of_critic(self, log_r: Tensor) -> Tensor:
        """R - 1 + log r."""
        return exp_minus_one(log_r) + log_r
