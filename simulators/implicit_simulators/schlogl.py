r"""Schlögl's reaction: one species that settles at either of two populations, by chance, and hardly ever changes.

.. math:: A + 2X \rightleftharpoons 3X, \qquad B \rightleftharpoons X

with A and B held constant. The count of X is a birth-death process with the rates

.. math:: b(x) = c_1 A \frac{x (x - 1)}{2} + c_3 B, \qquad d(x) = c_2 \frac{x (x - 1)(x - 2)}{6} + c_4 x,

so that its stationary law is known: :math:`\pi(x + 1) / \pi(x) = b(x) / d(x + 1)`. At the usual rates it has its modes
at 82 and 563, with 22 % of its mass below the valley at 256, beside which trajectories start. They fall to either side
within a few units of time; it takes tens of thousands to come back.

References:
    | Chemical reaction models for non-equilibrium phase transitions (Schlögl, 1972)
    | https://doi.org/10.1007/BF01379769
    | Efficient step size selection for the tau-leaping simulation method (Cao, Gillespie & Petzold, 2006), which tests
      leaps on it at these rates
    | https://doi.org/10.1063/1.2159468
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

A, B = 1e5, 2e5
RATES = (3e-7, 1e-4, 1e-3, 3.5)
STOICHIOMETRY = [[1], [-1], [1], [-1]]
REACTANTS = [[2], [3], [0], [1]]


def _rates(x: float, c1: float, c2: float, c3: float, c4: float) -> tuple[float, ...]:
    return c1 * A * x * (x - 1.0) / 2.0, c2 * x * (x - 1.0) * (x - 2.0) / 6.0, c3 * B, c4 * x


class Schlogl(Simulator):
    r"""Four log rate constants of Schlögl's reaction.

    The parameters are :math:`\log c_1, \ldots, \log c_4`, a priori uniform within a quarter of the usual rates,
    :math:`|\log c_j - \log c_j^*| < \log 1.25` with :math:`c^* = (3 \cdot 10^{-7}, 10^{-4}, 10^{-3}, 3.5)`: both modes
    exist in a small part of that only. Simulations have shape (51, 1): counts at times 0, 0.2, ..., 10.

    ``dynamics`` is ``"jump"`` (exact; about ten thousand events a unit of time in the upper mode), ``"tau"`` (leaps),
    ``"sde"`` (the chemical Langevin equation, differentiable) or ``"ode"`` (the rate equation, deterministic and
    differentiable, which never changes sides).

    Args:
        dynamics: ``"jump"``, ``"tau"``, ``"sde"`` or ``"ode"``.
        initial: Count at time 0.
        duration: Time observed.
        interval: Time between two records.
        substeps: Integration steps between two records (SDE, ODE).
        epsilon: The part by which rates may change in a leap (tau).
        max_events: Events, or leaps, after which a trajectory counts as failed; not reached within the prior in
            ``duration=10``.

    Raises:
        ValueError: If ``dynamics`` is unknown, a number is out of range, or ``duration`` is not a multiple of
            ``interval``.
    """

    name = "schlogl"
    parameter_names = ("log_c1", "log_c2", "log_c3", "log_c4")
    reference_theta = tuple(math.log(c) for c in RATES)
    event_labels = ("X",)
    event_unit = "molecules"

    def __init__(
        self,
        dynamics: str = "jump",
        initial: int = 250,
        duration: float = 10.0,
        interval: float = 0.2,
        substeps: int = 20,
        epsilon: float = 0.03,
        max_events: int = 5_000_000,
    ) -> None:
        if dynamics not in DYNAMICS:
            raise ValueError(f"dynamics: expected one of {', '.join(DYNAMICS)}; got {dynamics!r}")
        for argument, number in (("duration", duration), ("interval", interval)):
            if not (number > 0 and math.isfinite(number)):
                raise ValueError(f"{argument}: expected a positive number; got {number}")
        for argument, number in (("initial", initial), ("substeps", substeps), ("max_events", max_events)):
            if not (number == int(number) and number > 0):
                raise ValueError(f"{argument}: expected a positive int; got {number}")
        if not 0 < epsilon < 1:
            raise ValueError(f"epsilon: expected a number in (0, 1); got {epsilon}")
        intervals = round(duration / interval)
        if intervals < 1 or abs(intervals * interval - duration) > 1e-6 * duration:
            raise ValueError(f"duration: expected a multiple of the interval, {interval}; got {duration}")
        self.dynamics, self.duration, self.interval, self.epsilon = dynamics, duration, interval, epsilon
        self.initial, self.substeps, self.max_events = int(initial), int(substeps), int(max_events)
        self.event_shape = torch.Size([intervals + 1, 1])
        self.event_times = tuple(interval * i for i in range(intervals + 1))
        self.differentiable = dynamics in CONTINUOUS
        self.releases_gil = not self.differentiable
        middle = torch.tensor(self.reference_theta)
        reach = math.log(1.25)
        self.prior = Independent(Uniform(middle - reach, middle + reach, validate_args=False), 1)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        initial = theta.new_full((len(theta), 1), self.initial)
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

    def stationary_distribution(self, theta: Any, highest: int = 3000) -> Tensor:
        r"""The law of the count after a long time, cut off above ``highest``.

        .. math:: \pi(x) \propto \prod_{y=0}^{x-1} \frac{b(y)}{d(y + 1)}

        Args:
            theta: Parameters with shape (n, 4).
            highest: The largest count; at the default the mass above it is below 1e-12 within the prior.

        Returns:
            Probabilities of the counts 0, ..., ``highest``, with shape (n, ``highest`` + 1), float64 and
            differentiable.
        """
        rates = self.check_theta(theta).double().exp()[:, :, None]
        x = torch.arange(highest, dtype=torch.float64, device=rates.device)
        birth = _rates(x, *rates.unbind(1))  # type: ignore[arg-type]  # plain arithmetic, on tensors as well
        death = _rates(x + 1, *rates.unbind(1))  # type: ignore[arg-type]  # as above
        steps = (torch.as_tensor(birth[0]) + birth[2]).log() - (torch.as_tensor(death[1]) + death[3]).log()
        return torch.nn.functional.pad(steps.cumsum(1), (1, 0)).softmax(1)

    def settings(self) -> dict[str, Any]:
        """Dynamics, initial count, times, and the numerical settings that matter for the dynamics."""
        settings: dict[str, Any] = {"dynamics": self.dynamics, "initial": self.initial}
        settings |= {"duration": self.duration, "interval": self.interval}
        if self.differentiable:
            return settings | {"substeps": self.substeps}
        return (
            settings | {"max_events": self.max_events} | ({"epsilon": self.epsilon} if self.dynamics == "tau" else {})
        )
