r"""Bernoulli GLM: a spike train driven by white noise through a filter, seen through its sufficient statistics.

In each of 100 bins a neuron fires or not, by the bias :math:`\beta` and the filtered stimulus of this bin and the eight
before it. Bin t has the row :math:`v_t = (1, I_t, I_{t-1}, \ldots, I_{t-8})` of the design matrix, with :math:`I_t = 0`
before the first bin:

.. math:: z_t \mid \theta \sim \mathrm{Bernoulli}(\sigma(v_t^\top \theta)), \quad \theta = (\beta, f), \quad
    \beta \sim N(0, 2), \quad f \sim N(0, (F^\top F)^{-1})

with :math:`F_{i,i-2} = 1`, :math:`F_{i,i-1} = -2`, :math:`F_{i,i} = 1 + \sqrt{(i - 1) / 9}`, which prefers smooth
filters. The stimulus I is one draw of white noise that was made once, with NumPy's old generator at seed 42; it is
drawn here again, bit for bit.

The data are the number of spikes and the spike-triggered sums of the stimulus, :math:`x = V^\top z`. They are
sufficient:

.. math:: \log p(z \mid \theta) = \theta^\top V^\top z - \sum_t \log(1 + e^{v_t^\top \theta}),

and, as no two spike trains have the same sums when the stimulus is made of real numbers (with probability one), this is
also the log probability of x. A spike-triggered average would be these sums over the number of spikes; the benchmark's
code and its observations do not divide, and neither does this.

References:
    | Benchmarking simulation-based inference, T.5 and T.6 (Lueckmann et al., 2021)
    | https://arxiv.org/abs/2101.04653
    | Training deep neural density estimators to identify mechanistic models of neural dynamics (Gonçalves et al., 2020)
    | https://doi.org/10.7554/eLife.56261
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal
from torch.nn.functional import softplus

from implicit_simulators.benchmark.task import BenchmarkTask
from implicit_simulators.engines.products import row_product
from implicit_simulators.streams import Stream

BINS, LAGS = 100, 9


class BernoulliGLM(BenchmarkTask):
    """Infer the bias and the filter of a neuron from its spike count and spike-triggered sums, with shape (10,)."""

    name = "bernoulli-glm"
    parameter_names = ("bias", *(f"filter_{i}" for i in range(LAGS)))
    event_shape = torch.Size([1 + LAGS])

    def __init__(self) -> None:
        # the root of the precision is inverted, not the precision, and in double precision
        root = torch.zeros(1 + LAGS, 1 + LAGS, dtype=torch.float64)
        root[0, 0] = 0.5**0.5
        root[1:, 1:] = _smoothness()
        scale = torch.linalg.inv(root)
        covariance = scale @ scale.T
        self.prior = MultivariateNormal(
            torch.zeros(1 + LAGS), scale_tril=torch.linalg.cholesky(covariance).float(), validate_args=False
        )

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        return statistics(self._spikes(theta, stream))

    def _spikes(self, theta: Tensor, stream: Stream) -> Tensor:
        """Spike trains of zeros and ones, with shape (n, 100)."""
        uniform = torch.from_numpy(stream.numpy().random((len(theta), BINS))).to(theta.device)
        with torch.no_grad():
            drive = row_product(theta.double(), design().to(theta.device).double().T)
            return (uniform < torch.sigmoid(drive)).to(theta.dtype)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        r"""Log p(x | theta) for theta with shape (n, 10) and x with shape (10,) or (n, 10); result (n,).

        .. math:: \log p(x \mid \theta) = \theta^\top x - \sum_t \log(1 + e^{v_t^\top \theta})
        """
        double = theta.double()
        drive = double @ design().to(theta.device).double().T
        return ((double * x.to(double)).sum(-1) - softplus(drive).sum(-1)).to(theta.dtype)


def statistics(spikes: Tensor) -> Tensor:
    """Number of spikes, and the stimulus summed over spikes at lags 0 to 8, for trains (n, 100); result (n, 10)."""
    return row_product(spikes.double(), design().to(spikes.device).double()).to(spikes.dtype)


@lru_cache(maxsize=1)
def design() -> Tensor:
    """The design matrix V, with shape (100, 10), in float32 as the benchmark has it."""
    stimulus = torch.from_numpy(np.random.RandomState(42).randn(BINS).astype(np.float32))
    columns = [torch.cat((torch.zeros(lag), stimulus[: BINS - lag])) for lag in range(LAGS)]
    return torch.stack((torch.ones(BINS), *columns), 1)


def _smoothness() -> Tensor:
    """F, with shape (9, 9): second differences, and a diagonal that grows."""
    differences = torch.eye(LAGS) - torch.diag(torch.ones(LAGS - 1), -1)
    return (differences @ differences + torch.diag(torch.arange(LAGS) / LAGS).sqrt()).double()
