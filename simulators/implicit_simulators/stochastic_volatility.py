r"""Stochastic volatility: returns whose variance wanders, a state-space model without a likelihood in closed form.

.. math:: y_t = e^{h_t / 2} \varepsilon_t, \qquad h_{t+1} = \mu + \phi (h_t - \mu) + \sigma \eta_t, \qquad
    h_1 \sim N\left(\mu, \frac{\sigma^2}{1 - \phi^2}\right), \qquad \varepsilon_t, \eta_t \sim N(0, 1)

With :math:`s^2 = \sigma^2 / (1 - \phi^2)`, the returns have

.. math:: E y_t^2 = e^{\mu + s^2/2}, \quad \frac{E y_t^4}{(E y_t^2)^2} = 3 e^{s^2}, \quad
    E \log y_t^2 = \mu + \psi(\tfrac12) + \log 2, \quad
    \mathrm{corr}(\log y_t^2, \log y_{t+j}^2) = \frac{\phi^j}{1 + \pi^2 / (2 s^2)}.

References:
    | Stochastic volatility: likelihood inference and comparison with ARCH models (Kim, Shephard & Chib, 1998)
    | https://doi.org/10.1111/1467-937X.00050
    | Multivariate stochastic variance models (Harvey, Ruiz & Shephard, 1994)
    | https://doi.org/10.2307/2297980
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Beta, InverseGamma, Normal, TransformedDistribution
from torch.distributions.transforms import AffineTransform, PowerTransform

from implicit_simulators.base import Simulator
from implicit_simulators.engines.paths import paths
from implicit_simulators.engines.steps import StepProcess, step_process
from implicit_simulators.engines.torch_steps import step_noise
from implicit_simulators.observations.exchange_rates import log_returns
from implicit_simulators.priors import Product
from implicit_simulators.streams import Stream

COUNT = 945
LAGS = 10
OFFSET = 1e-3
"""Added to squared returns before their logarithm, as Kim, Shephard & Chib do, who have returns in percent too."""

MEAN_LOG_SQUARE = -math.log(2) - 0.5772156649015329
"""E log eps^2 of a standard normal eps; psi(1/2) + log 2."""


class StochasticVolatility(Simulator):
    r"""Log returns with a latent autoregressive log variance.

    The parameters are the mean :math:`\mu`, persistence :math:`\phi` and standard deviation :math:`\sigma` of the log
    variance's shocks, with the priors of Kim, Shephard & Chib (1998),

    .. math:: \mu \sim N(0, 10), \quad \frac{\phi + 1}{2} \sim \mathrm{Beta}(20, 1.5), \quad
        \sigma^2 \sim \mathrm{InvGamma}(2.5, 0.025).

    Simulations are n_obs returns. With the default of 945, their own data ship as ``"pound-1981-1985"``: daily returns
    of the pound against the dollar in percent, 1 October 1981 to 28 June 1985, less their mean. Their posterior means
    are :math:`\phi = 0.978`, :math:`\sigma = 0.158` and :math:`e^{\mu/2} = 0.65`.

    Rows of theta outside of the model's range (:math:`|\phi| \ge 1`, :math:`\sigma` not positive) are NaN.

    Args:
        n_obs: Number of returns, more than 10.

    Raises:
        ValueError: If ``n_obs`` is no int above 10.
    """

    name = "stochastic-volatility"
    parameter_names = ("mu", "phi", "sigma")
    reference_theta = (-0.86, 0.98, 0.15)
    differentiable = True
    releases_gil = True
    observations: tuple[str, ...] = ("pound-1981-1985",)  # type: ignore[misc]  # it needs n_obs to be 945

    def __init__(self, n_obs: int = COUNT) -> None:
        if not (n_obs == int(n_obs) and n_obs > LAGS):
            raise ValueError(f"n_obs: expected an int above {LAGS}; got {n_obs}")
        self.n_obs = int(n_obs)
        self.event_shape = torch.Size([self.n_obs])
        self.observations = type(self).observations if self.n_obs == COUNT else ()
        self.prior = Product([Normal(0.0, 10**0.5), _Persistence(20.0, 1.5), _RootInverseGamma(2.5, 0.025)])

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        _, phi, sigma = theta.unbind(1)
        legal = (phi.abs() < 1) & (sigma > 0)
        inside = torch.where(legal[:, None], theta, theta.new_tensor(self.reference_theta))
        # the log variance before the first return has the stationary law, and so have all that follow
        noise = step_noise(("normal",), len(theta), 1, stream.key, theta, stream=2)[:, 0, 0]
        start = inside[:, 0] + self.log_variance_variance(inside).sqrt() * noise
        x = paths(_process(), inside, start[:, None], self.n_obs, stream.key)[:, :, 0]
        return torch.where(legal[:, None], x, torch.nan)

    def prepare(self) -> float:
        """Compile, or load from disk, the loop over returns; the seconds that took."""
        return _process().prepare()

    @staticmethod
    def log_variance_variance(theta: Tensor) -> Tensor:
        r""":math:`s^2 = \sigma^2 / (1 - \phi^2)`, with shape (n,)."""
        return theta[:, 2] ** 2 / (1 - theta[:, 1] ** 2)

    def variance(self, theta: Tensor) -> Tensor:
        """Variance of a return, with shape (n,)."""
        return torch.exp(theta[:, 0] + 0.5 * self.log_variance_variance(theta))

    def kurtosis(self, theta: Tensor) -> Tensor:
        """Kurtosis of a return (3 for a normal distribution), with shape (n,)."""
        return 3 * torch.exp(self.log_variance_variance(theta))

    def log_square_mean(self, theta: Tensor) -> Tensor:
        """Mean of the log squared returns, with shape (n,)."""
        return theta[:, 0] + MEAN_LOG_SQUARE

    def log_square_autocorrelation(self, theta: Tensor, lags: int = LAGS) -> Tensor:
        """Autocorrelation of the log squared returns at lags 1, ..., ``lags``, with shape (n, lags)."""
        powers = torch.arange(1, lags + 1, device=theta.device)
        share = 1 / (1 + 0.5 * math.pi**2 / self.log_variance_variance(theta))
        return share[:, None] * theta[:, 1:2] ** powers

    def summarize(self, x: Tensor) -> Tensor:
        r"""Moments of :math:`l_t = \log(y_t^2 + 0.001)`, with shape (n, 13).

        Mean, log standard deviation and the first ten autocorrelations of :math:`l_t`, which is linear in the log
        variances (Harvey, Ruiz & Shephard, 1994), and the log of the root mean square over the mean absolute return.
        """
        logs = torch.log(x * x + OFFSET)
        mean = logs.mean(1, keepdim=True)
        centred = logs - mean
        variance = centred.square().mean(1, keepdim=True).clamp_min(1e-12)
        lags = [(centred[:, j:] * centred[:, :-j]).sum(1, keepdim=True) / x.shape[1] for j in range(1, LAGS + 1)]
        # scaled first: squares of huge returns overflow in single precision
        scaled = x / x.abs().amax(1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
        square, size = (part.mean(1, keepdim=True).clamp_min(1e-12) for part in (scaled.square(), scaled.abs()))
        tails = 0.5 * square.log() - size.log()
        return torch.cat((mean, 0.5 * variance.log(), torch.cat(lags, 1) / variance, tails), 1)

    def _observation(self, name: str) -> Tensor:
        returns = log_returns("bp", "1981-10-01", "1985-06-28")
        return self.check_observation(returns - returns.mean())

    def settings(self) -> dict[str, Any]:
        """Number of returns."""
        return {"n_obs": self.n_obs}


def _step(h: float, mu: float, phi: float, sigma: float, z: float) -> tuple[float, ...]:
    """The next log variance, for the compiled loop."""
    return (mu + phi * (h - mu) + sigma * z,)


def _return(h: float, mu: float, phi: float, sigma: float, e: float) -> tuple[float, ...]:
    """A return of this log variance."""
    return (math.exp(0.5 * h) * e,)


def _process() -> StepProcess:
    return step_process(_step, states=1, emit=_return, emission_noise=("normal",))


class _Persistence(TransformedDistribution):
    """2 b - 1 for a beta variable b, with its moments, which torch's transformed distributions lack."""

    def __init__(self, a: float, b: float) -> None:
        self._beta = Beta(torch.tensor([a]), torch.tensor([b]))
        super().__init__(self._beta, [AffineTransform(-1.0, 2.0)], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return 2 * self._beta.mean - 1

    @property
    def variance(self) -> Tensor:
        return 4 * self._beta.variance


class _RootInverseGamma(TransformedDistribution):
    """The square root of an inverse gamma variable, with its moments."""

    def __init__(self, shape: float, scale: float) -> None:
        self._shape, self._scale = shape, scale
        base = InverseGamma(torch.tensor([shape]), torch.tensor([scale]), validate_args=False)
        super().__init__(base, [PowerTransform(torch.tensor(0.5))], validate_args=False)

    @property
    def mean(self) -> Tensor:
        log_ratio = math.lgamma(self._shape - 0.5) - math.lgamma(self._shape)
        return torch.tensor([math.sqrt(self._scale) * math.exp(log_ratio)])

    @property
    def variance(self) -> Tensor:
        return self._scale / (self._shape - 1) - self.mean**2
