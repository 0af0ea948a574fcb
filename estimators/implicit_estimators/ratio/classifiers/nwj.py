r"""A density ratio by the bound of Nguyen, Wainwright and Jordan on KL, which is the unnormalised KL of KLIEP.

References:
    | Estimating Divergence Functionals and the Likelihood Ratio by Convex Risk Minimization (Nguyen et al., 2010)
    | https://arxiv.org/abs/0809.0853
    | Direct importance estimation for covariate shift adaptation (Sugiyama et al., 2008), for KLIEP
    | https://doi.org/10.1007/s10463-008-0197-x
"""

from __future__ import annotations

from dataclasses import dataclass

from implicit_estimators.ratio.classifiers.network import NetworkRatio
from implicit_estimators.ratio_losses import RatioLoss, ratio_loss


@dataclass(eq=False, repr=False)
class NWJRatio(NetworkRatio):
    r"""The critic of the Nguyen-Wainwright-Jordan bound on KL.

    .. math:: KL(p \| q) \ge \mathbb{E}_p[v] - \mathbb{E}_q[e^v] + 1, \text{ tight at } v = \log r

    Gradients grow like r. For the bound itself, see :func:`kl_bound`.

    Settings and errors as of :class:`NetworkRatio`.
    """

    name = "nwj"

    def ratio_loss(self, prior: float) -> RatioLoss:
        """Minus the bound."""
        return ratio_loss("nwj", prior)
