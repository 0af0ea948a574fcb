r"""Epidemic: an exact stochastic SIR process in a closed school, of which only a part is reported.

Each of N boys is susceptible, infectious or recovered. An infection happens at rate :math:`\beta S I / N`, a recovery
at rate :math:`\gamma I`. Every infected boy goes to the infirmary with probability :math:`\rho`, decided once, when he
is infected; the others stay in class unseen, and infect as many. The data are the boys in bed each day.

.. math:: (S, I_{\mathrm{bed}}, I_{\mathrm{class}}) \to \begin{cases}
    (-1, +1, 0) & \rho\, \beta S I / N \\
    (-1, 0, +1) & (1 - \rho)\, \beta S I / N \\
    (0, -1, 0) & \gamma I_{\mathrm{bed}} \\
    (0, 0, -1) & \gamma I_{\mathrm{class}} \end{cases} \qquad I = I_{\mathrm{bed}} + I_{\mathrm{class}}

On any one day, :math:`I_{\mathrm{bed}} \mid I \sim \mathrm{Binomial}(I, \rho)`. Unlike binomial noise drawn anew each
day, the same boys stay in bed from one day to the next, as they did.

References:
    | A contribution to the mathematical theory of epidemics (Kermack & McKendrick, 1927)
    | https://doi.org/10.1098/rspa.1927.0118
    | Influenza in a boarding school (British Medical Journal, 4 March 1978, p. 587)
    | Bayesian workflow for disease transmission modeling in Stan (Grinsztajn et al., 2021)
    | https://doi.org/10.1002/sim.9164
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Uniform

from implicit_simulators.base import Simulator
from implicit_simulators.engines.jump import jump_process
from implicit_simulators.priors import Product, TruncatedNormal
from implicit_simulators.streams import Stream

STOICHIOMETRY = [[-1, 1, 0], [-1, 0, 1], [0, -1, 0], [0, 0, -1]]


def _rates(s: float, bed: float, unseen: float, beta: float, gamma: float, rho: float, n: float) -> tuple[float, ...]:
    infection = beta * s * (bed + unseen) / n
    return rho * infection, (1.0 - rho) * infection, gamma * bed, gamma * unseen


class Epidemic(Simulator):
    r"""Influenza in a boarding school: infection rate, recovery rate and reported part.

    The parameters are :math:`\beta` and :math:`\gamma` (per day) and :math:`\rho`, with the priors

    .. math:: \beta \sim N_+(2, 1), \quad \gamma \sim N_+(0.4, 0.5), \quad \rho \sim U(0, 1),

    the first two from Grinsztajn et al. (2021), who fit the same data with a deterministic SIR model in which everybody
    is reported. As there, one boy is infected on the day before the first count. Simulations have shape (days,): boys
    in bed on days 1, ..., ``days``. About one epidemic in :math:`R_0 = \beta / \gamma` dies out at once.

    Rows of theta outside of the model's range (a negative rate, :math:`\rho` not in [0, 1]) are NaN.

    Args:
        population: Boys in the school, N.
        infected: Boys infected on day 0.
        days: Days observed.

    Raises:
        ValueError: If a number is not positive, or more are infected than there are.
    """

    name = "epidemic"
    parameter_names = ("beta", "gamma", "rho")
    observations: ClassVar[tuple[str, ...]] = ("boarding-school-flu",)

    def __init__(self, population: int = 763, infected: int = 1, days: int = 14) -> None:
        for argument, value in (("population", population), ("infected", infected), ("days", days)):
            if not (value == int(value) and value > 0):
                raise ValueError(f"{argument}: expected a positive int; got {value}")
        if infected > population:
            raise ValueError(f"infected: expected at most the population, {population}; got {infected}")
        self.population, self.infected, self.days = int(population), int(infected), int(days)
        self.event_shape = torch.Size([self.days])
        self.event_times = tuple(range(1, self.days + 1))
        self.event_labels = ("in bed",)
        self.event_unit = "boys"
        self.prior = Product(
            [
                TruncatedNormal(torch.tensor([2.0, 0.4]), torch.tensor([1.0, 0.5])),
                Uniform(torch.zeros(1), torch.ones(1), validate_args=False),
            ]
        )

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        states = self._trajectories(theta.detach().cpu().double().numpy(), stream)
        return torch.as_tensor(states[:, 1:, 1], dtype=theta.dtype).to(theta.device)

    def _trajectories(self, theta: np.ndarray, stream: Stream) -> np.ndarray:
        """Susceptible, in bed and infectious in class on days 0, ..., days, with shape (n, days + 1, 3)."""
        n = len(theta)
        bed = (stream.numpy().random((n, self.infected)) < theta[:, 2:]).sum(1)
        initial = np.stack((np.full(n, self.population - self.infected), bed, self.infected - bed), 1)
        parameters = np.concatenate((theta, np.full((n, 1), self.population)), 1)
        # nobody is infected or recovers twice: the process ends by itself, and never at the cap on events
        process = jump_process(_rates, STOICHIOMETRY)
        states, _ = process(parameters, initial, np.arange(self.days + 1), stream.key, 2 * self.population + 1)
        return states

    def summarize(self, x: Tensor) -> Tensor:
        """Square roots of the daily counts, with shape (n, days): their noise is about as large at 5 boys as at 300."""
        return x.clamp_min(0).sqrt()

    def _observation(self, name: str) -> Tensor:
        from implicit_simulators.observations import load

        return self.check_observation(load(name)["in_bed"].to_numpy())

    def settings(self) -> dict[str, Any]:
        """Population, first infected and days."""
        return {"population": self.population, "infected": self.infected, "days": self.days}
