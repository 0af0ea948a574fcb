r"""A log-likelihood as a smooth function of the parameters: its maximum, its profiles, and where Wilks' theorem draws.

With :math:`D(\theta) = 2 (\ell(\hat\theta) - \ell(\theta))`, the theorem says that D at the true parameters is
:math:`\chi^2_d` for many observations, and that the profile
:math:`D_j(t) = \min_{\theta_j = t} D(\theta)` is :math:`\chi^2_1`. Where :math:`\ell` was itself learned from
simulations, its maximum has an error of its own with covariance :math:`V` beside the :math:`H^{-1}` of the data; D is
then about :math:`1 + \operatorname{tr}(V H) / d` times as large, the profile
:math:`1 + V_{jj} / (H^{-1})_{jj}` times, and thresholds are raised by as much.

References:
    | The large-sample distribution of the likelihood ratio for testing composite hypotheses (Wilks, 1938)
    | https://doi.org/10.1214/aoms/1177732360
    | A method for computing profile-likelihood-based confidence intervals (Venzon & Moolgavkar, 1988)
    | https://doi.org/10.2307/2347496
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_infer.fitting.space import Space

LogLikelihood = Callable[[Tensor], Tensor]
"""From v with shape (n, d), float64, to the log-likelihood of all data with shape (n,), differentiable."""


@dataclass(frozen=True)
class Range:
    r"""Where a log-likelihood was learned: :math:`(v - c)^\top P (v - c) \le \rho^2`.

    Attributes:
        centre: c, with shape (d,), float64.
        precision: P, with shape (d, d).
        radius: :math:`\rho`.
    """

    centre: Tensor
    precision: Tensor
    radius: float

    @classmethod
    def of(cls, v: Tensor, radius: float | None = None) -> Range:
        """That of draws with shape (n, d): up to ``radius`` of their standard deviations, or up to the farthest."""
        d = v.shape[1]
        v = v.double()
        centre, covariance = v.mean(0), torch.cov(v.T).reshape(d, d)
        floor = 1e-9 * covariance.diagonal().clamp_min(1e-12)
        precision = torch.linalg.inv(covariance + floor.diag())
        made = cls(centre, precision, 1.0)
        return cls(centre, precision, float(made.distance(v).max().sqrt()) if radius is None else radius)

    def distance(self, v: Tensor) -> Tensor:
        """The squared distance from c, with shape (n,)."""
        away = v - self.centre
        return ((away @ self.precision) * away).sum(1)

    def slack(self, v: Tensor) -> Tensor:
        """What is left to the border, with shape (n,): negative outside."""
        return 1 - self.distance(v) / self.radius**2


@dataclass(frozen=True)
class Profile:
    """The profile of one parameter.

    Attributes:
        name: The parameter.
        values: Values of it, with shape (k,).
        deviance: The least deviance with the parameter at each value, with shape (k,); NaN where none was found.
        theta: Parameters where that is, with shape (k, d).
    """

    name: str
    values: Tensor
    deviance: Tensor
    theta: Tensor


class Surface:
    """A log-likelihood over unconstrained parameters, where it was learned.

    Args:
        space: The map to parameters.
        log_likelihood: The function.
        range: Where it holds.
        starts: Points that the search for its maximum begins from, with shape (k, d).
        noise: V, the covariance of what simulations alone add to the maximum, with shape (d, d); zero if None.

    Attributes:
        v: The maximum, with shape (d,).
        value: The log-likelihood there.
        hessian: H, minus the second derivatives there, with shape (d, d); what is flat has the prior's width.
        flat: Directions in which the data hardly tell more than the prior, by H.
        covariance: Of the maximum as parameters, with shape (d, d): the data's share and the simulations'.
    """

    def __init__(
        self,
        space: Space,
        log_likelihood: LogLikelihood,
        range: Range,
        starts: Tensor,
        noise: Tensor | None = None,
    ) -> None:
        self.space, self.log_likelihood, self.range = space, log_likelihood, range
        self.value, self._units = 0.0, torch.linalg.cholesky(torch.linalg.inv(range.precision))
        self.v = self.maximise(starts)
        for _ in (0, 1):  # once more in the likelihood's own units
            self.value = float(self.log_likelihood(self.v[None]))
            raw = -torch.autograd.functional.hessian(lambda v: self.log_likelihood(v[None])[0], self.v)
            assert isinstance(raw, Tensor)
            values, vectors = torch.linalg.eigh(0.5 * (raw + raw.T))
            self.flat = int((values < 1).sum())
            self.hessian = (vectors * values.clamp_min(1.0)) @ vectors.T
            self.inverse = torch.linalg.inv(self.hessian)
            self._units = torch.linalg.cholesky(self.inverse)
            self.v = self.maximise(self.v[None])
        self.value = float(self.log_likelihood(self.v[None]))
        d = len(self.v)
        self.noise = torch.zeros(d, d, dtype=torch.float64) if noise is None else noise
        jacobian = torch.autograd.functional.jacobian(lambda v: self.space.theta(v[None])[0], self.v)
        assert isinstance(jacobian, Tensor)
        self.jacobian = jacobian
        self.covariance = jacobian @ (self.inverse + self.noise) @ jacobian.T

    @property
    def theta(self) -> Tensor:
        """Parameters at the maximum, with shape (d,)."""
        return self.space.theta(self.v[None])[0]

    @property
    def inflation(self) -> float:
        """What the simulations' share of the error multiplies the deviance at the truth by, on average."""
        return 1 + float((self.noise @ self.hessian).trace()) / len(self.v)

    def inflation_of(self, place: int) -> float:
        """The same of the profile of one parameter."""
        row = self.jacobian[place]
        return 1 + float(row @ self.noise @ row) / max(float(row @ self.inverse @ row), 1e-300)

    def deviance(self, theta: Tensor) -> Tensor:
        """D at parameters with shape (n, d), with shape (n,), float64; infinite outside of where it was learned."""
        v = self.space.free(theta.double())
        legal = torch.isfinite(v).all(1)
        v = torch.where(legal[:, None], v, self.v)
        with torch.no_grad():
            found = 2 * (self.value - self.log_likelihood(v))
        return torch.where(legal & (self.range.slack(v) >= -1e-6), found, torch.inf)

    def maximise(self, starts: Tensor) -> Tensor:
        """The highest point in the range that ascent from the starts finds, with shape (d,)."""
        found = [self._ascend(start, []) for start in starts]
        best = max((point for point in found if point is not None), key=lambda point: point[1], default=None)
        return starts[0].double() if best is None else best[0]

    def profile_at(self, place: int, value: float, start: Tensor) -> tuple[float, Tensor]:
        """The least deviance with parameter ``place`` at ``value``, and the v where it is; NaN if none was found."""
        if len(self.v) == 1:
            v = self.space.free(torch.tensor([[value]], dtype=torch.float64))[0]
            with torch.no_grad():
                return 2 * (self.value - float(self.log_likelihood(v[None]))), v
        unit = float(self.jacobian[place].norm()) or 1.0

        def held(v: Tensor) -> Tensor:
            return (self.space.theta(v[None])[0, place] - value) / unit

        found = self._ascend(start, [held])
        if found is None:
            return math.nan, start
        return max(0.0, 2 * (self.value - found[1])), found[0]

    def _ascend(self, start: Tensor, held: list[Callable[[Tensor], Tensor]]) -> tuple[Tensor, float] | None:
        """The maximum in the range with every ``held`` at zero, by sequential quadratic programming."""
        from scipy.optimize import minimize

        origin, units = start.double(), self._units  # all directions about equally steep

        def place(w: Tensor) -> Tensor:
            return origin + units @ w

        def of(function: Callable[[Tensor], Tensor]) -> tuple[Callable[[Any], float], Callable[[Any], Any]]:
            def value(point: Any) -> float:
                with torch.no_grad():
                    return float(function(place(torch.as_tensor(point))))

            def slope(point: Any) -> Any:
                w = torch.as_tensor(point).requires_grad_()
                (gradient,) = torch.autograd.grad(function(place(w)), w)
                return gradient.numpy()

            return value, slope

        # deviances are wanted to a hundredth, whatever the number of data
        value, slope = of(lambda v: self.value - self.log_likelihood(v[None])[0])
        border, border_slope = of(lambda v: self.range.slack(v[None])[0])
        constraints: list[Any] = [{"type": "ineq", "fun": border, "jac": border_slope}]
        for function in held:
            at, along = of(function)
            constraints.append({"type": "eq", "fun": at, "jac": along})
        options: Any = {"maxiter": 100, "ftol": 1e-7}
        found = minimize(
            value, torch.zeros_like(origin).numpy(), jac=slope, method="SLSQP", constraints=constraints, options=options
        )
        v = place(torch.as_tensor(found.x))
        kept = all(abs(constraint["fun"](found.x)) < 1e-4 for constraint in constraints[1:])
        if not (torch.isfinite(v).all() and math.isfinite(found.fun) and kept and border(found.x) > -1e-4):
            return None
        return v, self.value - float(found.fun)

    def limits(self, place: int) -> tuple[float, float]:
        """The least and the largest value of a parameter in the range."""
        # the extremes of a coordinatewise map lie where those of v do
        reach = self.range.radius * torch.linalg.inv(self.range.precision).diagonal().sqrt()
        corners = torch.stack((self.range.centre - reach, self.range.centre + reach))
        grid = torch.cartesian_prod(*corners.T).reshape(-1, len(reach))
        ends = self.space.theta(grid)[:, place]
        return float(ends.min()), float(ends.max())

    def interval(self, place: int, threshold: float) -> tuple[float, float, bool]:
        """Where the profile of a parameter reaches a deviance, below and above the maximum.

        Args:
            place: Place of the parameter.
            threshold: The deviance, positive.

        Returns:
            Both ends, and whether either is only the border of the range.
        """
        middle = float(self.theta[place])
        step = math.sqrt(threshold * max(float(self.covariance[place, place]), 1e-300))
        ends, is_open = [], False
        for limit, sign in zip(self.limits(place), (-1.0, 1.0), strict=True):
            end, at_border = self._cross(place, middle, limit, sign * step, threshold)
            ends.append(end)
            is_open = is_open or at_border
        return ends[0], ends[1], is_open

    def _cross(self, place: int, inside: float, limit: float, step: float, threshold: float) -> tuple[float, bool]:
        """Where the profile crosses the threshold between the maximum and the limit: steps outwards, then bisection."""
        v, room = self.v, abs(limit - inside)
        outside = None
        while outside is None:
            if abs(step) >= room:
                outside = limit  # beyond the range there is nothing that could be called likely
                break
            value, there = self.profile_at(place, inside + step, v)
            if math.isnan(value) or value > threshold:
                outside = inside + step
            else:
                inside, v, room, step = inside + step, there, room - abs(step), 1.5 * step
        for _ in range(12):
            middle = 0.5 * (inside + outside)
            value, there = self.profile_at(place, middle, v)
            if math.isnan(value) or value > threshold:
                outside = middle
            else:
                inside, v = middle, there
        at_border = abs(inside - limit) < 1e-2 * max(abs(limit - float(self.theta[place])), 1e-300)
        return 0.5 * (inside + outside), at_border
