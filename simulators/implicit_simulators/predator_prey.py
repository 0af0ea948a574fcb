r"""Predators and prey in counts: the stochastic Lotka-Volterra process on which likelihood-free methods are compared.

X predators and Y prey, four reactions:

.. math:: (X, Y) \to \begin{cases} (X + 1, Y) & \theta_1 X Y \\ (X - 1, Y) & \theta_2 X \\
    (X, Y + 1) & \theta_3 Y \\ (X, Y - 1) & \theta_4 X Y \end{cases}

from 50 predators and 100 prey, seen every 0.2 units of time for 30. Predators die out in about three in ten
trajectories at the usual parameters, and then the prey grow without bound.

References:
    | Likelihood free inference for Markov processes: a comparison (Owen, Wilkinson & Gillespie, 2015)
    | https://arxiv.org/abs/1410.0524
    | Fast epsilon-free inference of simulation models with Bayesian conditional density estimation (Papamakarios &
      Murray, 2016)
    | https://arxiv.org/abs/1605.06376
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent, Uniform

from implicit_simulators.base import Simulator
from implicit_simulators.engines.network import CONTINUOUS, DYNAMICS, prepare_network, simulate_network
from implicit_simulators.streams import Stream

STOICHIOMETRY = [[1, 0], [-1, 0], [0, 1], [0, -1]]
REACTANTS = [[1, 1], [1, 0], [0, 1], [1, 1]]
PREDATORS, PREY = 50, 100


def _rates(x: float, y: float, birth: float, death: float, growth: float, predation: float) -> tuple[float, ...]:
    return birth * x * y, death * x, growth * y, predation * x * y


class PredatorPrey(Simulator):
    r"""Four log rates of predators and prey.

    The parameters are :math:`\log \theta_1, \ldots, \log \theta_4`, a priori uniform on [-5, 2] each. Simulations have
    shape (151, 2): predators then prey, at times 0, 0.2, ..., 30.

    ``dynamics`` chooses how the counts move:

    - ``"jump"``: exactly, event by event, as in the literature.
    - ``"tau"``: in leaps over many events; several times slower at the reference parameters, where populations are
      small, but indifferent to prey that explode.
    - ``"sde"``: the chemical Langevin equation, differentiable.
    - ``"ode"``: the rate equations, deterministic (the seed has no effect) and differentiable.

    Trajectories whose prey explode reach ``max_events`` and are NaN from there on: 1 in 100 at the reference
    parameters, 3 in 100 draws of the prior. Both differential equations have fixed steps, which are too long for the
    largest rates of the prior.

    Args:
        dynamics: ``"jump"``, ``"tau"``, ``"sde"`` or ``"ode"``.
        duration: Time observed.
        interval: Time between two records.
        substeps: Integration steps between two records (SDE, ODE).
        epsilon: The part by which rates may change in a leap (tau).
        max_events: Events, or leaps, after which a trajectory counts as failed; Papamakarios and Murray have 10,000, at
            which one draw of the prior in eight fails.

    Raises:
        ValueError: If ``dynamics`` is unknown, a number is not positive, or ``duration`` is not a multiple of
            ``interval``.
    """

    name = "predator-prey"
    parameter_names = ("log_predator_birth", "log_predator_death", "log_prey_birth", "log_predation")
    reference_theta = (math.log(0.01), math.log(0.5), math.log(1.0), math.log(0.01))
    event_labels = ("predators", "prey")
    event_unit = "individuals"

    def __init__(
        self,
        dynamics: str = "jump",
        duration: float = 30.0,
        interval: float = 0.2,
        substeps: int = 20,
        epsilon: float = 0.03,
        max_events: int = 100_000,
    ) -> None:
        if dynamics not in DYNAMICS:
            raise ValueError(f"dynamics: expected one of {', '.join(DYNAMICS)}; got {dynamics!r}")
        for argument, number in (("duration", duration), ("interval", interval)):
            if not (number > 0 and math.isfinite(number)):
                raise ValueError(f"{argument}: expected a positive number; got {number}")
        for argument, number in (("substeps", substeps), ("max_events", max_events)):
            if not (number == int(number) and number > 0):
                raise ValueError(f"{argument}: expected a positive int; got {number}")
        if not 0 < epsilon < 1:
            raise ValueError(f"epsilon: expected a number in (0, 1); got {epsilon}")
        intervals = round(duration / interval)
        if intervals < 1 or abs(intervals * interval - duration) > 1e-6 * duration:
            raise ValueError(f"duration: expected a multiple of the interval, {interval}; got {duration}")
        self.dynamics, self.duration, self.interval, self.epsilon = dynamics, duration, interval, epsilon
        self.substeps, self.max_events = int(substeps), int(max_events)
        self.event_shape = torch.Size([intervals + 1, 2])
        self.event_times = tuple(interval * i for i in range(intervals + 1))
        self.differentiable = dynamics in CONTINUOUS
        self.releases_gil = not self.differentiable
        self.prior = Independent(Uniform(-5 * torch.ones(4), 2 * torch.ones(4), validate_args=False), 1)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        initial = theta.new_tensor([PREDATORS, PREY]).expand(len(theta), 2)
        return simulate_network(
            *(self.dynamics, _rates, STOICHIOMETRY, REACTANTS),
            *((theta if self.differentiable else theta.detach()).exp(), initial, self.event_times, stream),
            substeps=self.substeps,
            epsilon=self.epsilon,
            max_events=self.max_events,
        )

    def prepare(self) -> float:
        """Compile, or load from disk, the loop over events or leaps; the seconds that took."""
        return prepare_network(self.dynamics, _rates, STOICHIOMETRY, REACTANTS, self.epsilon)

    def summarize(self, x: Tensor) -> Tensor:
        r"""The nine summaries of Papamakarios & Murray (2016), with shape (n, 9).

        In their order: the means of predators and prey; :math:`\log(1 + \text{variance})` of both; the autocorrelation
        of the predators at lags 1 and 2, then that of the prey; and the correlation between the two. They standardise
        these by their spread over simulations, which is left to the method. A population that never changes has
        autocorrelations of zero (undefined in their program).
        """
        z = x.double()
        count = z.shape[1]
        mean = z.mean(1)
        variance = z.var(1)
        scaled = (z - mean[:, None]) / variance.sqrt().clamp_min(1e-12)[:, None]
        lagged = [(scaled[:, :-lag] * scaled[:, lag:]).sum(1) / (count - 1) for lag in (1, 2)]
        autocorrelations = torch.stack(lagged, 2).flatten(1)
        cross = scaled.prod(2).sum(1, keepdim=True) / (count - 1)
        return torch.cat((mean, variance.log1p(), autocorrelations, cross), 1).to(x.dtype)

    def settings(self) -> dict[str, Any]:
        """Dynamics, times, and the numerical settings that matter for the dynamics."""
        settings: dict[str, Any] = {"dynamics": self.dynamics, "duration": self.duration, "interval": self.interval}
        if self.differentiable:
            return settings | {"substeps": self.substeps}
        return (
            settings | {"max_events": self.max_events} | ({"epsilon": self.epsilon} if self.dynamics == "tau" else {})
        )
