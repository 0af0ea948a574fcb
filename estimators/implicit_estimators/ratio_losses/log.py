"""The log score: logistic regression of p against q, and the discriminator of a GAN."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_estimators.divergences import softplus
from implicit_estimators.ratio_losses.base import RatioLoss

NEAREST = 1e-2
"""How near the output may come to the logit of the label before the log-ratio goes on along its tangent."""


@dataclass(frozen=True)
class LogLoss(RatioLoss):
    r"""The log score of the classifier :math:`D = \sigma(v)`, with one-sided label smoothing if wanted.

    .. math:: \mathbb{E}_p[-a \log D - (1 - a) \log(1 - D)] + \mathbb{E}_q[-\log(1 - D)]

    With the label a = 1 and even weights this is :math:`\mathbb{E}_p[\operatorname{softplus}(-v)] +
    \mathbb{E}_q[\operatorname{softplus}(v)]`, and its least value :math:`\log 4 - 2 \, JS(p, q)`. With a < 1 a sure
    critic is charged for it; the optimum is then :math:`D = \frac{a p}{p + q}`, so that :math:`r = \frac{D}{a - D}`
    and not the odds of D (which stay below :math:`\frac{a}{1 - a}`, however large r is). Within 0.01 of its pole at
    :math:`\operatorname{logit} a`, the log-ratio goes on along its tangent.

    References:
        | Improved Techniques for Training GANs (Salimans et al., 2016), for one-sided label smoothing
        | https://arxiv.org/abs/1606.03498

    Args:
        label: The label a of the data, in (1/2, 1]; 0.9 is usual where labels are smoothed.

    Raises:
        ValueError: If ``prior`` or ``label`` is out of range.
    """

    label: float = 1.0

    name = "log"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.5 < self.label <= 1:
            raise ValueError(f"label: expected a number in (0.5, 1]; got {self.label}")

    def at_p(self, output: Tensor) -> Tensor:
        """Minus a log D, less (1 - a) log(1 - D)."""
        return softplus(-output) + (1 - self.label) * output if self.label < 1 else softplus(-output)

    def at_q(self, output: Tensor) -> Tensor:
        """Minus log(1 - D)."""
        return softplus(output)

    def log_ratio(self, output: Tensor) -> Tensor:
        """Log D - log(a - D), less the offset of the prior."""
        if self.label == 1:
            return super().log_ratio(output)
        pole = math.log(self.label / (1 - self.label))
        # D / (a - D) = e^v / (a (1 - e^(v - pole)))
        inside = (output - pole).clamp(max=-NEAREST)
        beyond = torch.relu(output - pole + NEAREST) / -math.expm1(-NEAREST)
        return super().log_ratio(inside + pole - math.log(self.label) - torch.log(-torch.expm1(inside)) + beyond)
