r"""A density ratio by the exponential loss of boosting, which is the bound of squared Hellinger.

References:
    | Additive logistic regression: a statistical view of boosting (Friedman, Hastie and Tibshirani, 2000)
    | https://doi.org/10.1214/aos/1016218223
    | Linking losses for density ratio and class-probability estimation (Menon and Ong, 2016)
    | https://proceedings.mlr.press/v48/menon16.html
"""

from __future__ import annotations

from dataclasses import dataclass

from implicit_estimators.ratio.classifiers.network import NetworkRatio
from implicit_estimators.ratio_losses import RatioLoss, ratio_loss


@dataclass(eq=False, repr=False)
class ExponentialRatio(NetworkRatio):
    r"""A classifier by the exponential loss, which is that of boosting and of the Hellinger distance.

    .. math:: \mathbb{E}_p[e^{-v/2}] + \mathbb{E}_q[e^{v/2}], \text{ least at } v = \log r

    Gradients grow like the square root of r: gross errors are corrected fast, and outliers pull hard. p and q weigh the
    same, however many samples there are.

    Settings and errors as of :class:`NetworkRatio`.
    """

    name = "exponential"

    def ratio_loss(self, prior: float) -> RatioLoss:
        """The exponential loss."""
        return ratio_loss("exponential", prior)
