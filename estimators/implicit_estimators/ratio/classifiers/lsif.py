r"""A density ratio by least squares of r itself, with a network and a bounded link for the kernels of uLSIF.

References:
    | A Least-squares Approach to Direct Importance Estimation (Kanamori, Hido and Sugiyama, 2009)
    | https://www.jmlr.org/papers/v10/kanamori09a.html
"""

from __future__ import annotations

from dataclasses import dataclass

from implicit_estimators.ratio.classifiers.network import NetworkRatio
from implicit_estimators.ratio_losses import LeastSquaresLoss, RatioLoss


@dataclass(eq=False, repr=False)
class LSIFRatio(NetworkRatio):
    r"""Least squares of the ratio itself (LSIF), by a network with a softplus.

    .. math:: \tfrac12 \mathbb{E}_q[r^2] - \mathbb{E}_p[r], \quad r = \operatorname{softplus}(v)

    Looks at large r alone: log r is poor where r is small, and where :math:`\mathbb{E}_q[r^2]` is infinite there is
    nothing to converge to. The loss to choose where r, not log r, is what will be used.

    Settings and errors as of :class:`NetworkRatio`.
    """

    name = "lsif"

    def ratio_loss(self, prior: float) -> RatioLoss:
        """Least squares of r."""
        return LeastSquaresLoss()
