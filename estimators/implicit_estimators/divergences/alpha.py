r"""The alpha family: everything between reverse KL and KL, with a knob for how hard large ratios pull."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from implicit_estimators.divergences.base import Divergence
from implicit_estimators.divergences.tamed import exp_minus_one


class Alpha(Divergence):
    r"""Alpha divergence :math:`D_\alpha = \frac{1 - \int p^\alpha q^{1 - \alpha}}{\alpha (1 - \alpha)}`.

    .. math:: f(u) = \frac{\alpha u + 1 - \alpha - u^\alpha}{\alpha (1 - \alpha)}, \quad
        f' = \frac{1 - u^{\alpha - 1}}{1 - \alpha}, \quad
        f^*(t) = \frac{(1 - (1 - \alpha) t)^{-\alpha / (1 - \alpha)} - 1}{\alpha}, \; t < \frac{1}{1 - \alpha}

    Reverse KL as :math:`\alpha \to 0`, four times squared Hellinger at 1/2, KL as :math:`\alpha \to 1`. A model that
    descends it has the slope :math:`-r^\alpha`.

    References:
        | Divergence measures and message passing (Minka, 2005)
        | https://www.microsoft.com/en-us/research/publication/divergence-measures-and-message-passing/
        | Families of Alpha- Beta- and Gamma-Divergences (Cichocki and Amari, 2010)
        | https://doi.org/10.3390/e12061532

    Args:
        alpha: Inside (0, 1).

    Raises:
        ValueError: If ``alpha`` is out of range.
    """

    name = "alpha"

    def __init__(self, alpha: float = 0.25) -> None:
        if not 0 < alpha < 1:
            raise ValueError(f"alpha: expected a number inside (0, 1); got {alpha}")
        self.alpha = alpha
        self.domain = (-math.inf, 1 / (1 - alpha))

    def f(self, log_r: Tensor) -> Tensor:
        """R - 1, less (r^alpha - 1) / alpha, over 1 - alpha."""
        return (exp_minus_one(log_r) - exp_minus_one(self.alpha * log_r) / self.alpha) / (1 - self.alpha)

    def critic(self, log_r: Tensor) -> Tensor:
        """1 - r^(alpha - 1), over 1 - alpha."""
        return -exp_minus_one((self.alpha - 1) * log_r) / (1 - self.alpha)

    def _conjugate(self, t: Tensor) -> Tensor:
        power = -self.alpha / (1 - self.alpha)
        return torch.expm1(power * torch.log1p((self.alpha - 1) * t)) / self.alpha

    def conjugate_of_critic(self, log_r: Tensor) -> Tensor:
        """R^alpha - 1, over alpha."""
        return exp_minus_one(self.alpha * log_r) / self.alpha

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Alpha) and self.alpha == other.alpha

    def __hash__(self) -> int:
        return hash((Alpha, self.alpha))

    def __repr__(self) -> str:
        return f"Alpha({self.alpha})"
