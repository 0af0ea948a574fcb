"""Least squares of the ratio itself (LSIF)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from implicit_estimators.ratio_losses.base import EvenLoss
from implicit_estimators.ratio_losses.links import log_softplus, tamed_softplus


@dataclass(frozen=True)
class LeastSquaresLoss(EvenLoss):
    r"""Least squares of r itself (LSIF), with :math:`r = \operatorname{softplus}(v)`.

    .. math:: \tfrac12 \mathbb{E}_q[r^2] - \mathbb{E}_p[r]

    Half of Pearson's bound less :math:`\frac12`; with the softplus for an exponential, gradients grow like r and not
    like :math:`r^2`. The least value is :math:`-\frac12 \mathbb{E}_q[r^2]`, which is infinite for many a pair of
    distributions (there the loss has no minimum worth learning). Beyond :math:`r = e^{30}` it goes on in the logarithm
    of r, in float32.

    Raises:
        ValueError: If ``prior`` is not 1/2.

    References:
        | A Least-squares Approach to Direct Importance Estimation (Kanamori, Hido and Sugiyama, 2009)
        | https://www.jmlr.org/papers/v10/kanamori09a.html
    """

    name = "lsif"

    def at_p(self, output: Tensor) -> Tensor:
        """Minus r."""
        return -tamed_softplus(output)

    def at_q(self, output: Tensor) -> Tensor:
        """Half the square of r."""
        return 0.5 * tamed_softplus(output).square()

    def log_ratio(self, output: Tensor) -> Tensor:
        """Log softplus(output)."""
        return log_softplus(output)
