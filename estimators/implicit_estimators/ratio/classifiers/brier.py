r"""A density ratio by the Brier score: bounded losses, so that gross outliers cost no more than any other error.

References:
    | Verification of forecasts expressed in terms of probability (Brier, 1950)
    | Linking losses for density ratio and class-probability estimation (Menon and Ong, 2016)
    | https://proceedings.mlr.press/v48/menon16.html
"""

from __future__ import annotations

from dataclasses import dataclass

from implicit_estimators.ratio.classifiers.network import NetworkRatio
from implicit_estimators.ratio_losses import BrierLoss, RatioLoss


@dataclass(eq=False, repr=False)
class BrierRatio(NetworkRatio):
    r"""A classifier by the Brier score, its logit the log-ratio.

    .. math:: \mathbb{E}_p[(1 - D)^2] + \mathbb{E}_q[D^2]

    As accurate as the log score where p and q overlap, and slower to correct gross errors.

    Settings and errors as of :class:`NetworkRatio`.
    """

    name = "brier"

    def ratio_loss(self, prior: float) -> RatioLoss:
        """The Brier score, each sample counting the same."""
        return BrierLoss(prior)
