"""SMILE: the same bound with a clipped partition, whose variance stays bounded."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from implicit_estimators.ratio_losses.base import EvenLoss, mean_of
from implicit_estimators.ratio_losses.log import LogLoss
from implicit_estimators.ratio_losses.normalisers import log_mean_exp


@dataclass(frozen=True)
class SmileLoss(EvenLoss):
    r"""SMILE: the value of Donsker and Varadhan's bound with a clipped partition, the gradient of the log score.

    .. math:: -\mathbb{E}_p[T] + \log \mathbb{E}_q[\operatorname{clip}(e^T, e^{-\tau}, e^\tau)]

    Clipping takes away the variance that grows like :math:`e^{KL}` and adds a bias that shrinks with :math:`\tau`. The
    clipped bound itself cannot be trained, for it grows without end with T beyond :math:`\tau`: as in the authors'
    program, the critic learns by the Jensen-Shannon bound, and the value is what is read off. What is learned is
    thus the critic of ``LogLoss`` with even weights, and the ratio differs from it by the clipped partition alone.

    Args:
        tau: Where :math:`\pm T` is clipped under the exponential.

    Raises:
        ValueError: If ``prior`` is not 1/2 or ``tau`` is not positive.

    References:
        | Understanding the Limitations of Variational Mutual Information Estimators (Song and Ermon, 2020)
        | https://arxiv.org/abs/1910.06222
    """

    tau: float = 5.0

    name = "smile"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tau > 0:
            raise ValueError(f"tau: expected a positive number; got {self.tau}")

    def loss(
        self,
        output_p: Tensor,
        output_q: Tensor,
        weights_p: Tensor | None = None,
        weights_q: Tensor | None = None,
    ) -> Tensor:
        """See :meth:`RatioLoss.loss`; the gradient is not that of the value."""
        learned = LogLoss().loss(output_p, output_q, weights_p, weights_q)
        clipped = log_mean_exp(output_q.detach().clamp(-self.tau, self.tau), weights_q)
        return clipped - mean_of(output_p.detach(), weights_p, "p") + (learned - learned.detach())

    def log_normaliser(self, output_p: Tensor, output_q: Tensor) -> float:
        """The logarithm of the clipped partition, which is 0 for the true ratio if that lies inside the clip."""
        return float(log_mean_exp(output_q.detach().double().clamp(-self.tau, self.tau), None))
