r"""A density ratio by way of the relative ratio, which is bounded where the ratio is not.

.. math:: r_\alpha = \frac{p}{\alpha p + (1 - \alpha) q} = \frac{r}{\alpha r + 1 - \alpha} \le \frac{1}{\alpha}

References:
    | Relative Density-Ratio Estimation for Robust Distribution Comparison (Yamada et al., 2013)
    | https://arxiv.org/abs/1106.4729
"""

from __future__ import annotations

from dataclasses import dataclass

from implicit_estimators.ratio.classifiers.network import NetworkRatio
from implicit_estimators.ratio_losses import BrierLoss, RatioLoss


@dataclass(eq=False, repr=False)
class RelativeRatio(NetworkRatio):
    r"""Least squares of the relative ratio, which is bounded (RuLSIF), by a network.

    .. math:: r_\alpha = \sigma(v) / \alpha, \quad \log r = v - \log \frac{\alpha}{1 - \alpha}

    These are the Brier score with the weight :math:`\alpha` of p (see :mod:`implicit_estimators.ratio_losses`): at the
    share of p among the samples, "brier" itself. Small values look harder at large r.

    Args:
        alpha: Inside (0, 1).

    Others and errors as of :class:`NetworkRatio`.
    """

    alpha: float = 0.1

    name = "relative"

    def ratio_loss(self, prior: float) -> RatioLoss:
        """The Brier score with the weight ``alpha``."""
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha: expected a number inside (0, 1); got {self.alpha}")
        return BrierLoss(self.alpha)
