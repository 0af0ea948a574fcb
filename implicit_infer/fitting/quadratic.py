r"""A quadratic fitted to noisy values of a log-likelihood: its maximum, its curvature, and what noise adds to them.

.. math:: \ell(v) \approx a + b^\top w - \tfrac12 w^\top C w, \qquad w = L^{-1} (v - o)

by weighted least squares over the points near the origin o of a region :math:`L L^\top`. Values with a mean and a
covariance from R simulations each, for m data, have the variance

.. math:: \operatorname{Var}(\hat\ell) \approx \frac{m}{R} \left( 2 (\ell_{\max} - \ell) + \frac{m k}{2 R} \right)

with k summaries: noise grows with the distance from the maximum, and points near it count for more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

NEAR = 2.5
"""Points are used up to this distance from the origin, in units of the region (and d degrees of freedom)."""

GROWTH = 2.0
"""The width that a direction may have at most, in units of the region: flatter ones are not told from flat."""


@dataclass(frozen=True)
class Quadratic:
    r"""What was fitted; called with v, shape (n, d), it gives its values, shape (n,).

    Attributes:
        origin: o, with shape (d,).
        region: :math:`L L^\top`, with shape (d, d).
        constant: a.
        slope: b, with shape (d,).
        curvature: C, with shape (d, d), positive definite.
        centre: The maximum as v, kept within the points.
        covariance: The inverse of the curvature in v, with shape (d, d).
        noise: The covariance of the maximum that the scatter of the values makes, with shape (d, d).
        scatter: Standard deviation of the values about the quadratic.
        rows: Points that were used.
        radius: How far they reach, in units of the region.
        bent: Whether the fitted curvature had to be raised to be positive.
    """

    origin: Tensor
    region: Tensor
    constant: float
    slope: Tensor
    curvature: Tensor
    centre: Tensor
    covariance: Tensor
    noise: Tensor
    scatter: float
    rows: int
    radius: float
    bent: bool

    @classmethod
    def fit(cls, v: Tensor, values: Tensor, origin: Tensor, region: Tensor, least: float = 1.0) -> Quadratic:
        """Fit to the points near the origin, or to the nearest ones where too few are.

        Args:
            v: Points with shape (n, d), float64.
            values: Their values with shape (n,); what is not finite is left out.
            origin: With shape (d,).
            region: With shape (d, d), positive definite.
            least: The values' variance at the maximum, in units of that of values half a unit below it.

        Returns:
            The quadratic.

        Raises:
            ValueError: If fewer finite values are there than a quadratic has coefficients.
        """
        fine = torch.isfinite(values)
        v, values, d = v[fine], values[fine], v.shape[1]
        count = (d + 1) * (d + 2) // 2
        if len(v) < count + 1:
            raise ValueError(f"values: expected at least {count + 1} finite ones; got {len(v)}")
        root = torch.linalg.cholesky(region)
        w = torch.linalg.solve_triangular(root, (v - origin).T, upper=False).T
        distance = w.norm(dim=1)
        reach = max(NEAR * math.sqrt((d + 1) / 2), float(distance.kthvalue(min(len(v), 2 * count)).values))
        near = distance <= reach
        w, values = w[near], values[near]
        middle = float(values.median())
        row, column = torch.tril_indices(d, d)
        scale = torch.where(row == column, 0.5, 1.0).to(w)

        def design(w: Tensor) -> Tensor:
            return torch.cat((torch.ones_like(w[:, :1]), w, -scale * w[:, row] * w[:, column]), 1)

        x = design(w)
        weight, coefficients = torch.ones_like(values), torch.zeros(count, dtype=w.dtype)
        for _ in range(10):
            lhs = (x.T * weight) @ x + 1e-9 * weight.mean() * torch.eye(count, dtype=w.dtype)
            coefficients = torch.linalg.solve(lhs, (x.T * weight) @ (values - middle))
            fitted = x @ coefficients
            residual = values - middle - fitted
            precision = 1 / (2 * (fitted.max() - fitted) + least)
            # Huber's weights: a few values may be far too low, where most simulations failed
            standard = residual.abs() * precision.sqrt()
            unit = 1.4826 * float(standard.median()) + 1e-12
            weight = precision * (2 * unit / standard.clamp_min(1e-300)).clamp(max=1.0)
        share = len(w) / max(1, len(w) - count)
        scatter = math.sqrt(share * float((weight * residual.square()).sum() / weight.sum()))
        curvature = torch.zeros(d, d, dtype=w.dtype)
        curvature[row, column] = curvature[column, row] = coefficients[1 + d :]
        eigenvalues, vectors = torch.linalg.eigh(curvature)
        bent = bool((eigenvalues < GROWTH**-2).any())
        curvature = (vectors * eigenvalues.clamp_min(GROWTH**-2)) @ vectors.T
        slope = coefficients[1 : 1 + d]
        best = torch.linalg.solve(curvature, slope)
        radius = float(w.norm(dim=1).max())
        best = best * min(1.0, 0.9 * radius / max(float(best.norm()), 1e-300))
        # the error of the slope at the maximum is that of the maximum, by the curvature
        meat = share * (x.T * (weight * residual).square()) @ x  # whatever the variance of each value is (White, 1980)
        covariance = torch.linalg.solve(lhs, torch.linalg.solve(lhs, meat).T)
        at_best = torch.func.jacrev(lambda point: design(point[None])[0])(best)
        inverse = torch.linalg.inv(curvature)
        noise = inverse @ at_best.T @ covariance @ at_best @ inverse
        return cls(
            origin=origin,
            region=region,
            constant=middle + float(coefficients[0]),
            slope=slope,
            curvature=curvature,
            centre=origin + root @ best,
            covariance=root @ inverse @ root.T,
            noise=root @ noise @ root.T,
            scatter=scatter,
            rows=len(w),
            radius=radius,
            bent=bent,
        )

    def __call__(self, v: Tensor) -> Tensor:
        """Values with shape (n,) at v with shape (n, d)."""
        root = torch.linalg.cholesky(self.region)
        w = torch.linalg.solve_triangular(root, (v - self.origin).T, upper=False).T
        return self.constant + w @ self.slope - 0.5 * ((w @ self.curvature) * w).sum(1)
