r"""Many numbers to few: columns that say nothing of theta are left out, and many that do become their regression.

A density of x given theta must model every number of x, and a network of many numbers learns many of them by heart. So
before a likelihood is learned:

1. *Screening.* A column whose ranks, and the distance of its ranks from their middle, are correlated with those of no
   parameter is left out. The test is two-sided at the level :data:`LEVEL` over all pairs (Bonferroni's bound): of
   columns that are independent of theta, all are left out in 99 of 100 problems.
2. *Projection.* If more than :data:`FEW` columns remain, the d fitted values of the linear regression of theta on them
   stand for all: the semi-automatic summaries, linear in x.

Both lose what they do not look for: a column that says something of theta only together with another one is dropped by
the first step, and what is not linear in x by the second. ``Reduction.note`` says what was done.

References:
    | Constructing summary statistics for approximate Bayesian computation (Fearnhead & Prangle, 2012)
    | https://doi.org/10.1111/j.1467-9868.2011.01010.x
    | Feature screening via distance correlation learning (Li, Zhong & Zhu, 2012), on screening by marginal dependence
    | https://doi.org/10.1080/01621459.2012.695654
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEVEL = 0.01
"""How often a column is kept by chance, over all columns of a problem."""

SMALL = 12
"""Up to so many columns nothing is left out."""

FEW = 30
"""The most columns that are kept as they are."""


class Reduction(nn.Module):
    """The map from (n, m) to (n, k), fitted to simulations.

    Args:
        raw: Data of the simulations, with shape (n, m).
        u: Their unconstrained parameters, with shape (n, d).

    Attributes:
        note: What was done, in words; empty if nothing was.
    """

    kept: Tensor
    location: Tensor
    projection: Tensor

    def __init__(self, raw: Tensor, u: Tensor) -> None:
        super().__init__()
        m = raw.shape[1]
        kept = torch.ones(m, dtype=torch.bool, device=raw.device)
        self.note = ""
        if m > SMALL:
            kept = dependent(raw, u)
            if not kept.any():
                kept[:] = True
        index = kept.nonzero()[:, 0]
        if len(index) < m:
            self.note = f"{m - len(index)} of {m} columns of x seem to say nothing of theta and were left out"
        self.register_buffer("kept", index)
        self.projected = len(index) > FEW and u.shape[1] < len(index)
        location = torch.zeros(len(index), dtype=raw.dtype, device=raw.device)
        projection = torch.zeros((0, 0), dtype=raw.dtype, device=raw.device)
        if self.projected:
            location, projection = _fitted(raw[:, index], u)
            said = f"{len(index)} columns of x are seen through the {u.shape[1]} values of a linear regression"
            self.note = f"{self.note}; {said}" if self.note else said
        self.register_buffer("location", location)
        self.register_buffer("projection", projection)

    @property
    def width(self) -> int:
        """K, how many numbers remain."""
        return self.projection.shape[1] if self.projected else len(self.kept)

    def forward(self, raw: Tensor) -> Tensor:
        r"""Reduce data with shape (\*, m)."""
        few = raw[..., self.kept]
        return (few - self.location) @ self.projection if self.projected else few


def dependent(raw: Tensor, u: Tensor) -> Tensor:
    r"""Which columns of raw (n, m) depend on a column of u (n, d), with shape (m,) and dtype bool.

    The statistic of a pair is the largest absolute correlation among the four of (ranks, folded ranks) of both, times
    :math:`\sqrt{n - 1}`: normal with variance one where the two are independent.
    """
    n = len(raw)
    x, theta = _scores(raw), _scores(u)
    statistic = (x.T @ theta).abs() / (n - 1) ** 0.5
    pairs = statistic.numel()
    tail = torch.tensor(LEVEL / (2 * pairs), dtype=torch.float64)
    threshold = float(-torch.special.ndtri(tail))
    strongest = statistic.amax(1).reshape(2, -1).amax(0)
    return strongest > threshold


def _scores(columns: Tensor) -> Tensor:
    """Ranks and folded ranks of each column, centred and scaled, with shape (n, 2 m); ties share their middle rank."""
    ranks = torch.stack([_ranks(column) for column in columns.double().T], 1)
    both = torch.cat((ranks, (ranks - 0.5).abs()), 1)
    centred = both - both.mean(0)
    return centred / centred.std(0).clamp_min(1e-12)


def _ranks(column: Tensor) -> Tensor:
    """Middle ranks in (0, 1)."""
    _, place, counts = column.unique(return_inverse=True, return_counts=True)
    middle = counts.cumsum(0) - 0.5 * counts
    return (middle / len(column))[place]


def _fitted(raw: Tensor, u: Tensor, ridge: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Centre (m,) and coefficients (m, d) of the ridge regression of u on raw."""
    x, y = raw.double(), u.double()
    location, scale = x.mean(0), x.std(0).clamp_min(1e-12)
    z = (x - location) / scale
    gram = z.T @ z + ridge * len(z) * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    slope = torch.linalg.solve(gram, z.T @ (y - y.mean(0)))
    return location.to(raw.dtype), (slope / scale[:, None]).to(raw.dtype)
