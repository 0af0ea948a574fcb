"""Maximum likelihood: every draw pulled by its importance weight."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from implicit_estimators.generator_losses.base import GeneratorLoss, check_draws


@dataclass(frozen=True)
class MaximumLikelihood(GeneratorLoss):
    r"""Maximum likelihood by importance: the gradient of :math:`KL(p \| q)` with weights that sum to one.

    .. math:: \nabla_\theta L = -\sum_i w_i \, \nabla_\theta s(x_i), \quad w_i = \frac{e^{s_i}}{\sum_j e^{s_j}}

    Goodfellow's conversion of a GAN to maximum likelihood, :math:`L = -\mathbb{E}_q[e^s]` with the ratio a fixed
    function of x, has the slope :math:`-e^s / n`, which is that of "kl" to the letter. Here the weights are divided by
    their sum, as :math:`\mathbb{E}_q[r] = 1` allows: the same gradient as the batch grows, but one that stays finite
    for any s, and that does not change when the log-ratio is off by a constant, as those of Donsker and Varadhan, KLIEP
    and relativistic critics are. It is also the model's gradient of Donsker and Varadhan's bound, :math:`-\log
    \mathbb{E}_q[e^s]`. Where few draws are near data, those few carry all of it.

    The value is the estimate of :math:`KL(p \| q)` by those weights, :math:`\sum_i w_i \log(n w_i)`.

    References:
        | On distinguishability criteria for estimating generative models (Goodfellow, 2014)
        | https://arxiv.org/abs/1412.6515
        | NIPS 2016 Tutorial: Generative Adversarial Networks (Goodfellow, 2016), section 3.2.5
        | https://arxiv.org/abs/1701.00160
    """

    name = "maximum-likelihood"

    def loss(self, log_ratio: Tensor, at_data: Tensor | None = None) -> Tensor:
        """See :meth:`GeneratorLoss.loss`."""
        check_draws(log_ratio)
        values = log_ratio.flatten()
        log_mean = values.logsumexp(0) - math.log(values.numel())
        now = values.detach()
        kl = (now.softmax(0) * (now - log_mean.detach())).sum()
        # the slope of -log_mean is -w; games that differentiate it once more need its own derivative too
        return kl - (log_mean - log_mean.detach())
