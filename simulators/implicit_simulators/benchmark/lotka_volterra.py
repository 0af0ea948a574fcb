r"""Lotka-Volterra as the benchmark has it: predators and prey at ten times, with log-normal errors of a tenth.

.. math:: \frac{dX}{dt} = \alpha X - \beta X Y, \quad \frac{dY}{dt} = -\gamma Y + \delta X Y, \quad
    X(0) = 30, \ Y(0) = 1

.. math:: \alpha, \gamma \sim \mathrm{LogN}(-0.125, 0.5), \quad \beta, \delta \sim \mathrm{LogN}(-3, 0.5), \quad
    x_i \sim \mathrm{LogN}(\log X(t_i), 0.1), \quad x_{10 + i} \sim \mathrm{LogN}(\log Y(t_i), 0.1)

at :math:`t_i = 0, 2.1, \ldots, 18.9`: every 21st of the 201 points that the benchmark's solver keeps of its 20 days.
Before noise is added, the benchmark's code confines populations to :math:`[10^{-10}, 10^4]`; so it is here.

The benchmark solves with Julia's ``Tsit5`` at absolute and relative tolerances of 1e-8. Here the logarithms of the
populations are solved, which stay finite and positive, to a relative error of 1e-6: a hundred-thousandth of the noise.
The two part where a population falls to 1e-8 and less (at one draw of the prior in 150), which is where an absolute
tolerance of 1e-8 leaves no digits.

References:
    | Benchmarking simulation-based inference, T.10 (Lueckmann et al., 2021)
    | https://arxiv.org/abs/2101.04653
    | Analytical note on certain rhythmic relations in organic systems (Lotka, 1920)
    | https://doi.org/10.1073/pnas.6.7.410
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
from implicit_simulators.engines.noise import row_normal
from implicit_simulators.streams import Stream

TIMES = tuple(2.1 * i for i in range(10))
SIGMA = 0.1
LIMITS = (math.log(1e-10), math.log(1e4))


class LotkaVolterra(BenchmarkTask):
    r"""Infer the four rates of predators and prey from ten noisy looks at each.

    Simulations have shape (20,): the prey at ten times, then the predators. The simulator of the same name outside of
    the benchmark has other priors and data, and unknown errors and initial populations.
    """

    name = "benchmark-lotka-volterra"
    parameter_names = ("alpha", "beta", "gamma", "delta")
    event_shape = torch.Size([2 * len(TIMES)])
    differentiable = True
    releases_gil = True

    def __init__(self) -> None:
        scale = torch.full((4,), 0.5)
        self.prior = Independent(LogNormal(torch.tensor([-0.125, -3.0, -0.125, -3.0]), scale, validate_args=False), 1)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        noise = row_normal((len(theta), 2 * len(TIMES)), stream.torch(theta.device), theta.dtype)
        return (self.log_populations(theta) + SIGMA * noise).exp().to(theta.dtype)

    def log_populations(self, theta: Tensor) -> Tensor:
        """Logs of the populations before noise, with shape (n, 20) and in float64: prey, then predators."""
        return _solver()(theta).mT.flatten(1).clamp(*LIMITS)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Log p(x | theta) for theta with shape (n, 4) and x with shape (20,) or (n, 20); result (n,)."""
        log_x = x.to(theta).double().log()
        z = (log_x - self.log_populations(theta)) / SIGMA
        density = -0.5 * z.square() - log_x - math.log(SIGMA * math.sqrt(2 * math.pi))
        return density.sum(-1).to(theta.dtype)


@lru_cache(maxsize=1)
def _solver() -> RowSolver:
    return RowSolver(_field, parameters=4, initial=(math.log(30), 0.0), times=TIMES, tolerance=1e-6)


def _field() -> Any:
    """The field of the log populations, with its Jacobians."""
    import numba

    @numba.njit(error_model="numpy", fastmath={"contract", "nsz"}, nogil=True)
    def field(z, p, dz, jz, jp):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - numba infers these
        prey, predators = np.exp(z[0]), np.exp(z[1])
        dz[0], dz[1] = p[0] - p[1] * predators, -p[2] + p[3] * prey
        jz[0, 1], jz[1, 0] = -p[1] * predators, p[3] * prey
        if jp.size:
            jp[0, 0], jp[0, 1], jp[1, 2], jp[1, 3] = 1.0, -predators, -1.0, prey

    return field
