"""The bound of Donsker and Varadhan: KL by a critic that is known up to a constant."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from implicit_estimators.ratio_losses.base import EvenLoss, mean_of
from implicit_estimators.ratio_losses.normalisers import bennett, log_mean_exp


@dataclass(frozen=True)
class DonskerVaradhanLoss(EvenLoss):
    r"""Minus the bound of Donsker and Varadhan on KL, with MINE's corrected gradient.

    .. math:: -\mathbb{E}_p[T] + \log \mathbb{E}_q[e^T] + \lambda \left(\log \mathbb{E}_q[e^T]\right)^2

    The least value is :math:`-KL(p \| q)`, at :math:`T = \log r`; without the last term, at any T that differs by a
    constant, and T drifts. The gradient of a batch's logarithm is biased, and left to itself gives all weight to the
    one sample of q whose output is largest; here :math:`\mathbb{E}_q[\nabla e^T]` is divided by a moving average of
    :math:`\mathbb{E}_q[e^T]` over the batches. That makes capture by single samples rarer and cannot exclude it: for
    the ratio itself, another loss is the better choice.

    Args:
        momentum: Share of the moving average that a batch leaves in place; 0 is the biased gradient.
        drift: The weight :math:`\lambda`.

    Raises:
        ValueError: If ``prior`` is not 1/2 or an argument is out of range.

    References:
        | Mutual Information Neural Estimation (Belghazi et al., 2018), for the bound and the moving average
        | https://arxiv.org/abs/1801.04062
        | Regularized Mutual Information Neural Estimation (Choi and Lee, 2020), for the last term
        | https://arxiv.org/abs/2011.07932
    """

    momentum: float = 0.99
    drift: float = 0.1
    _log_average: list[Tensor] = field(default_factory=list, init=False, repr=False, compare=False)

    name = "donsker-varadhan"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum: expected a number in [0, 1); got {self.momentum}")
        if not self.drift >= 0:
            raise ValueError(f"drift: expected a number not below 0; got {self.drift}")

    def loss(
        self,
        output_p: Tensor,
        output_q: Tensor,
        weights_p: Tensor | None = None,
        weights_q: Tensor | None = None,
    ) -> Tensor:
        """See :meth:`RatioLoss.loss`; each call with gradients moves the average."""
        log_mean = log_mean_exp(output_q, weights_q)
        now = log_mean.detach()
        if torch.is_grad_enabled():
            average = self._log_average[0].to(now) if self._log_average else now
            average = torch.logaddexp(average + _log(self.momentum), now + math.log(1 - self.momentum))
            self._log_average[:] = [average]
            log_mean = now + (now - average).exp() * (log_mean - now)
        return log_mean - mean_of(output_p, weights_p, "p") + self.drift * log_mean.square()

    def state_dict(self) -> dict[str, Tensor]:
        """The moving average, once there is one."""
        return {"log_average": self._log_average[0]} if self._log_average else {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put the moving average back."""
        self._log_average[:] = [state["log_average"]] if "log_average" in state else []

    def log_normaliser(self, output_p: Tensor, output_q: Tensor) -> float:
        """Bennett's estimate (see :func:`bennett`)."""
        return bennett(output_p, output_q)


def _log(share: float) -> float:
    return math.log(share) if share > 0 else -math.inf
