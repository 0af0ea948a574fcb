r"""Alpha-stable: the laws of sums, with tails so heavy that the variance is infinite, known by their Fourier transform.

In Nolan's S0 parametrisation, whose law is continuous in all parameters and a location-scale family (so that
:math:`x = \gamma z + \delta`), the characteristic function is

.. math:: \log E e^{itx} = i \delta t - |\gamma t|^\alpha \left[1 + i \beta\, \mathrm{sign}(t)
    \tan\tfrac{\pi\alpha}{2} \left(|\gamma t|^{1 - \alpha} - 1\right)\right],

with the limit :math:`i \delta t - |\gamma t| [1 + i \beta\, \mathrm{sign}(t) \tfrac{2}{\pi} \log|\gamma t|]` at
:math:`\alpha = 1`. The other common one, S1, has the location :math:`\delta_1 = \delta - \beta\gamma
\tan(\pi\alpha/2)` (its mean, if :math:`\alpha > 1`), or :math:`\delta - \tfrac{2}{\pi}\beta\gamma\log\gamma` at
:math:`\alpha = 1`; it jumps there.

Draws are those of Chambers, Mallows & Stuck, of V uniform on :math:`(-\pi/2, \pi/2)` and W exponential. Their formulae
for :math:`\alpha \ne 1`, as corrected by Weron (1996), and for :math:`\alpha = 1` are one. Write
:math:`\epsilon = 1 - \alpha` and :math:`\tau = \beta \epsilon / \tan(\pi\epsilon/2)`, which is :math:`2\beta/\pi` at
:math:`\alpha = 1`, and :math:`\mathrm{s}(v) = \sin(v)/v`. Then

.. math:: r = \frac{\cos \epsilon V + \tau V\, \mathrm{s}(\epsilon V)}{W \cos V}, \qquad
    d = \frac{r^{\epsilon/\alpha} - 1}{\epsilon}, \qquad
    z = (1 + \epsilon d) \left[(\cos \epsilon V + \tau V\, \mathrm{s}(\epsilon V)) \tan V - \sin \epsilon V
    - \tfrac{\epsilon}{2} \tau V^2\, \mathrm{s}(\tfrac{\epsilon V}{2})^2\right] + \tau d,

in which nothing cancels or overflows as :math:`\epsilon \to 0`, where :math:`d \to \log r`.

References:
    | A method for simulating stable random variables (Chambers, Mallows & Stuck, 1976)
    | https://doi.org/10.1080/01621459.1976.10480344
    | On the Chambers-Mallows-Stuck method for simulating skewed stable random variables (Weron, 1996)
    | https://doi.org/10.1016/0167-7152(95)00113-1
    | Univariate stable distributions (Nolan, 2020)
    | https://doi.org/10.1007/978-3-030-52915-4
    | Simple consistent estimators of stable distribution parameters (McCulloch, 1986)
    | https://doi.org/10.1080/03610918608812563
    | Likelihood-free Bayesian inference for alpha-stable models (Peters, Sisson & Fan, 2012)
    | https://arxiv.org/abs/0912.4729
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent, Uniform

from implicit_simulators.base import Simulator
from implicit_simulators.engines.quantiles import row_quantiles
from implicit_simulators.observations.exchange_rates import COUNT, RETURNS, observed_returns
from implicit_simulators.streams import Stream

PRIORS = {
    "standard": ((1.1, -1.0, 0.0, -300.0), (2.0, 1.0, 300.0, 300.0)),
    "returns": ((1.1, -1.0, 0.0, -1.0), (2.0, 1.0, 2.0, 1.0)),
}
"""The corners of each uniform prior."""


class AlphaStable(Simulator):
    r"""Independent draws from an alpha-stable distribution, parametrised as S0.

    The index :math:`\alpha \in (0, 2]` (2 is the normal distribution with variance :math:`2\gamma^2`), the skewness
    :math:`\beta \in [-1, 1]`, the scale :math:`\gamma > 0` and the location :math:`\delta`. ``prior`` is one of

    - ``"standard"``: :math:`\alpha \sim U(1.1, 2), \beta \sim U(-1, 1), \gamma \sim U(0, 300), \delta \sim
      U(-300, 300)`, of Peters, Sisson & Fan (2012), who draw 200 at (1.7, 0.9, 10, 10);
    - ``"returns"``: the same with :math:`\gamma \sim U(0, 2), \delta \sim U(-1, 1)`, for daily returns in percent.

    Simulations have shape (n_obs,). With ``n_obs=1866`` the returns of five currencies ship as observations;
    ``AlphaStable.for_observation("exchange-rates-cd")`` is the simulator that fits them.

    Draws are made in double precision: the tail comes from the last digits of V. At :math:`\alpha = 1.1` one draw in a
    million is some hundred thousand scales away. Rows of theta outside of the model's range are NaN.

    Args:
        n_obs: Number of draws.
        prior: ``"standard"`` or ``"returns"``.

    Raises:
        ValueError: If ``n_obs`` is not positive or ``prior`` is unknown.
    """

    name = "alpha-stable"
    parameter_names = ("alpha", "beta", "gamma", "delta")
    reference_theta = (1.7, 0.9, 10.0, 10.0)
    differentiable = True
    observations: tuple[str, ...] = RETURNS  # type: ignore[misc]  # which ones depends on n_obs

    def __init__(self, n_obs: int = 200, prior: str = "standard") -> None:
        if not (n_obs == int(n_obs) and n_obs > 0):
            raise ValueError(f"n_obs: expected a positive int; got {n_obs}")
        if prior not in PRIORS:
            raise ValueError(f"prior: expected one of {', '.join(PRIORS)}; got {prior!r}")
        self.n_obs, self._prior = int(n_obs), prior
        self.event_shape = torch.Size([self.n_obs])
        self.observations = RETURNS if self.n_obs == COUNT else ()
        if prior == "returns":
            self.reference_theta = (1.7, 0.0, 0.4, 0.0)
        low, high = (torch.tensor(corner) for corner in PRIORS[prior])
        self.prior = Independent(Uniform(low, high, validate_args=False), 1)

    @classmethod
    def for_observation(cls, name: str) -> AlphaStable:
        """The simulator that the returns ``name`` can be observations of: as many draws, and a prior of their size.

        Raises:
            ValueError: If there is no observation of that name.
        """
        if name not in RETURNS:
            raise ValueError(f"name: expected one of {', '.join(RETURNS)}; got {name!r}")
        return cls(COUNT, "returns")

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        return self._transform(theta, *self._noise(len(theta), stream, theta))

    def _noise(self, n: int, stream: Stream, like: Tensor) -> tuple[Tensor, Tensor]:
        """V uniform on (-pi/2, pi/2) and W exponential, each with shape (n, n_obs) and dtype float64."""
        shape, device = (n, self.n_obs), like.device
        u = torch.rand(shape, generator=stream.torch(device), device=device, dtype=torch.float64)
        # a stream of its own: where a row's numbers lie must not depend on how many rows there are
        other = Stream.of(stream.key, role="observe").torch(device)
        w = torch.rand(shape, generator=other, device=device, dtype=torch.float64)
        # random numbers are multiples of 2**-53, zero among them
        return math.pi * (u + 2.0**-54 - 0.5), -torch.log(w + 2.0**-54)

    @staticmethod
    def _transform(theta: Tensor, v: Tensor, w: Tensor) -> Tensor:
        """The formula above, from theta (n, 4) and the noise (n, m)."""
        alpha, beta, gamma, delta = theta.double().T[:, :, None]
        e = 1 - alpha
        tau = beta * _ratio_to_tangent(e)
        tilt = tau * v * _sine_ratio(e * v)
        top = torch.cos(e * v) + tilt
        d = _power_difference(torch.log(top) - torch.log(w * torch.cos(v)), e, alpha)
        drop = 0.5 * e * tau * (v * _sine_ratio(0.5 * e * v)).square()
        z = (1 + e * d) * (top * torch.tan(v) - torch.sin(e * v) - drop) + tau * d
        legal = (alpha > 0) & (alpha <= 2) & (beta.abs() <= 1) & (gamma > 0)
        return torch.where(legal, gamma * z + delta, torch.nan).to(theta.dtype)

    def characteristic_function(self, theta: Tensor, t: Tensor) -> Tensor:
        r"""E exp(i t x) of one draw, for theta with shape (n, 4) and t with shape (m,); complex, with shape (n, m)."""
        alpha, beta, gamma, delta = theta.double().T[:, :, None]
        t = t.to(theta.device).double()
        size = (gamma * t).abs().clamp_min(1e-300)
        e = 1 - alpha
        # tan(pi alpha / 2) (size^e - 1), as one quotient that is finite at alpha = 1
        twist = beta * torch.sign(t) * _ratio_to_tangent(e) * _power_difference(size.log(), e, torch.ones_like(e))
        modulus = size**alpha
        return torch.exp(torch.complex(-modulus, delta * t - modulus * twist))

    def summarize(self, x: Tensor) -> Tensor:
        r"""McCulloch's quantile ratios, with shape (n, 4).

        .. math:: v_\alpha = \frac{q_{.95} - q_{.05}}{q_{.75} - q_{.25}}, \quad
            v_\beta = \frac{q_{.95} + q_{.05} - 2 q_{.5}}{q_{.95} - q_{.05}}, \quad
            q_{.75} - q_{.25}, \quad q_{.5}

        The first set of Peters, Sisson & Fan (2012), but for the median in place of the mean, whose error does not
        have a variance.
        """
        q05, q25, q50, q75, q95 = row_quantiles(x, (0.05, 0.25, 0.5, 0.75, 0.95)).unbind(1)
        tiny = torch.finfo(x.dtype).tiny
        wide, narrow = (q95 - q05).clamp_min(tiny), (q75 - q25).clamp_min(tiny)
        return torch.stack((wide / narrow, (q95 + q05 - 2 * q50) / wide, narrow, q50), 1)

    def observation(self, name: str) -> Tensor:
        """Daily log returns in percent, with shape (1866,).

        Raises:
            ValueError: If there is none of that name, or this simulator has another ``n_obs``.
        """
        if name in RETURNS and not self.observations:
            raise ValueError(f"observation: {name} has {COUNT} returns; this simulator has n_obs={self.n_obs}")
        return super().observation(name)

    def _observation(self, name: str) -> Tensor:
        return self.check_observation(observed_returns(name))

    def settings(self) -> dict[str, Any]:
        """Number of draws and the prior."""
        return {"n_obs": self.n_obs, "prior": self._prior}


def _sine_ratio(v: Tensor) -> Tensor:
    """The quotient sin(v) / v, smooth at zero, where torch.sinc has no second derivative."""
    small = v.abs() < 1e-3
    square = torch.where(small, v * v, 0.0)
    safe = torch.where(small, 1.0, v)
    return torch.where(small, 1 - square / 6 * (1 - square / 20), torch.sin(safe) / safe)


def _ratio_to_tangent(e: Tensor) -> Tensor:
    """The quotient e / tan(pi e / 2), smooth at zero."""
    return 2 / math.pi * torch.cos(0.5 * math.pi * e) / _sine_ratio(0.5 * math.pi * e)


def _power_difference(log: Tensor, e: Tensor, alpha: Tensor) -> Tensor:
    """(exp(log e / alpha) - 1) / e, smooth at e = 0."""
    y = log / alpha
    small = (e * y).abs() < 1e-3
    product = torch.where(small, 1.0, e * y)
    near = torch.where(small, e * y, 0.0)  # where it is large its powers overflow
    series = 1 + near / 2 * (1 + near / 3 * (1 + near / 4 * (1 + near / 5)))
    return y * torch.where(small, series, torch.expm1(product) / product)
