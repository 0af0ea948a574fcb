r"""g-and-k: a distribution known by its quantile function alone, the classic test of likelihood-free inference.

.. math:: Q(z) = A + B \left(1 + c \tanh\frac{g z}{2}\right) (1 + z^2)^k z, \qquad z \sim N(0, 1), \quad c = 0.8

The location A and the scale B > 0, the skewness g and the weight of the tails :math:`k \ge 0`. With c = 0.8 and
:math:`k \ge 0`, Q increases for any g (Rayner & MacGillivray). The papers write
:math:`(1 - e^{-gz}) / (1 + e^{-gz})` for the hyperbolic tangent.

The density is found by inverting Q numerically, one root for each datum:

.. math:: p(x) = \frac{\phi(z)}{Q'(z)}, \quad Q(z) = x, \qquad
    Q'(z) = B (1 + z^2)^k \left[ (1 + c\,t) \frac{1 + (2k + 1) z^2}{1 + z^2} + \frac{c g z}{2} (1 - t^2) \right],
    \quad t = \tanh\frac{g z}{2}

References:
    | Numerical maximum likelihood estimation for the g-and-k and generalized g-and-h distributions
      (Rayner & MacGillivray, 2002)
    | https://doi.org/10.1023/A:1013120305780
    | Bayesian estimation of quantile distributions (Allingham et al., 2009)
    | https://doi.org/10.1007/s11222-008-9083-x
    | Likelihood-free Bayesian estimation of multivariate quantile distributions (Drovandi & Pettitt, 2011)
    | https://doi.org/10.1016/j.csda.2011.03.019
    | Constructing summary statistics for approximate Bayesian computation (Fearnhead & Prangle, 2012)
    | https://arxiv.org/abs/1004.1112
    | gk: an R package for the g-and-k and generalised g-and-h distributions (Prangle, 2020)
    | https://arxiv.org/abs/1706.06889
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent, Uniform

from implicit_simulators.base import Simulator, as_tensor
from implicit_simulators.engines.paths import compiled_paths, needs_torch
from implicit_simulators.engines.quantiles import row_quantiles
from implicit_simulators.engines.steps import StepProcess, step_process
from implicit_simulators.engines.torch_steps import step_noise
from implicit_simulators.observations.exchange_rates import COUNT, RETURNS, observed_returns
from implicit_simulators.streams import Stream

C = 0.8
PRIORS = {
    "standard": ((0.0, 0.0, 0.0, 0.0), (10.0, 10.0, 10.0, 10.0)),
    "returns": ((-1.0, 0.0, -5.0, 0.0), (1.0, 1.0, 5.0, 10.0)),
}
"""The corners of each uniform prior."""

SLICE = 2**20
"""Data whose densities are found at a time: the search for one takes a hundred bytes and more."""

SUMMARIES = ("robust", "octiles", "order")
_OCTILES = tuple(i / 8 for i in range(1, 8))


class GAndK(Simulator):
    r"""Independent draws from a g-and-k distribution.

    ``prior`` is one of

    - ``"standard"``: :math:`A, B, g, k \sim U(0, 10)`, of Allingham et al. (2009) and most papers since;
    - ``"returns"``: :math:`A \sim U(-1, 1), B \sim U(0, 1), g \sim U(-5, 5), k \sim U(0, 10)`, of Prangle (2020) for
      daily log returns of the Canadian dollar. He takes raw returns; here they are in percent, so that his bounds of A
      and B are a hundred times tighter, and still wide.

    Simulations have shape (n_obs,). With ``n_obs=1866`` the returns of five currencies ship as observations;
    ``GAndK.for_observation("exchange-rates-cd")`` is the simulator that fits them.

    ``summaries`` chooses what ``summarize`` gives: ``"robust"``, the four of Drovandi & Pettitt (2011), one for each
    parameter, from quartiles :math:`L_i` and octiles :math:`E_i`,

    .. math:: S_A = L_2, \quad S_B = L_3 - L_1, \quad S_g = \frac{L_3 + L_1 - 2 L_2}{S_B}, \quad
        S_k = \frac{E_7 - E_5 + E_3 - E_1}{S_B};

    ``"octiles"``, :math:`E_1, \dots, E_7`; or ``"order"``, all order statistics (Allingham et al., 2009), of which
    nothing is lost.

    Rows of theta outside of the model's range (B not positive, k negative) are NaN.

    Args:
        n_obs: Number of draws; Allingham et al. have 1000.
        prior: ``"standard"`` or ``"returns"``.
        summaries: ``"robust"``, ``"octiles"`` or ``"order"``.

    Raises:
        ValueError: If ``n_obs`` is not positive, or ``prior`` or ``summaries`` is unknown.
    """

    name = "g-and-k"
    parameter_names = ("A", "B", "g", "k")
    reference_theta = (3.0, 1.0, 2.0, 0.5)
    differentiable = True
    releases_gil = True
    observations: tuple[str, ...] = RETURNS  # type: ignore[misc]  # which ones depends on n_obs

    def __init__(self, n_obs: int = 1000, prior: str = "standard", summaries: str = "robust") -> None:
        if not (n_obs == int(n_obs) and n_obs > 0):
            raise ValueError(f"n_obs: expected a positive int; got {n_obs}")
        if prior not in PRIORS:
            raise ValueError(f"prior: expected one of {', '.join(PRIORS)}; got {prior!r}")
        if summaries not in SUMMARIES:
            raise ValueError(f"summaries: expected one of {', '.join(SUMMARIES)}; got {summaries!r}")
        self.n_obs, self._prior, self.summaries = int(n_obs), prior, summaries
        self.event_shape = torch.Size([self.n_obs])
        self.observations = RETURNS if self.n_obs == COUNT else ()
        low, high = (torch.tensor(corner) for corner in PRIORS[prior])
        self.prior = Independent(Uniform(low, high, validate_args=False), 1)

    @classmethod
    def for_observation(cls, name: str, summaries: str = "robust") -> GAndK:
        """The simulator that the returns ``name`` can be observations of: as many draws, and a prior wide enough.

        Raises:
            ValueError: If there is no observation of that name.
        """
        if name not in RETURNS:
            raise ValueError(f"name: expected one of {', '.join(RETURNS)}; got {name!r}")
        return cls(COUNT, "returns", summaries)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        if needs_torch(theta):
            return self.quantile(theta, step_noise(("normal",), len(theta), self.n_obs, stream.key, theta)[:, :, 0])
        x = compiled_paths(_process(), theta, theta.new_zeros(len(theta), 1), self.n_obs, stream.key)[:, :, 0]
        return torch.where(_legal(theta), x, torch.nan)

    def prepare(self) -> float:
        """Compile, or load from disk, the loop over draws; the seconds that took."""
        return _process().prepare()

    def quantile(self, theta: Tensor, z: Tensor) -> Tensor:
        """Q(z), the quantile at the normal quantile z, for theta with shape (n, 4) and z with shape (n, m)."""
        a, b, g, k = theta.T[:, :, None]
        x = a + b * (1 + C * torch.tanh(0.5 * g * z)) * torch.exp(k * torch.log1p(z * z)) * z
        return torch.where(_legal(theta), x, torch.nan)

    def normal_score(self, theta: Tensor, x: Tensor) -> Tensor:
        r"""The z with Q(z) = x, in double precision and twice differentiable in theta and x.

        With :math:`w = \log|z|`, the root is that of
        :math:`w + k \log(1 + e^{2w}) + \log(1 + c \tanh(\pm g e^w / 2)) = \log|x - A| - \log B`, nearly linear at both
        ends; Newton's method inside a bracket known in closed form finds it to the last digits. Two more steps in z are
        taken with their graph: each doubles the number of derivatives that are right.

        Args:
            theta: Parameters in the model's range, with shape (n, 4).
            x: Points with shape (n, m) or (m,).

        Returns:
            Normal scores with shape (n, m), dtype float64; the distribution function is their normal one.
        """
        theta, x = theta.double(), x.to(theta.device).double()
        a, b, g, k = theta.T[:, :, None]
        with torch.no_grad():
            z = _root((x - a) / b, g, k)
        for _ in range(2):
            z = z - (self.quantile(theta, z) - x) / _log_slope(z, b, g, k).exp()
        return z

    def cdf(self, theta: Tensor, x: Tensor) -> Tensor:
        """The distribution function at points with shape (n, m) or (m,), with shape (n, m)."""
        return torch.special.ndtr(self.normal_score(theta, x)).to(theta.dtype)

    def log_density(self, theta: Tensor, x: Tensor) -> Tensor:
        """Log density of one draw at points with shape (n, m) or (m,), with shape (n, m), dtype float64."""
        z = self.normal_score(theta, x)
        _, b, g, k = theta.double().T[:, :, None]
        return -0.5 * z.square() - 0.5 * math.log(2 * math.pi) - _log_slope(z, b, g, k)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        r"""Log p(x | theta), :math:`\sum_i \log p(x_i)`, differentiable in both arguments.

        Args:
            theta: Parameters with shape (n, 4).
            x: Data with shape (n_obs,) or (n, n_obs).

        Returns:
            Log likelihoods with shape (n,) in theta's dtype; minus infinity outside of the model's range.
        """
        theta, x = self.check_theta(theta), as_tensor(x, "x")
        legal = (theta[:, 1] > 0) & (theta[:, 3] >= 0)
        # off the range the density is evaluated elsewhere, so that gradients stay finite
        inside = torch.where(legal[:, None], theta, theta.new_tensor(self.reference_theta))
        rows = max(1, SLICE // self.n_obs)
        slices = zip(inside.split(rows), x.to(theta.device).expand(len(theta), self.n_obs).split(rows), strict=True)
        terms = [self.log_density(part, data).sum(1) for part, data in slices]
        total = torch.cat(terms).to(theta.dtype)
        return torch.where(legal, total, -torch.inf)

    def summarize(self, x: Tensor) -> Tensor:
        """The statistics that ``summaries`` names, with shape (n, 4), (n, 7) or (n, n_obs)."""
        if self.summaries == "order":
            return x.sort(dim=1).values
        octiles = row_quantiles(x, _OCTILES)
        if self.summaries == "octiles":
            return octiles
        e1, l1, e3, l2, e5, l3, e7 = octiles.unbind(1)
        spread = (l3 - l1).clamp_min(torch.finfo(x.dtype).tiny)
        return torch.stack((l2, l3 - l1, (l3 + l1 - 2 * l2) / spread, (e7 - e5 + e3 - e1) / spread), 1)

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
        """Number of draws, the prior and the summaries."""
        return {"n_obs": self.n_obs, "prior": self._prior, "summaries": self.summaries}


def _legal(theta: Tensor) -> Tensor:
    """Which rows are in the model's range, with shape (n, 1)."""
    return ((theta[:, 1] > 0) & (theta[:, 3] >= 0))[:, None]


def _draw(x: float, a: float, b: float, g: float, k: float, z: float) -> tuple[float, ...]:
    """One draw, for the compiled loop: Q(z), whatever the draw before it was."""
    skew = 1.0 + C * (1.0 - 2.0 / (1.0 + math.exp(g * z)))  # the hyperbolic tangent, safe from overflow
    return (a + b * skew * math.exp(k * math.log(1.0 + z * z)) * z,)


def _process() -> StepProcess:
    return step_process(_draw, states=1)


def _log_slope(z: Tensor, b: Tensor, g: Tensor, k: Tensor) -> Tensor:
    """Log Q'(z)."""
    t, square = torch.tanh(0.5 * g * z), z * z
    bracket = (1 + C * t) * (1 + 2 * k * square / (1 + square)) + 0.5 * C * g * z * (1 - t * t)
    return b.log() + k * torch.log1p(square) + bracket.log()


def _root(y: Tensor, g: Tensor, k: Tensor, steps: int = 100) -> Tensor:
    """The z with Q(z) = y for A = 0, B = 1, with shape (n, m): Newton's method in log |z|, kept inside a bracket."""
    sign = torch.where(y < 0, -1.0, 1.0).to(y)
    goal, g = y.abs().clamp_min(1e-300).log(), g * sign

    def end(extreme: Tensor) -> Tensor:
        # w + 2 k max(w, 0) = extreme
        return torch.where(extreme < 0, extreme, extreme / (1 + 2 * k))

    low, high = end(goal - math.log1p(C) - k * math.log(2)), end(goal - math.log1p(-C))
    w = 0.5 * (low + high)
    for _ in range(steps):
        z = w.exp()
        t, share = torch.tanh(0.5 * g * z), torch.sigmoid(2 * w)  # share: z**2 / (1 + z**2)
        miss = w + k * torch.nn.functional.softplus(2 * w, threshold=40) + torch.log1p(C * t) - goal
        slope = 1 + 2 * k * share + 0.5 * C * g * z * (1 - t * t) / (1 + C * t)
        low, high = torch.where(miss < 0, w, low), torch.where(miss < 0, high, w)
        newton = w - miss / slope
        inside = (newton >= low) & (newton <= high)
        # quadratic convergence: what is left after a step this small is below rounding
        settled = (newton - w).abs() <= 1e-8 * (1 + w.abs())
        w = torch.where(inside | settled, newton, 0.5 * (low + high))
        if settled.all():
            break
    return sign * w.exp()
