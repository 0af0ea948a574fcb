r"""Ricker's map: a population that its own noise drives through chaos, seen only through Poisson counts.

.. math:: N_t = r\,N_{t-1}\,e^{-N_{t-1} + \sigma e_t}, \quad e_t \sim N(0, 1), \qquad
    y_t \sim \mathrm{Poisson}(\phi N_t)

Near :math:`\log r = 3.8` two populations that start a hair apart soon have nothing in common, so that the likelihood as
a function of the whole hidden path is all spikes. Wood (2010) proposed to compare statistics of the counts instead.

References:
    | Statistical inference for noisy nonlinear ecological dynamic systems (Wood, 2010)
    | https://doi.org/10.1038/nature09319
    | Bayesian optimization for likelihood-free inference of simulator-based statistical models (Gutmann & Corander,
      2016), where the priors are from
    | https://arxiv.org/abs/1501.03291
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent, Uniform

from implicit_simulators.base import Simulator, as_tensor
from implicit_simulators.engines.paths import compiled_paths
from implicit_simulators.engines.steps import StepProcess, step_process
from implicit_simulators.streams import Stream

LAGS = 6
"""Autocovariances in the summaries: of lags 0 to 5."""

REFERENCE_SEED = 2010
"""Seed of the series that stands in for an observed one where none is given."""


class Ricker(Simulator):
    r"""Counts of a population with overcrowding.

    The parameters are :math:`\log r`, the log of the growth rate of a small population, :math:`\sigma`, the standard
    deviation of its yearly noise, and :math:`\phi`, how much of it is caught, with the priors

    .. math:: \log r \sim U(3, 5), \quad \sigma \sim U(0, 0.6), \quad \phi \sim U(5, 15).

    Simulations have shape (steps,): the counts that follow ``burn_in`` unobserved steps. Rows of theta with a negative
    :math:`\sigma` or :math:`\phi` are NaN.

    Args:
        steps: Counts, T.
        burn_in: Steps before the first count.
        initial: Population at the start, :math:`N_0`.
        observed: The observed counts, with shape (steps,). Some of Wood's statistics compare with them
            (``summarize``). Without them, a simulation at ``reference_theta`` with a fixed seed stands in.

    Raises:
        ValueError: If a number is not positive, or ``observed`` has another shape, is negative, or takes fewer than
            four different steps.
    """

    name = "ricker"
    parameter_names = ("log_r", "sigma", "phi")
    reference_theta = (3.8, 0.3, 10.0)
    releases_gil = True

    def __init__(self, steps: int = 50, burn_in: int = 50, initial: float = 1.0, observed: Any = None) -> None:
        for argument, value, least in (("steps", steps, LAGS + 1), ("burn_in", burn_in, 0)):
            if not (value == int(value) and value >= least):
                raise ValueError(f"{argument}: expected an int of at least {least}; got {value}")
        if not initial > 0:
            raise ValueError(f"initial: expected a positive number; got {initial}")
        self.steps, self.burn_in, self.initial = int(steps), int(burn_in), float(initial)
        self.event_shape = torch.Size([self.steps])
        self.event_times = tuple(range(self.burn_in + 1, self.burn_in + self.steps + 1))
        self.event_labels = ("count",)
        self.prior = Independent(
            Uniform(torch.tensor([3.0, 0.0, 5.0]), torch.tensor([5.0, 0.6, 15.0]), validate_args=False), 1
        )
        self._observed = None if observed is None else self._check_series(observed)

    def _check_series(self, observed: Any) -> Tensor:
        series = self.check_observation(as_tensor(observed, "observed").double())
        if (series < 0).any():
            raise ValueError(f"observed: expected counts; the least is {float(series.min()):g}")
        if len(series.diff().unique()) < 4:
            raise ValueError("observed: expected a series whose steps take at least four values; a cubic is fitted")
        return series

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        start = torch.full_like(theta[:, :1], self.initial).log()
        steps = self.burn_in + self.steps
        return compiled_paths(process(), theta, start, steps, stream.key, skip=self.burn_in)[:, :, 0]

    def prepare(self) -> float:
        """Compile, or load from disk, the loop over years; the seconds that took."""
        return process().prepare()

    @cached_property
    def reference(self) -> Tensor:
        """What summaries compare with: ``observed``, or a simulation at ``reference_theta``; shape (steps,)."""
        if self._observed is not None:
            return self._observed
        theta = torch.tensor([self.reference_theta], dtype=torch.float64)
        return self._simulate(theta, Stream.of(REFERENCE_SEED))[0]

    def summarize(self, x: Tensor) -> Tensor:
        r"""Wood's thirteen statistics, with shape (n, 13).

        - the autocovariances of lags 0 to 5 (sums divided by their number of terms, T - lag);
        - the three coefficients of the regression of the ordered steps :math:`y_t - y_{t-1}` on those of the observed
          series: linear, quadratic and cubic, without intercept, as both are centred;
        - :math:`\beta_1, \beta_2` of the regression :math:`y_{t+1}^{0.3} = \beta_1 y_t^{0.3} + \beta_2 y_t^{0.6}`;
        - the mean, and the number of zeros.

        Wood's own code (the R package synlik) centres :math:`y^{0.3}` before it regresses; this is the formula of the
        paper. Where a series does not determine a regression (all counts equal), the shortest solution is taken.
        """
        y = x.reshape(len(x), -1).double()
        summaries = (
            _autocovariances(y),
            y.diff().sort(1).values @ self._cubic.to(y.device).T,
            _autoregression(y.clamp_min(0) ** 0.3),
            y.mean(1, keepdim=True),
            (y == 0).double().sum(1, keepdim=True),
        )
        return torch.cat(summaries, 1).to(x.dtype)

    @cached_property
    def _cubic(self) -> Tensor:
        """What takes ordered steps to the coefficients of their cubic regression, with shape (3, steps - 1)."""
        z = self.reference.diff().sort().values
        z = z - z.mean()
        unit = z.abs().max()  # powers of z / unit are of one size, so that the inverse is exact
        powers = torch.arange(1, 4, dtype=torch.float64)
        inverse = torch.linalg.pinv((z[:, None] / unit) ** powers) / unit ** powers[:, None]
        return inverse - inverse.mean(1, keepdim=True)  # centres what it is given

    def settings(self) -> dict[str, Any]:
        """Steps, burn-in, initial population, and the observed series if one was given."""
        observed = None if self._observed is None else self._observed.tolist()
        return {"steps": self.steps, "burn_in": self.burn_in, "initial": self.initial, "observed": observed}


def process(counts: bool = True) -> StepProcess:
    """The map as a stepwise model, whose one state is log N; without ``counts`` it records their means."""
    return step_process(_grow, states=1, emit=_catch, counts=counts)


def _grow(log_population: float, log_r: float, sigma: float, phi: float, z: float) -> tuple[float, ...]:
    """One year, in logs: a population that crashes to e**-800 comes back, where one rounded to zero would not."""
    return (log_population + log_r - math.exp(log_population) + (sigma if sigma >= 0.0 else math.nan) * z,)


def _catch(log_population: float, log_r: float, sigma: float, phi: float) -> tuple[float, ...]:
    """The expected count; counts of a negative mean are NaN."""
    return (phi * math.exp(log_population),)


def _autocovariances(y: Tensor) -> Tensor:
    """Of lags 0 to 5, with shape (n, 6), for series with shape (n, T)."""
    centred = y - y.mean(1, keepdim=True)
    steps = y.shape[1]
    return torch.stack([(centred[:, lag:] * centred[:, : steps - lag]).mean(1) for lag in range(LAGS)], 1)


def _autoregression(z: Tensor) -> Tensor:
    """Coefficients of the regression of the next z on z and its square, with shape (n, 2)."""
    design = torch.stack((z[:, :-1], z[:, :-1] ** 2), 2)
    return (torch.linalg.pinv(design) @ z[:, 1:, None])[..., 0]
