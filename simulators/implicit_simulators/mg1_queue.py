r"""M/G/1: a queue of which only the departures are seen.

Customers arrive at rate :math:`\lambda` (Poisson), wait for the one server, and are served for a time uniform on
:math:`[a, a + w]`. The data are the times between departures, :math:`x_i = D_i - D_{i-1}`, from an empty system on:

.. math:: D_i = \max(A_i, D_{i-1}) + S_i, \qquad D_0 = 0

with arrivals :math:`A_i` and services :math:`S_i`. Unrolled, with :math:`C_i = S_1 + \dots + S_i`, the recursion is a
running maximum,

.. math:: D_i = C_i + M_i, \quad M_i = \max_{j \le i} (A_j - C_{j-1}), \qquad x_i = S_i + (M_i - M_{i-1}),
    \quad M_0 = 0,

where the second term is the time that the server was idle before customer i. It is continuous in the parameters, and
differentiable but where an arrival meets a departure, which has probability zero: gradients are pathwise.

**The likelihood** is often called intractable, as it integrates over all arrivals. But a service has the same density
wherever in its range it falls: :math:`p(x \mid A) = w^{-n}` if all arrivals fit the data, and zero if not. So

.. math:: p(x \mid \theta) = w^{-n}\,P(N(D_i - a) \ge i \ \text{for all } i, \text{ and } N(D_i - a - w) = i - 1
    \ \text{for all } i \text{ with } x_i > a + w)

for all :math:`x_i \ge a`, with the Poisson process N of arrivals: customer i came early enough, and, if the server
waited, late enough. One pass over the departures, with the distribution of N as its state, sums it up exactly.

References:
    | Non-linear regression models for approximate Bayesian computation (Blum & François, 2010)
    | https://arxiv.org/abs/0809.4178
    | Constructing summary statistics for approximate Bayesian computation (Fearnhead & Prangle, 2012)
    | https://arxiv.org/abs/1004.1112
    | Fast epsilon-free inference of simulation models with Bayesian conditional density estimation
      (Papamakarios & Murray, 2016)
    | https://arxiv.org/abs/1605.06376
    | On Bayesian inference for the M/G/1 queue with efficient MCMC sampling (Shestopaloff & Neal, 2014)
    | https://arxiv.org/abs/1401.5548
    | The theory of queues with a single server (Lindley, 1952)
    | https://doi.org/10.1017/S0305004100027638
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent, Uniform

from implicit_simulators.base import Simulator, as_tensor
from implicit_simulators.engines.paths import compiled_paths, needs_torch
from implicit_simulators.engines.quantiles import row_quantiles
from implicit_simulators.engines.steps import StepProcess, step_process
from implicit_simulators.engines.torch_steps import step_noise
from implicit_simulators.streams import Stream

NOISE = ("uniform", "exponential")
"""Of a customer: the service, and the time since the arrival before."""


class MG1Queue(Simulator):
    r"""Infer service and arrival times from the times between departures.

    The parameters are the shortest service a, the range of services w and the rate of arrivals :math:`\lambda`, with

    .. math:: a \sim U(0, 10), \quad w \sim U(0, 10), \quad \lambda \sim U(0, 1/3).

    In the papers' notation they are :math:`\theta_1, \theta_2 - \theta_1, \theta_3`: services are uniform on
    :math:`[\theta_1, \theta_2]`, and the prior is that of Blum & François (2010). The queue is usually tested with 50
    customers at :math:`\theta = (1, 5, 0.2)`, here (1, 4, 0.2).

    Rows of theta outside of the model's range (a or w negative, :math:`\lambda` not positive) are NaN.

    Args:
        n_obs: Number of departures.
        quantiles: How many equally spaced quantiles, the smallest and the largest among them, ``summarize`` gives;
            Papamakarios & Murray (2016) take 5, Blum & François (2010) 20.

    Raises:
        ValueError: If ``n_obs`` is not positive or ``quantiles`` is less than 2.
    """

    name = "mg1-queue"
    parameter_names = ("shortest_service", "service_range", "arrival_rate")
    reference_theta = (1.0, 4.0, 0.2)
    differentiable = True
    releases_gil = True

    def __init__(self, n_obs: int = 50, quantiles: int = 5) -> None:
        for argument, value, least in (("n_obs", n_obs, 1), ("quantiles", quantiles, 2)):
            if not (value == int(value) and value >= least):
                raise ValueError(f"{argument}: expected an int of at least {least}; got {value}")
        self.n_obs, self.quantiles = int(n_obs), int(quantiles)
        self.event_shape = torch.Size([self.n_obs])
        self.prior = Independent(Uniform(torch.zeros(3), torch.tensor([10.0, 10.0, 1 / 3]), validate_args=False), 1)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        if needs_torch(theta):
            return self._transform(theta, *self._noise(len(theta), stream, theta))
        shortest, width, rate = theta.double().unbind(1)
        columns = torch.stack((shortest, width, 1 / rate), 1).to(theta.dtype)
        x = compiled_paths(_process(), columns, theta.new_zeros(len(theta), 3), self.n_obs, stream.key)[:, :, 0]
        legal = (shortest >= 0) & (width >= 0) & (rate > 0)
        return torch.where(legal[:, None], x, torch.nan)

    def prepare(self) -> float:
        """Compile, or load from disk, the loop over customers; the seconds that took."""
        return _process().prepare()

    def _noise(self, n: int, stream: Stream, like: Tensor) -> tuple[Tensor, Tensor]:
        """Uniform noise of the services and exponential noise of the arrivals, each (n, n_obs), dtype float64."""
        noise = step_noise(NOISE, n, self.n_obs, stream.key, like.double())
        return noise[:, :, 0], noise[:, :, 1]

    @staticmethod
    def _transform(theta: Tensor, uniform: Tensor, exponential: Tensor) -> Tensor:
        """Times between departures from theta (n, 3) and the noise (n, m), in double precision within."""
        shortest, width, rate = theta.double().T[:, :, None]
        service = shortest + width * uniform
        arrival = (exponential / rate).cumsum(1)
        served = service.cumsum(1) - service  # C before each customer
        idle_by = (arrival - served).cummax(1).values
        idle = torch.diff(idle_by, dim=1, prepend=torch.zeros_like(shortest))
        legal = (shortest >= 0) & (width >= 0) & (rate > 0)
        return torch.where(legal, service + idle, torch.nan).to(theta.dtype)

    @staticmethod
    def load(theta: Tensor) -> Tensor:
        r"""The share of time that the server is busy in the long run if below 1, :math:`\lambda (a + w/2)`; (n,)."""
        return theta[:, 2] * (theta[:, 0] + 0.5 * theta[:, 1])

    @staticmethod
    def stationary_mean(theta: Tensor) -> Tensor:
        r"""Mean time between departures in the long run, :math:`\max(1/\lambda,\ a + w/2)`, with shape (n,)."""
        return torch.maximum(1 / theta[:, 2], theta[:, 0] + 0.5 * theta[:, 1])

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        r"""The exact log p(x | theta), differentiable in both arguments, in double precision within.

        The state after departure i is the probability of each number of arrivals :math:`N(D_i - a) \in \{i, \dots, n\}`
        (n: or more) together with all that was asked so far; terms are positive, and nothing cancels.

        Args:
            theta: Parameters with shape (n, 3).
            x: Times between departures with shape (n_obs,) or (n, n_obs).

        Returns:
            Log likelihoods with shape (n,), in theta's dtype; minus infinity where a time is shorter than any service,
            and outside of the model's range.
        """
        theta, x = self.check_theta(theta), as_tensor(x, "x")
        times = x.to(theta.device).double().expand(len(theta), self.n_obs)
        legal = (theta[:, 0] >= 0) & (theta[:, 1] > 0) & (theta[:, 2] > 0) & (times >= theta[:, :1]).all(1)
        # off the range the density is evaluated elsewhere, so that gradients stay finite
        shortest, width, rate = torch.where(legal[:, None], theta, theta.new_ones(3)).double().unbind(1)
        times = torch.where(legal[:, None], times, 1.5)
        state = times.new_zeros(len(theta), self.n_obs + 1)
        state[:, 0] = 1
        total = -self.n_obs * width.log()
        for i, time in enumerate(times.unbind(1)):
            gap = time - shortest if i == 0 else time
            waited = time > shortest + width
            # the customer of a server who waited is the first since the last departure
            state = torch.where(waited[:, None], torch.nn.functional.pad(state[:, :1], (0, state.shape[1] - 1)), state)
            total = total - torch.where(waited, rate * (gap - width), 0.0)
            state = _arrive(state, rate * torch.where(waited, width, gap).clamp_min(1e-300))[:, 1:]
            mass = state.sum(1).clamp_min(1e-300)
            state, total = state / mass[:, None], total + mass.log()
        return torch.where(legal, total.to(theta.dtype), -torch.inf)

    def summarize(self, x: Tensor) -> Tensor:
        """Equally spaced quantiles of the times, with shape (n, quantiles)."""
        return row_quantiles(x, [i / (self.quantiles - 1) for i in range(self.quantiles)])

    def settings(self) -> dict[str, Any]:
        """Departures and quantiles."""
        return {"n_obs": self.n_obs, "quantiles": self.quantiles}


def _serve(
    arrived: float, left: float, gap: float, shortest: float, width: float, mean: float, u: float, e: float
) -> tuple[float, ...]:
    """One customer, for the compiled loop: Lindley's recursion on the times of arrival and of departure."""
    arrived = arrived + mean * e
    leaves = max(arrived, left) + shortest + width * u
    return arrived, leaves, leaves - left


def _process() -> StepProcess:
    return step_process(_serve, states=3, noise=NOISE, record=(2,))


def _arrive(state: Tensor, mean: Tensor) -> Tensor:
    """Add a Poisson number with means (n,) to numbers distributed as (n, k + 1), the last of which means k or more."""
    k = state.shape[1] - 1
    count = torch.arange(k, dtype=state.dtype, device=state.device)
    mean = mean[:, None]
    probability = torch.exp(count * mean.log() - mean - torch.lgamma(count + 1))
    # row r of the matrix holds the probabilities moved right by k - 1 - r
    moved = torch.nn.functional.pad(probability, (k - 1, 0)).unfold(1, k, 1)
    below = (state[:, None, :-1].flip(2) @ moved)[:, 0]
    enough = torch.special.gammainc(count.flip(0) + 1, mean)  # P(at least k, ..., 1)
    last = state[:, -1:] + (state[:, :-1] * enough).sum(1, keepdim=True)
    return torch.cat((below, last), 1)
