r"""A density ratio by the critic of Donsker and Varadhan's bound on KL, as in MINE.

References:
    | Mutual Information Neural Estimation (Belghazi et al., 2018)
    | https://arxiv.org/abs/1801.04062
"""

from __future__ import annotations

from dataclasses import dataclass

from implicit_estimators.ratio.classifiers.network import NetworkRatio
from implicit_estimators.ratio_losses import DonskerVaradhanLoss, RatioLoss


@dataclass(eq=False, repr=False)
class DonskerVaradhanRatio(NetworkRatio):
    r"""The critic of the Donsker-Varadhan bound on KL, less its normaliser at the samples held out.

    .. math:: KL(p \| q) \ge \mathbb{E}_p[T] - \log \mathbb{E}_q[e^T]

    Here because the field uses it, and the one that most often fails: in a batch, the single sample of q with the
    largest output has nearly all weight. See :class:`DonskerVaradhanLoss` for what is done about that.

    Args:
        momentum: Share of the moving average of :math:`\mathbb{E}_q[e^T]` that a batch leaves in place.
        drift: Weight of what keeps the logarithm of that near 0.

    Others and errors as of :class:`NetworkRatio`.
    """

    momentum: float = 0.99
    drift: float = 0.1

    name = "donsker-varadhan"

    def ratio_loss(self, prior: float) -> RatioLoss:
        """Minus the bound, with MINE's gradient."""
        return DonskerVaradhanLoss(momentum=self.momentum, drift=self.drift)
