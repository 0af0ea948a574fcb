r"""Cox-Ingersoll-Ross: an interest rate that stays positive, with a non-central chi-squared transition.

.. math:: dX_t = \kappa (\mu - X_t)\,dt + \sigma \sqrt{X_t}\,dW_t

Over a step :math:`\Delta`, with :math:`a = e^{-\kappa\Delta}` and :math:`c = 2\kappa / (\sigma^2 (1 - a))`,

.. math:: 2 c X_{t+\Delta} \mid X_t \sim \chi'^2_{d}(2 c a X_t), \qquad d = \frac{4\kappa\mu}{\sigma^2},

.. math:: p(y \mid x) = c\,e^{-u - v} \left(\frac{v}{u}\right)^{q/2} I_q(2\sqrt{uv}), \quad u = c a x,\ v = c y,\
    q = \frac{d}{2} - 1,

and in the long run a gamma distribution of shape d/2 and rate :math:`2\kappa/\sigma^2`. Zero is reached if
:math:`d < 2` (Feller), and left at once.

References:
    | A theory of the term structure of interest rates (Cox, Ingersoll & Ross, 1985)
    | https://doi.org/10.2307/1911242
    | Numerical techniques for maximum likelihood estimation of continuous-time diffusion processes
      (Durham & Gallant, 2002)
    | https://doi.org/10.1198/073500102288618397
    | A comparison of biased simulation schemes for stochastic volatility models (Lord, Koekkoek & Van Dijk, 2010)
    | https://doi.org/10.1080/14697680802392496
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Gamma, LogNormal

from implicit_simulators.base import Simulator, as_tensor
from implicit_simulators.engines.paths import paths
from implicit_simulators.engines.steps import StepProcess, step_process
from implicit_simulators.priors import Product
from implicit_simulators.streams import Stream

SCHEMES = ("euler", "exact")


class CoxIngersollRoss(Simulator):
    r"""A positive mean-reverting series at equal steps, from a known start.

    The parameters are the speed of return :math:`\kappa` (per year), the mean :math:`\mu` and the volatility
    :math:`\sigma`, usually tested at (0.5, 0.06, 0.15) in months (Durham & Gallant, 2002), with priors around it:

    .. math:: \kappa \sim \mathrm{LogN}(\log 0.5, 0.5), \quad \mu \sim \mathrm{LogN}(\log 0.06, 0.5), \quad
        \sigma \sim \mathrm{LogN}(\log 0.15, 0.5).

    ``scheme`` is one of

    - ``"euler"``: Euler steps whose coefficients see :math:`\max(X, 0)` (full truncation; Lord et al., 2010), and whose
      negative states are recorded as zero. Differentiable; its bias falls with ``substeps``.
    - ``"exact"``: the exact transition, :math:`\chi'^2_d(\lambda) = \chi^2_{d + 2N}` with :math:`N \sim
      \mathrm{Poisson}(\lambda / 2)`, both drawn by the inverse of their distribution functions. Not differentiable.

    Simulations are the n_obs values at :math:`\Delta, 2\Delta, \dots`. Rows of theta outside of the model's range (a
    parameter not positive) are NaN.

    Args:
        n_obs: Number of values.
        step: Time between two, :math:`\Delta`.
        initial: The value at time zero.
        scheme: ``"euler"`` or ``"exact"``.
        substeps: Euler steps between two values; not used by the exact scheme.

    Raises:
        ValueError: If ``scheme`` is unknown, ``n_obs`` is less than 2 or a number is not positive.
    """

    name = "cox-ingersoll-ross"
    parameter_names = ("kappa", "mu", "sigma")
    reference_theta = (0.5, 0.06, 0.15)

    def __init__(
        self,
        n_obs: int = 120,
        step: float = 1 / 12,
        initial: float = 0.06,
        scheme: str = "euler",
        substeps: int = 10,
    ) -> None:
        if scheme not in SCHEMES:
            raise ValueError(f"scheme: expected one of {', '.join(SCHEMES)}; got {scheme!r}")
        for argument, count, least in (("n_obs", n_obs, 2), ("substeps", substeps, 1)):
            if not (count == int(count) and count >= least):
                raise ValueError(f"{argument}: expected an int of at least {least}; got {count}")
        for argument, value in (("step", step), ("initial", initial)):
            if not 0 < value < math.inf:
                raise ValueError(f"{argument}: expected a positive number; got {value}")
        self.n_obs, self.step, self.initial = int(n_obs), step, initial
        self.scheme, self.substeps = scheme, int(substeps)
        self.differentiable = scheme == "euler"
        self.event_shape = torch.Size([self.n_obs])
        self.prior = Product([LogNormal(torch.tensor([0.5, 0.06, 0.15]).log(), torch.full((3,), 0.5))])

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        legal = (theta > 0).all(1)
        if self.scheme == "euler":
            x = self._euler(theta, stream)
        else:
            inside = torch.where(legal[:, None], theta, theta.new_tensor(self.reference_theta))
            noise = stream.numpy().random((len(theta), self.n_obs, 2))
            x = torch.as_tensor(self._transform(_array(inside), noise)).to(theta)
        return torch.where(legal[:, None], x, torch.nan)

    def _euler(self, theta: Tensor, stream: Stream) -> Tensor:
        kappa, mu, sigma = theta.unbind(1)
        h = self.step / self.substeps
        columns = torch.stack((h * kappa, mu, h**0.5 * sigma), 1)
        start = torch.full_like(theta[:, :1], self.initial)
        path = paths(_process(), columns, start, self.n_obs * self.substeps, stream.key, every=self.substeps)
        return path[:, :, 0].clamp_min(0)

    def prepare(self) -> float:
        """Compile, or load from disk, the loop over Euler steps; the seconds that took."""
        return _process().prepare() if self.scheme == "euler" else 0.0

    def _transform(self, theta: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """The exact series from theta (n, 3) and uniform noise (n, n_obs, 2), both float64."""
        from scipy.special import gammaincinv
        from scipy.stats import poisson

        kappa, mu, sigma = theta.T
        decay = np.exp(-kappa * self.step)
        c = 2 * kappa / (sigma**2 * -np.expm1(-kappa * self.step))
        x, path = np.full(len(theta), self.initial), np.empty(uniform.shape[:2])
        for t in range(uniform.shape[1]):
            count = poisson.ppf(uniform[:, t, 0], c * decay * x)
            # ppf of exactly zero is -1
            x = gammaincinv(2 * kappa * mu / sigma**2 + np.maximum(count, 0), uniform[:, t, 1]) / c
            path[:, t] = x
        return path

    @staticmethod
    def stationary(theta: Tensor) -> Gamma:
        r"""The distribution in the long run, of mean :math:`\mu`, variance :math:`\sigma^2\mu/2\kappa`; batch (n,)."""
        kappa, mu, sigma = theta.unbind(1)
        return Gamma(2 * kappa * mu / sigma**2, 2 * kappa / sigma**2, validate_args=False)

    @staticmethod
    def conditional_moments(theta: Tensor, x: Tensor | float, time: float) -> tuple[Tensor, Tensor]:
        r"""Mean and variance of :math:`X_{s + \tau}` given :math:`X_s = x`.

        .. math:: \mu + a (x - \mu), \qquad \frac{\sigma^2}{\kappa} (1 - a)
            \left(a x + \tfrac12 (1 - a) \mu\right), \qquad a = e^{-\kappa\tau}

        Args:
            theta: Parameters with shape (n, 3).
            x: A number, or values with shape (n,).
            time: :math:`\tau`.

        Returns:
            Two tensors with shape (n,).
        """
        kappa, mu, sigma = theta.unbind(1)
        a, rest = torch.exp(-kappa * time), -torch.expm1(-kappa * time)
        return mu + a * (x - mu), sigma**2 / kappa * rest * (a * x + 0.5 * rest * mu)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """The exact log p(x | theta) of the process, whatever the scheme, differentiable once in both arguments.

        Values of zero, which the Euler scheme gives, have density zero or infinity.

        Args:
            theta: Parameters with shape (n, 3).
            x: Series with shape (n_obs,) or (n, n_obs).

        Returns:
            Log likelihoods with shape (n,), in theta's dtype; minus infinity outside of the model's range.
        """
        theta, x = self.check_theta(theta), as_tensor(x, "x")
        legal = (theta > 0).all(1)
        # off the range the density is evaluated elsewhere, so that gradients stay finite
        inside = torch.where(legal[:, None], theta, theta.new_tensor(self.reference_theta)).double()
        series = x.to(theta.device).double().expand(len(theta), self.n_obs)
        before = torch.cat((torch.full_like(series[:, :1], self.initial), series[:, :-1]), 1)
        total = _log_transition(inside, before, series, self.step).sum(1).to(theta.dtype)
        return torch.where(legal, total, -torch.inf)

    def summarize(self, x: Tensor) -> Tensor:
        r"""Last value, mean, and the logs of three spreads, with shape (n, 5).

        These are the variance and the mean squared increments of x and of :math:`\sqrt x`; the latter are about
        :math:`\sigma^2 \Delta / 4` at any level. There is no sufficient statistic of fixed size.
        """
        path = torch.cat((torch.full_like(x[:, :1], self.initial), x), 1)
        tiny = torch.finfo(x.dtype).tiny
        roots = path.clamp_min(1e-12).sqrt()
        squares = [x.var(1, correction=0), path.diff(dim=1).square().mean(1), roots.diff(dim=1).square().mean(1)]
        return torch.stack((x[:, -1], x.mean(1), *(s.clamp_min(tiny).log() for s in squares)), 1)

    def settings(self) -> dict[str, Any]:
        """Length, step, start and scheme."""
        settings: dict[str, Any] = {"n_obs": self.n_obs, "step": self.step, "initial": self.initial}
        settings["scheme"] = self.scheme
        return settings | ({"substeps": self.substeps} if self.scheme == "euler" else {})


def _array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()


def _log_transition(theta: Tensor, x: Tensor, y: Tensor, step: float) -> Tensor:
    """Log p(y | x) for theta (n, 3) and x, y (n, m), all float64, with shape (n, m)."""
    kappa, mu, sigma = theta.T[:, :, None]
    legal = (x >= 0) & (y >= 0)
    c = -2 * kappa / (sigma**2 * torch.expm1(-kappa * step))
    q = 2 * kappa * mu / sigma**2 - 1
    u, v = c * torch.exp(-kappa * step) * torch.where(legal, x, 1.0), c * torch.where(legal, y, 1.0)
    # near zero the first two terms of the series, which also hold at zero itself
    small = u * v < 1e-8 * (q + 1)
    near = c.log() - u - v + q * v.log() - torch.lgamma(q + 1) + torch.log1p(u * v / (q + 1))
    u, v = torch.where(small, 1.0, u), torch.where(small, 1.0, v)
    z = 2 * (u * v).sqrt()
    far = c.log() - (u.sqrt() - v.sqrt()).square() + 0.5 * q * (v / u).log() + _LogBessel.apply(q.expand_as(z), z)
    return torch.where(legal, torch.where(small, near, far), -torch.inf)


class _LogBessel(torch.autograd.Function):
    r"""Log of :math:`e^{-z} I_q(z)` by scipy, with first derivatives.

    In z it is :math:`I_{q+1}(z) / I_q(z) + q / z - 1`. In the order it is not elementary, and is taken from differences
    of fourth order, in steps that keep the order above -1; about nine digits are right.
    """

    @staticmethod
    def forward(ctx: Any, order: Tensor, z: Tensor) -> Tensor:
        value = _log_ive(_array(order), _array(z))
        ctx.save_for_backward(order, z)
        ctx.value = value
        return torch.as_tensor(value).to(z)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        q, z = (_array(saved) for saved in ctx.saved_tensors)
        in_z = np.exp(_log_ive(q + 1, z) - ctx.value) + q / z - 1
        h = 1e-3 * (q + 1)
        one, two = (_log_ive(q + i * h, z) - _log_ive(q - i * h, z) for i in (1, 2))
        in_order = (8 * one - two) / (12 * h)
        return grad * torch.as_tensor(in_order).to(grad), grad * torch.as_tensor(in_z).to(grad)


def _log_ive(order: np.ndarray, z: np.ndarray) -> np.ndarray:
    r"""Log of :math:`e^{-z} I_q(z)`, by the uniform expansion for large orders (DLMF 10.41.3) where it underflows."""
    from scipy.special import ive

    value = ive(order, z)
    usable = value > 1e-290
    q = np.maximum(order, 1.0)
    root = np.hypot(1, z / q)
    p = 1 / root
    first = (3 * p - 5 * p**3) / 24 / q
    second = (81 * p**2 - 462 * p**4 + 385 * p**6) / 1152 / q**2
    exponent = q * (root + np.log(z / q) - np.log1p(root)) - z
    large = exponent - 0.5 * np.log(2 * np.pi * q * root) + np.log1p(first + second)
    return np.where(usable, np.log(np.where(usable, value, 1.0)), large)


def _step(x: float, speed: float, mean: float, spread: float, z: float) -> tuple[float, ...]:
    r"""One Euler step of length h, for the compiled loop: parameters are :math:`h\kappa, \mu, \sqrt h\sigma`."""
    # the floor keeps the square root's gradient finite at zero; it moves the rate by nothing visible
    return (x + speed * (mean - max(x, 0.0)) + spread * math.sqrt(max(x, 1e-12)) * z,)


def _process() -> StepProcess:
    return step_process(_step, states=1)
