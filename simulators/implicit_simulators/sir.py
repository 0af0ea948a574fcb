r"""SIR epidemics: people who are susceptible, infectious or recovered, in a closed population that mixes freely.

.. math:: S \xrightarrow{\beta S I / N} I \xrightarrow{\gamma I} R

References:
    | A contribution to the mathematical theory of epidemics (Kermack & McKendrick, 1927)
    | https://doi.org/10.1098/rspa.1927.0118
    | The outcome of a stochastic epidemic: a note on Bailey's paper (Whittle, 1955)
    | https://doi.org/10.1093/biomet/42.1-2.116
    | Benchmarking simulation-based inference, T.9 (Lueckmann et al., 2021), for the priors
    | https://arxiv.org/abs/2101.04653
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.distributions import LogNormal

from implicit_simulators.base import Simulator
from implicit_simulators.engines.chain_binomial import chain_binomial, prepare_chain
from implicit_simulators.engines.jump import Propensities
from implicit_simulators.engines.network import prepare_network, simulate_network
from implicit_simulators.priors import Product
from implicit_simulators.streams import Stream

DYNAMICS = ("jump", "tau", "chain-binomial", "ode")
OBSERVED = ("incidence", "prevalence")


def _rates(s: float, i: float, infection: float, recovery: float) -> tuple[float, ...]:
    return infection * s * i, recovery * i


class SIREpidemic(Simulator):
    r"""Daily counts of an SIR epidemic.

    The parameters are the rates :math:`\beta` of infection and :math:`\gamma` of recovery (per day), with the priors

    .. math:: \log\beta \sim N(\log 0.4, 0.5^2), \quad \log\gamma \sim N(\log 0.125, 0.2^2)

    of Lueckmann et al. (2021). Simulations have shape (days,): on each of the days 1, ..., ``days`` either the people
    infected since the day before (``"incidence"``) or the infectious (``"prevalence"``).

    ``dynamics`` chooses how the counts move:

    - ``"jump"``: the exact Markov jump process, whose final size has a known law (``final_size_distribution``).
    - ``"tau"``: in leaps over many events, for large populations.
    - ``"chain-binomial"``: in ``steps`` steps a day, in which people move on independently
      (:mod:`implicit_simulators.engines.chain_binomial`).
    - ``"ode"``: the deterministic limit of a large population; differentiable, and the seed has no effect.

    Rows with a negative rate are NaN.

    Args:
        dynamics: ``"jump"``, ``"tau"``, ``"chain-binomial"`` or ``"ode"``.
        population: People, N.
        infected: Infectious people on day 0.
        days: Days observed.
        observe: ``"incidence"`` or ``"prevalence"``.
        steps: Steps a day: of the chain (1 if None), and of Runge-Kutta (10 if None).
        epsilon: The part by which rates may change in a leap (tau).

    Raises:
        ValueError: If ``dynamics`` or ``observe`` is unknown, a number is out of range, or more are infected than there
            are.
    """

    name = "sir"
    parameter_names: tuple[str, ...] = ("beta", "gamma")
    reference_theta: tuple[float, ...] | None = (0.4, 0.125)
    event_unit = "people"

    # what the network is, in the order of the parameters and of the stages after S, the last of which infects
    _stages: ClassVar[tuple[str, ...]] = ("I",)
    _stoichiometry: ClassVar[tuple[tuple[int, ...], ...]] = ((-1, 1), (0, -1))
    _reactants: ClassVar[tuple[tuple[int, ...], ...]] = ((1, 1), (0, 1))
    _propensities: ClassVar[Propensities] = staticmethod(_rates)
    _log_spread: ClassVar[tuple[float, ...]] = (0.5, 0.2)

    def __init__(
        self,
        dynamics: str = "jump",
        population: int = 1000,
        infected: int = 5,
        days: int = 80,
        observe: str = "incidence",
        steps: int | None = None,
        epsilon: float = 0.03,
    ) -> None:
        if dynamics not in DYNAMICS:
            raise ValueError(f"dynamics: expected one of {', '.join(DYNAMICS)}; got {dynamics!r}")
        if observe not in OBSERVED:
            raise ValueError(f"observe: expected one of {', '.join(OBSERVED)}; got {observe!r}")
        steps = (10 if dynamics == "ode" else 1) if steps is None else steps
        for argument, value in (
            *(("population", population), ("infected", infected), ("days", days)),
            ("steps", steps),
        ):
            if not (value == int(value) and value > 0):
                raise ValueError(f"{argument}: expected a positive int; got {value}")
        if infected > population:
            raise ValueError(f"infected: expected at most the population, {population}; got {infected}")
        if not 0 < epsilon < 1:
            raise ValueError(f"epsilon: expected a number in (0, 1); got {epsilon}")
        self.dynamics, self.observe, self.epsilon = dynamics, observe, epsilon
        self.population, self.infected, self.days, self.steps = int(population), int(infected), int(days), int(steps)
        self.differentiable = dynamics == "ode"
        self.releases_gil = not self.differentiable
        self.event_shape = torch.Size([self.days])
        self.event_times = tuple(range(1, self.days + 1))
        self.event_labels = (observe,)
        assert self.reference_theta is not None  # every child has one, which is also the median of its prior
        self.prior = Product([LogNormal(torch.tensor(self.reference_theta).log(), torch.tensor(self._log_spread))])

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        states = self._trajectories(theta if self.differentiable else theta.detach(), stream)
        if self.observe == "prevalence":
            return states[:, 1:, -1]
        # all who are infectious, or were, have left the compartments before the last
        return -states[:, :, :-1].sum(2).diff(dim=1)

    def _trajectories(self, theta: Tensor, stream: Stream) -> Tensor:
        """People in S and each stage on days 0, ..., days, with shape (n, days + 1, k)."""
        n, k = len(theta), len(self._stages) + 1
        rates = torch.cat((theta[:, :1] / self.population, theta[:, 1:]), 1)
        initial = theta.new_zeros(n, k)
        initial[:, 0], initial[:, -1] = self.population - self.infected, self.infected
        if self.dynamics == "chain-binomial":
            table, start = (t.cpu().double().numpy() for t in (rates, initial))
            counts = chain_binomial(table, start, self.days, self.steps, 1.0, stream.key)
            return torch.as_tensor(counts, dtype=theta.dtype).to(theta.device)
        return simulate_network(
            *(self.dynamics, self._propensities, self._stoichiometry, self._reactants),
            *(rates, initial, range(self.days + 1), stream),
            substeps=self.steps,
            epsilon=self.epsilon,
            # nobody moves on twice: a process ends by itself before this, and leaps are fewer by far
            max_events=k * self.population + self.days + 1,
        )

    def prepare(self) -> float:
        """Compile, or load from disk, the loop over events, leaps or steps; the seconds that took."""
        if self.dynamics == "chain-binomial":
            return prepare_chain()
        network = (self._propensities, self._stoichiometry, self._reactants)
        return prepare_network(self.dynamics, *network, self.epsilon)

    def final_size_distribution(self, theta: Any) -> Tensor:
        r"""The exact law of how many are ever infected, beside those on day 0, under ``dynamics="jump"``.

        The next event is an infection with probability :math:`p_s = \beta s / (\beta s + \gamma N)`, whatever the
        number of infectious people. So the probability P(j, r) of passing through j infections and r recoveries
        follows, one infection at a time, from

        .. math:: P(j, r) = p_{S_0 - j + 1}\, P(j - 1, r) + (1 - p_{S_0 - j})\, P(j, r - 1),

        and the epidemic ends at j where :math:`r = I_0 + j`. A latent period changes the times only, not the law.

        Args:
            theta: Parameters with shape (n, d).

        Returns:
            Probabilities of 0, ..., N - ``infected`` infections, with shape (n, N - ``infected`` + 1), float64.

        Raises:
            ValueError: If ``dynamics`` is not ``"jump"``, or theta is negative.
        """
        if self.dynamics != "jump":
            raise ValueError(f'final_size_distribution: known only for dynamics="jump"; this has {self.dynamics!r}')
        theta = self.check_theta(theta).detach()
        if (theta < 0).any():
            raise ValueError("theta: expected rates that are not negative")
        rows = theta.cpu().double().numpy()
        return torch.tensor(np.array([_final_sizes(self.population, self.infected, r[0], r[-1]) for r in rows]))

    def summarize(self, x: Tensor) -> Tensor:
        """Square roots of the daily counts, with shape (n, days): their noise is about as large at 5 as at 300."""
        return x.clamp_min(0).sqrt()

    def settings(self) -> dict[str, Any]:
        """Dynamics, population, first infected, days, what is observed, and the numerical settings that matter."""
        settings: dict[str, Any] = {"dynamics": self.dynamics, "population": self.population}
        settings |= {"infected": self.infected, "days": self.days, "observe": self.observe}
        if self.dynamics in ("chain-binomial", "ode"):
            return settings | {"steps": self.steps}
        return settings | ({"epsilon": self.epsilon} if self.dynamics == "tau" else {})


def _final_sizes(population: int, infected: int, beta: float, gamma: float) -> np.ndarray:
    """The law of :meth:`SIREpidemic.final_size_distribution` for one pair of rates."""
    from scipy.signal import lfilter

    left = np.arange(population - infected, -1, -1.0)
    infection = beta * left / np.maximum(beta * left + gamma * population, np.finfo(float).tiny)
    law = np.empty(len(left))
    entering = np.zeros(infected)  # P(j, r) but for recoveries at this j, for the r at which somebody is infectious
    entering[0] = 1.0
    for j, p in enumerate(infection):
        passing = lfilter([1.0], [1.0, p - 1.0], entering)
        law[j] = (1.0 - p) * passing[-1]
        entering = np.append(p * passing, 0.0)
    return law
