"""Total variation: the largest difference in the probability of any event."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import logsigmoid

from implicit_estimators.divergences.base import Divergence
from implicit_estimators.divergences.tamed import exp_minus_one


class TotalVariation(Divergence):
    r"""Total variation :math:`\frac12 \int |p - q|`, with :math:`f(u) = \frac12 |u - 1|`.

    :math:`f' = \frac12 \operatorname{sign}(u - 1)`, :math:`f^*(t) = t` for :math:`|t| \le \frac12` and -1/2 below.

    The optimal critic is a step: it says where p > q and nothing else, so no ratio can be read from it, and its
    gradient along samples is 0 almost everywhere. What a network trains is the smooth critic :math:`\frac12
    \tanh(\text{output} / 2)` of the f-GAN paper, whose output runs to infinity as the bound becomes tight. If the
    output is a log-ratio learned by another loss, a generator that follows this critic descends :math:`KL(p \|
    \frac{p + q}{2})`.
    """

    name = "tv"
    domain = (-math.inf, 0.5)
    identifies_ratio = False

    def f(self, log_r: Tensor) -> Tensor:
        """Half of |r - 1|."""
        return 0.5 * exp_minus_one(log_r).abs()

    def critic(self, log_r: Tensor) -> Tensor:
        """Half of the sign of log r."""
        return 0.5 * log_r.sign()

    def _conjugate(self, t: Tensor) -> Tensor:
        return t.clamp(min=-0.5)

    def conjugate_of_critic(self, log_r: Tensor) -> Tensor:
        """Half of the sign of log r."""
        return self.critic(log_r)

    def activation(self, output: Tensor) -> Tensor:
        """Half of tanh(output / 2): between the bounds, with a slope that a network can follow."""
        return logsigmoid(output).exp() - 0.5  # its derivative, unlike tanh's, does not round to 0 at large outputs

    def generator_integrand(self, output: Tensor) -> Tensor:
        """Minus the smooth critic."""
        return -self.activation(output)
