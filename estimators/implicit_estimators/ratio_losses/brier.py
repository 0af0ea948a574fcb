"""The Brier score: squared errors of a classifier, which no single sample can dominate."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from implicit_estimators.ratio_losses.base import RatioLoss


@dataclass(frozen=True)
class BrierLoss(RatioLoss):
    r"""The Brier score of the classifier :math:`D = \sigma(v)`.

    .. math:: \mathbb{E}_p[(1 - D)^2] + \mathbb{E}_q[D^2]

    A badly wrong output costs at most 1 and its gradient decays like :math:`e^{-|v|}`: robust to outliers, slow to
    correct gross errors. Squares are taken of log D, so that the decaying gradient is right to the last digit and not
    0. With even weights its least value is :math:`\int p q / (p + q)`.
    """

    name = "brier"

    def at_p(self, output: Tensor) -> Tensor:
        """The square of 1 - D."""
        return (2 * logsigmoid(-output)).exp()

    def at_q(self, output: Tensor) -> Tensor:
        """The square of D."""
        return (2 * logsigmoid(output)).exp()
