"""KLIEP: the likelihood of a ratio that is normalised over q."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from implicit_estimators.ratio_losses.base import EvenLoss, mean_of
from implicit_estimators.ratio_losses.links import log_softplus
from implicit_estimators.ratio_losses.normalisers import bennett, log_mean_exp


@dataclass(frozen=True)
class KLIEPLoss(EvenLoss):
    r"""KLIEP: :math:`KL(p \| r q)` for a ratio :math:`r = \operatorname{softplus}(v)` with :math:`\mathbb{E}_q[r] = 1`.

    .. math:: -\mathbb{E}_p[\log r] + \log \mathbb{E}_q[r]
        = \min_c \; -\mathbb{E}_p[\log c r] + \mathbb{E}_q[c r] - 1

    The right-hand side is the Lagrangian of the constraint, whose multiplier is 1 at the optimum; the left-hand side
    has the factor c minimised out, so that v may tell r up to a factor and ``log_normaliser`` finds it. The least value
    is :math:`-KL(p \| q)`. As a bound of :math:`T = \log r` it is that of Donsker and Varadhan; what differs is the
    model: r is no exponential, its gradients do not grow with it, and no single sample of q can take all the weight as
    long as the outputs are of one size. The logarithm of a batch's mean is a little too small (of order one over its
    size).

    Raises:
        ValueError: If ``prior`` is not 1/2.

    References:
        | Direct importance estimation for covariate shift adaptation (Sugiyama et al., 2008)
        | https://doi.org/10.1007/s10463-008-0197-x
    """

    name = "kliep"

    def loss(
        self,
        output_p: Tensor,
        output_q: Tensor,
        weights_p: Tensor | None = None,
        weights_q: Tensor | None = None,
    ) -> Tensor:
        """See :meth:`RatioLoss.loss`."""
        return log_mean_exp(log_softplus(output_q), weights_q) - mean_of(log_softplus(output_p), weights_p, "p")

    def log_ratio(self, output: Tensor) -> Tensor:
        """Log softplus(output), up to a constant."""
        return log_softplus(output)

    def log_normaliser(self, output_p: Tensor, output_q: Tensor) -> float:
        """Bennett's estimate of the logarithm of the mean of r over q (see :func:`bennett`)."""
        return bennett(log_softplus(output_p), log_softplus(output_q))
