r"""Ornstein-Uhlenbeck: the Gaussian diffusion that returns to its mean; in finance, Vasicek's interest rate.

.. math:: dX_t = \kappa (\mu - X_t)\,dt + \sigma\,dW_t

Over a step :math:`\Delta` it is exactly an autoregression,

.. math:: X_{t+\Delta} \mid X_t \sim N(\mu + a (X_t - \mu),\ v), \qquad a = e^{-\kappa \Delta}, \quad
    v = \sigma^2 \frac{1 - e^{-2\kappa\Delta}}{2\kappa},

and in the long run :math:`N(\mu, \sigma^2 / 2\kappa)`. The Euler scheme with m steps of :math:`h = \Delta / m` is one
too, with :math:`a = (1 - \kappa h)^m` and :math:`v = \sigma^2 h \sum_{i<m} (1 - \kappa h)^{2i}`. Both likelihoods are
therefore known.

References:
    | On the theory of the Brownian motion (Uhlenbeck & Ornstein, 1930)
    | https://doi.org/10.1103/PhysRev.36.823
    | An equilibrium characterization of the term structure (Vasicek, 1977)
    | https://doi.org/10.1016/0304-405X(77)90016-2
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import LogNormal, Normal

from implicit_simulators.base import Simulator, as_tensor
from implicit_simulators.engines.paths import paths
from implicit_simulators.engines.steps import StepProcess, step_process
from implicit_simulators.engines.torch_steps import step_noise
from implicit_simulators.priors import Product
from implicit_simulators.streams import Stream

SCHEMES = ("exact", "euler")


class OrnsteinUhlenbeck(Simulator):
    r"""A mean-reverting series at equal steps.

    The parameters are the speed of return :math:`\kappa` (per unit of time), the mean :math:`\mu` and the volatility
    :math:`\sigma`, with priors of the size of short interest rates in months:

    .. math:: \kappa \sim \mathrm{LogN}(\log 0.5, 1), \quad \mu \sim N(0.06, 0.05^2), \quad
        \sigma \sim \mathrm{LogN}(\log 0.03, 0.5).

    ``scheme="exact"`` draws from the exact transition; ``"euler"`` takes ``substeps`` Euler steps for each. Both are
    differentiable. Simulations are the n_obs values at :math:`\Delta, 2\Delta, \dots`.

    Rows of theta outside of the model's range (:math:`\kappa` or :math:`\sigma` not positive) are NaN.

    Args:
        n_obs: Number of values.
        step: Time between two, :math:`\Delta`.
        initial: The value at time zero; if None, the first value is drawn from the stationary distribution.
        scheme: ``"exact"`` or ``"euler"``.
        substeps: Euler steps between two values; not used by the exact scheme.

    Raises:
        ValueError: If ``scheme`` is unknown, ``n_obs`` is less than 2, a number is not positive, or ``initial`` is
            not finite.
    """

    name = "ornstein-uhlenbeck"
    parameter_names = ("kappa", "mu", "sigma")
    reference_theta = (0.5, 0.06, 0.03)
    differentiable = True
    releases_gil = True

    def __init__(
        self,
        n_obs: int = 120,
        step: float = 1 / 12,
        initial: float | None = None,
        scheme: str = "exact",
        substeps: int = 10,
    ) -> None:
        if scheme not in SCHEMES:
            raise ValueError(f"scheme: expected one of {', '.join(SCHEMES)}; got {scheme!r}")
        for argument, value, least in (("n_obs", n_obs, 2), ("substeps", substeps, 1)):
            if not (value == int(value) and value >= least):
                raise ValueError(f"{argument}: expected an int of at least {least}; got {value}")
        if not 0 < step < math.inf:
            raise ValueError(f"step: expected a positive number; got {step}")
        if initial is not None and not math.isfinite(initial):
            raise ValueError(f"initial: expected a finite number or None; got {initial}")
        self.n_obs, self.step, self.initial = int(n_obs), step, initial
        self.scheme, self.substeps = scheme, int(substeps)
        self.event_shape = torch.Size([self.n_obs])
        self.prior = Product(
            [
                LogNormal(torch.tensor([math.log(0.5)]), torch.tensor([1.0])),
                Normal(torch.tensor([0.06]), torch.tensor([0.05])),
                LogNormal(torch.tensor([math.log(0.03)]), torch.tensor([0.5])),
            ]
        )

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        kappa, mu, sigma = theta.unbind(1)
        if self.initial is None:
            noise = step_noise(("normal",), len(theta), 1, stream.key, theta, stream=1)[:, 0, 0]
            start = mu + sigma / (2 * kappa).sqrt() * noise
        else:
            start = torch.full_like(mu, self.initial)
        substeps = self.substeps if self.scheme == "euler" else 1
        a, variance = self._one_step(theta)
        columns = torch.stack((mu, a, variance.sqrt()), 1)
        count = self.n_obs - (self.initial is None)
        x = paths(_process(), columns, start[:, None], count * substeps, stream.key, every=substeps)[:, :, 0]
        x = x if self.initial is not None else torch.cat((start[:, None], x), 1)
        return torch.where(((kappa > 0) & (sigma > 0))[:, None], x, torch.nan)

    def prepare(self) -> float:
        """Compile, or load from disk, the loop over steps; the seconds that took."""
        return _process().prepare()

    def _one_step(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """The coefficient and the variance of the autoregression that one step of the scheme is, each (n,)."""
        kappa, _, sigma = theta.unbind(1)
        if self.scheme == "exact":
            return torch.exp(-kappa * self.step), -(sigma**2) * torch.expm1(-2 * kappa * self.step) / (2 * kappa)
        h = self.step / self.substeps
        return 1 - kappa * h, sigma**2 * h

    def transition(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """The coefficient a and the variance v from one value to the next under ``scheme``, each with shape (n,)."""
        a, variance = self._one_step(theta)
        if self.scheme == "exact":
            return a, variance
        powers = torch.stack([a ** (2 * i) for i in range(self.substeps)])
        return a**self.substeps, variance * powers.sum(0)

    @staticmethod
    def stationary(theta: Tensor) -> Normal:
        r"""The distribution in the long run, :math:`N(\mu, \sigma^2 / 2\kappa)`, with batch shape (n,)."""
        return Normal(theta[:, 1], theta[:, 2] / (2 * theta[:, 0]).sqrt(), validate_args=False)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Log p(x | theta) under ``scheme``, differentiable in both arguments.

        Args:
            theta: Parameters with shape (n, 3).
            x: Series with shape (n_obs,) or (n, n_obs).

        Returns:
            Log likelihoods with shape (n,), in theta's dtype; minus infinity outside of the model's range.
        """
        theta, x = self.check_theta(theta), as_tensor(x, "x")
        legal = (theta[:, 0] > 0) & (theta[:, 2] > 0)
        # off the range the density is evaluated elsewhere, so that gradients stay finite
        inside = torch.where(legal[:, None], theta, theta.new_tensor(self.reference_theta)).double()
        a, variance = (part[:, None] for part in self.transition(inside))
        mu = inside[:, 1:2]
        centred = x.to(theta.device).double().expand(len(theta), self.n_obs) - mu
        if self.initial is None:
            before, after = centred[:, :-1], centred[:, 1:]
            first = self.stationary(inside).log_prob(centred[:, 0] + mu[:, 0])
        else:
            before, after = torch.cat((self.initial - mu, centred[:, :-1]), 1), centred
            first = torch.zeros_like(mu[:, 0])
        steps = -0.5 * ((after - a * before).square() / variance + torch.log(2 * math.pi * variance))
        return torch.where(legal, first + steps.sum(1), -torch.inf).to(theta.dtype)

    def summarize(self, x: Tensor) -> Tensor:
        r"""Sufficient statistics, with shape (n, 5), or (n, 4) if the series has a fixed start.

        First value (if it is random), last value, mean, and the logs of the variance and of the mean squared increment.
        All sums that the likelihood is made of follow from these.
        """
        path = x if self.initial is None else torch.cat((torch.full_like(x[:, :1], self.initial), x), 1)
        tiny = torch.finfo(x.dtype).tiny
        variance = x.var(1, correction=0).clamp_min(tiny).log()
        increments = path.diff(dim=1).square().mean(1).clamp_min(tiny).log()
        ends = [x[:, 0], x[:, -1]] if self.initial is None else [x[:, -1]]
        return torch.stack((*ends, x.mean(1), variance, increments), 1)

    def settings(self) -> dict[str, Any]:
        """Length, step, start and scheme."""
        settings: dict[str, Any] = {"n_obs": self.n_obs, "step": self.step, "initial": self.initial}
        settings["scheme"] = self.scheme
        return settings | ({"substeps": self.substeps} if self.scheme == "euler" else {})


def _step(x: float, mean: float, coefficient: float, spread: float, z: float) -> tuple[float, ...]:
    """One step, for the compiled loop, of either scheme."""
    return (mean + coefficient * (x - mean) + spread * z,)


def _process() -> StepProcess:
    return step_process(_step, states=1)
