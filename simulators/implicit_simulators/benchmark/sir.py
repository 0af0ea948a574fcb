r"""SIR: an epidemic in a million people, seen through the positive tests in ten samples of a thousand.

.. math:: \frac{dS}{dt} = -\beta \frac{S I}{N}, \quad \frac{dI}{dt} = \beta \frac{S I}{N} - \gamma I, \quad
    \frac{dR}{dt} = \gamma I, \quad N = 10^6, \ I(0) = 1, \ R(0) = 0

.. math:: \beta \sim \mathrm{LogN}(\log 0.4, 0.5), \quad \gamma \sim \mathrm{LogN}(\log\tfrac18, 0.2), \quad
    x_i \sim \mathrm{Binomial}(1000, I(t_i) / N)

on the days :math:`t_i = 0, 17, \ldots, 153`: every 17th of the 161 days that the benchmark's solver keeps. (So the
first number says nothing of theta: it is a positive test of the one person who is infected on day 0, in one of a
thousand simulations.)

The benchmark solves with Julia's ``Tsit5`` at absolute and relative tolerances of 1e-8. Here the logarithms of S and I
are solved, to a relative error of 1e-6. The standard deviation of a binomial count is never less than a hundredth of
its mean while less than nine tenths of the people are infectious.

References:
    | Benchmarking simulation-based inference, T.9 (Lueckmann et al., 2021)
    | https://arxiv.org/abs/2101.04653
    | A contribution to the mathematical theory of epidemics (Kermack & McKendrick, 1927)
    | https://doi.org/10.1098/rspa.1927.0118
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Independent, LogNormal

from implicit_simulators.benchmark.task import BenchmarkTask
from implicit_simulators.engines.doubling import RowSolver
from implicit_simulators.streams import Stream

POPULATION, TESTS = 1e6, 1000
DAYS = tuple(range(0, 160, 17))


class SIR(BenchmarkTask):
    r"""Infer contact rate and recovery rate (per day) from ten counts among a thousand tests each, with shape (10,)."""

    name = "benchmark-sir"
    parameter_names = ("beta", "gamma")
    event_shape = torch.Size([len(DAYS)])
    event_times = DAYS
    event_labels = ("positive",)
    event_unit = f"of {TESTS} tests"
    releases_gil = True

    def __init__(self) -> None:
        loc, scale = torch.tensor([math.log(0.4), math.log(0.125)]), torch.tensor([0.5, 0.2])
        self.prior = Independent(LogNormal(loc, scale, validate_args=False), 1)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        from scipy.stats import binom

        infectious = self.log_infectious(theta.detach()).exp().clamp(0, 1).cpu().numpy()
        # the inverse of the distribution function: one uniform number a count, so that rows do not shift one another
        uniform = stream.numpy().random(infectious.shape)
        counts = np.maximum(binom.ppf(uniform, TESTS, infectious), 0)  # SciPy has the quantile of 0 at -1
        return torch.from_numpy(counts).to(theta)

    def log_infectious(self, theta: Tensor) -> Tensor:
        r""":math:`\log(I(t_i) / N)` for theta with shape (n, 2), with shape (n, 10) and in float64."""
        return _solver()(theta)[..., 1] - math.log(POPULATION)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Log p(x | theta) for theta with shape (n, 2) and counts x with shape (10,) or (n, 10); result (n,)."""
        log_p, x = self.log_infectious(theta), x.to(theta).double()
        ways = math.lgamma(TESTS + 1) - torch.lgamma(x + 1) - torch.lgamma(TESTS - x + 1)
        return (ways + x * log_p + (TESTS - x) * torch.log(-torch.expm1(log_p))).sum(-1).to(theta.dtype)


@lru_cache(maxsize=1)
def _solver() -> RowSolver:
    initial = (math.log(POPULATION - 1), 0.0)
    return RowSolver(_field, parameters=2, initial=initial, times=DAYS, tolerance=1e-6)


def _field() -> Any:
    """The field of log S and log I, with its Jacobians."""
    import numba

    @numba.njit(error_model="numpy", fastmath={"contract", "nsz"}, nogil=True)
    def field(z, p, dz, jz, jp):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - numba infers these
        susceptible, infectious = np.exp(z[0]) / POPULATION, np.exp(z[1]) / POPULATION
        dz[0], dz[1] = -p[0] * infectious, p[0] * susceptible - p[1]
        jz[0, 1], jz[1, 0] = -p[0] * infectious, p[0] * susceptible
        if jp.size:
            jp[0, 0], jp[1, 0], jp[1, 1] = -infectious, susceptible, -1.0

    return field
