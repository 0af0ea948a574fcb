"""A classifier's own loss at the model's draws, with its sign turned or with its labels exchanged."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from implicit_estimators.divergences import exp_minus_one, softplus
from implicit_estimators.generator_losses.base import GeneratorLoss


@dataclass(frozen=True)
class Saturating(GeneratorLoss):
    r"""The minimax loss :math:`\mathbb{E}_q[\log(1 - D)] = -\mathbb{E}_q[\operatorname{softplus}(s)]`.

    Its gradient in s is :math:`-\sigma(s)`, which vanishes where the critic is sure (s far below 0): at the optimal
    critic it descends twice the Jensen-Shannon divergence, and that has no slope for distributions that do not
    overlap.
    """

    name = "saturating"

    def each(self, log_ratio: Tensor) -> Tensor:
        """Minus softplus(s)."""
        return -softplus(log_ratio)


@dataclass(frozen=True)
class NonSaturating(GeneratorLoss):
    r"""The loss in general use, :math:`\mathbb{E}_q[-\log D] = \mathbb{E}_q[\operatorname{softplus}(-s)]`.

    Its gradient in s is :math:`-\sigma(-s)`, which tends to -1 where the critic is sure. At the optimal critic it
    descends :math:`KL(q \| p) - 2 JS(p, q) = 2 \, KL(\frac{p + q}{2} \| p)`.
    """

    name = "non-saturating"

    def each(self, log_ratio: Tensor) -> Tensor:
        """Softplus(-s)."""
        return softplus(-log_ratio)


@dataclass(frozen=True)
class Exponential(GeneratorLoss):
    r"""The exponential loss of boosting with its labels exchanged, :math:`\mathbb{E}_q[e^{-s/2}]`.

    What -log D is to the log score: the loss that the critic has at the data, minimised at the draws. Its slope in s,
    :math:`-\frac12 e^{-s/2}`, grows without end where the critic is sure, so that the worst draws move first. At the
    optimal critic it descends :math:`\frac23 \int q^{3/2} p^{-1/2}`, an alpha divergence beyond reverse KL, which is
    infinite where the model's tails are much heavier than the data's.
    """

    name = "exponential"

    def each(self, log_ratio: Tensor) -> Tensor:
        """Exp(-s/2)."""
        return exp_minus_one(-0.5 * log_ratio) + 1
