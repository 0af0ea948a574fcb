"""Relativistic critics: which of two samples is the datum, rather than whether one is."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from implicit_estimators.divergences import softplus
from implicit_estimators.ratio_losses.base import EvenLoss, mean_of, shares_of
from implicit_estimators.ratio_losses.critics import CriticLoss
from implicit_estimators.ratio_losses.normalisers import bennett


@dataclass(frozen=True)
class RelativisticLoss(EvenLoss):
    r"""The log score of telling which of a datum and a draw is the datum (RSGAN; the pairing game of R3GAN).

    .. math:: \mathbb{E}_{x \sim p, \, y \sim q}[\operatorname{softplus}(-(c(x) - c(y)))]

    At the optimum :math:`c = \log r` up to a constant, and the value is :math:`\log 2 - JS(p \otimes q, q \otimes p)`.
    The papers pair the i-th datum with the i-th draw; here the mean is over all pairs of the batch, which has the same
    expectation, less variance, and does not depend on the order of the rows. It takes memory for n times m numbers:
    batches, not whole data sets.

    Raises:
        ValueError: If ``prior`` is not 1/2.

    References:
        | The relativistic discriminator: a key element missing from standard GAN (Jolicoeur-Martineau, 2019)
        | https://arxiv.org/abs/1807.00734
        | The GAN is dead; long live the GAN! A Modern Baseline GAN (Huang et al., 2024)
        | https://arxiv.org/abs/2501.05441
    """

    name = "relativistic"

    def loss(
        self,
        output_p: Tensor,
        output_q: Tensor,
        weights_p: Tensor | None = None,
        weights_q: Tensor | None = None,
    ) -> Tensor:
        """See :meth:`RatioLoss.loss`."""
        share_p, share_q = shares_of(output_p, weights_p, "p"), shares_of(output_q, weights_q, "q")
        return share_p @ softplus(output_q.flatten() - output_p.flatten()[:, None]) @ share_q

    def log_normaliser(self, output_p: Tensor, output_q: Tensor) -> float:
        """Bennett's estimate (see :func:`bennett`)."""
        return bennett(output_p, output_q)


@dataclass(frozen=True)
class RelativisticAverageLoss(CriticLoss):
    r"""The log score of a datum against the average draw, and of a draw against the average datum (RaSGAN).

    .. math:: \mathbb{E}_p[\operatorname{softplus}(-(c - \mathbb{E}_q[c]))] +
        \mathbb{E}_q[\operatorname{softplus}(c - \mathbb{E}_p[c])]

    Cheaper than all pairs, and not the same: its optimum is not the log-ratio, for both sides are compared with an
    average of outputs and not with the outputs.

    Raises:
        ValueError: If ``prior`` is not 1/2.

    References:
        | The relativistic discriminator: a key element missing from standard GAN (Jolicoeur-Martineau, 2019)
        | https://arxiv.org/abs/1807.00734
    """

    name = "relativistic-average"

    def loss(
        self,
        output_p: Tensor,
        output_q: Tensor,
        weights_p: Tensor | None = None,
        weights_q: Tensor | None = None,
    ) -> Tensor:
        """See :meth:`RatioLoss.loss`."""
        mean_p, mean_q = mean_of(output_p, weights_p, "p"), mean_of(output_q, weights_q, "q")
        at_p, at_q = softplus(mean_q - output_p), softplus(output_q - mean_p)
        return mean_of(at_p, weights_p, "p") + mean_of(at_q, weights_q, "q")
