r"""Bernoulli GLM, raw: the spike train itself, in place of the statistics that say as much about theta.

.. math:: z_t \mid \theta \sim \mathrm{Bernoulli}(\sigma(v_t^\top \theta)), \quad t = 1, \ldots, 100

Prior, stimulus and design matrix are those of :mod:`implicit_simulators.benchmark.bernoulli_glm`, and so is the
posterior.

References:
    | Benchmarking simulation-based inference, T.6 (Lueckmann et al., 2021)
    | https://arxiv.org/abs/2101.04653
"""

from __future__ import annotations

import torch
from torch import Tensor

from implicit_simulators.benchmark.bernoulli_glm import BINS, BernoulliGLM, statistics
from implicit_simulators.streams import Stream


class BernoulliGLMRaw(BernoulliGLM):
    """Infer the bias and the filter of a neuron from 100 bins with or without a spike."""

    name = "bernoulli-glm-raw"
    event_shape = torch.Size([BINS])

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        return self._spikes(theta, stream)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        r"""Log p(x | theta) for theta with shape (n, 10) and spikes x with shape (100,) or (n, 100); result (n,).

        .. math:: \log p(x \mid \theta) = \sum_t \left( x_t\, v_t^\top \theta - \log(1 + e^{v_t^\top \theta}) \right)
        """
        return super().log_likelihood(theta, statistics(torch.atleast_2d(x.to(theta))))
