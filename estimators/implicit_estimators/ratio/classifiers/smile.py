r"""A density ratio by SMILE: the critic of the Jensen-Shannon bound, normalised by a clipped partition.

References:
    | Understanding the Limitations of Variational Mutual Information Estimators (Song and Ermon, 2020)
    | https://arxiv.org/abs/1910.06222
"""

from __future__ import annotations

from dataclasses import dataclass

from implicit_estimators.ratio.classifiers.network import NetworkRatio
from implicit_estimators.ratio_losses import RatioLoss, SmileLoss


@dataclass(eq=False, repr=False)
class SmileRatio(NetworkRatio):
    r"""The critic of "logistic", normalised by SMILE's clipped partition.

    .. math:: \log r = T - \log \mathbb{E}_q[\operatorname{clip}(e^T, e^{-\tau}, e^\tau)], \text{ by samples held out}

    T is learned as by "logistic", with even weights: what SMILE adds is the clipped partition, whose aim is the
    estimate of KL (:func:`kl_bound`) rather than the ratio.

    Args:
        tau: Where :math:`\pm T` is clipped under the exponential.

    Others and errors as of :class:`NetworkRatio`.
    """

    tau: float = 5.0

    name = "smile"

    def ratio_loss(self, prior: float) -> RatioLoss:
        """SMILE's value with the gradient of the log score."""
        return SmileLoss(tau=self.tau)
