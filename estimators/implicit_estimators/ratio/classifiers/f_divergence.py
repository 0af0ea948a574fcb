r"""A density ratio by the critic of an f-divergence's variational bound, as in the f-GAN.

References:
    | f-GAN: Training Generative Neural Samplers using Variational Divergence Minimization (Nowozin et al., 2016)
    | https://arxiv.org/abs/1606.00709
"""

from __future__ import annotations

from dataclasses import dataclass

from implicit_estimators.ratio.classifiers.network import NetworkRatio
from implicit_estimators.ratio_losses import FDivergenceLoss, RatioLoss


@dataclass(eq=False, repr=False)
class FDivergenceRatio(NetworkRatio):
    r"""The critic of an f-divergence's variational bound.

    .. math:: D_f(p \| q) \ge \mathbb{E}_p[f'(e^v)] - \mathbb{E}_q[f^*(f'(e^v))], \quad v = \log r

    Args:
        bound: A name in ``DIVERGENCES`` whose critic tells the ratio: all but total variation. With "js" it is
            the log score with even weights; those of KL, reverse KL, Jeffreys and Pearson have gradients like r or 1/r.

    Others and errors as of :class:`NetworkRatio`.
    """

    bound: str = "js"

    name = "f-divergence"

    def ratio_loss(self, prior: float) -> RatioLoss:
        """Minus the bound."""
        return FDivergenceLoss(divergence=self.bound)
