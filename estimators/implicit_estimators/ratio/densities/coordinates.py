r"""Coordinates in which p and q together have mean 0 and covariance I: where moments can be shrunk and flows started.

A density ratio is the same in any coordinates, and densities change by a constant, so this costs nothing and makes
one regularisation right for all units. Directions in which no sample varies (constant or repeated columns, fewer rows
than columns) are left out: samples say nothing of the ratio there.

References:
    | Shrinkage Algorithms for MMSE Covariance Estimation (Chen, Wiesel, Eldar and Hero, 2010), for the shrinkage
    | https://arxiv.org/abs/0907.4698
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from implicit_estimators.networks.standardise import FARTHEST, Standardiser

NULL = 1e-12
"""Share of the largest variance below which a direction does not vary."""


@dataclass(frozen=True)
class Tensors:
    """Tensors that are saved and restored by their names."""

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """All fields, by ``prefix`` and name."""
        return {f"{prefix}.{field.name}": getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def restore(cls, tensors: dict[str, Tensor], prefix: str) -> Self:
        """The object whose :meth:`tensors` these are."""
        return cls(**{field.name: tensors[f"{prefix}.{field.name}"] for field in dataclasses.fields(cls)})


@dataclass(frozen=True)
class Coordinates(Tensors):
    r""":math:`u = M^\top ((x - m) / s - c)`, in float64.

    Attributes:
        location: m, with shape (d,).
        scale: s, with shape (d,).
        center: c, with shape (d,).
        matrix: M, with shape (d, k), k at most d.
        variance: The variance along each coordinate of p and q in even shares, with shape (k,): 1, or less where few
            samples were shrunk.
    """

    location: Tensor
    scale: Tensor
    center: Tensor
    matrix: Tensor
    variance: Tensor

    @classmethod
    def fit(cls, p: Tensor, q: Tensor) -> Coordinates:
        """Fit to samples of p, with shape (n, d), and of q, with shape (m, d), which count the same."""
        standardiser = Standardiser.fit(p, q)
        location, scale = standardiser.location.double(), standardiser.scale.double()
        sides = [((x.double() - location) / scale).clamp(-FARTHEST, FARTHEST) for x in (p, q)]
        means = [side.mean(0) for side in sides]
        center, apart = 0.5 * (means[0] + means[1]), 0.5 * (means[0] - means[1])
        covariance = torch.outer(apart, apart)
        for side, mean in zip(sides, means, strict=True):
            rows = side - mean
            covariance += 0.5 * rows.T @ rows / len(rows)
        values, vectors = torch.linalg.eigh(covariance)
        varies = (values > NULL * values.max()) & (values > 0)
        values, vectors = values[varies], vectors[:, varies]
        shrunk = _shrink(values, len(p) + len(q))
        return cls(location, scale, center, vectors / shrunk.sqrt(), values / shrunk)

    @property
    def width(self) -> int:
        """How many coordinates there are, k."""
        return self.matrix.shape[1]

    @property
    def log_determinant(self) -> Tensor:
        """Log of du/dx: what a log-density of u gains when it is one of x (along the directions that vary)."""
        # M is orthonormal times diagonal, and columns of no spread, which are nowhere in M, have units of no matter
        norms = self.matrix.norm(dim=0).log().sum()
        return norms - (self.scale.log() * (self.matrix.abs().amax(1) > 0)).sum() if self.width else norms

    def __call__(self, x: Tensor) -> Tensor:
        """U of x: from shape (n, d) to (n, k), on the device of these coordinates."""
        z = ((x.to(self.location.device).double() - self.location) / self.scale).clamp(-FARTHEST, FARTHEST)
        return (z - self.center) @ self.matrix


def _shrink(values: Tensor, n: int) -> Tensor:
    """Eigenvalues drawn to their mean, by the weight that suits n samples of a normal law (OAS)."""
    k = len(values)
    if k < 2:
        return values
    total, squares = float(values.sum()), float(values.square().sum())
    spread = squares - total**2 / k
    weight = ((1 - 2 / k) * squares + total**2) / ((n + 1 - 2 / k) * spread) if spread > 0 else math.inf
    return values.lerp(values.mean(), min(1.0, weight))
