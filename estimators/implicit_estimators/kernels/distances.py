"""Distances between samples, and the bandwidths that are placed by them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from implicit_estimators.seeds import Seed, generator

LADDER = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Bandwidths in units of the median distance: fine structure to overall shape, each half of the next."""


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    r"""Squared Euclidean distances of all pairs, by one matrix product.

    Both are centred on y's mean first: in :math:`|x|^2 + |y|^2 - 2 x \cdot y` far from the origin, large numbers
    would cancel.

    Args:
        x: Points with shape (\*, n, d).
        y: Points with shape (\*, m, d).

    Returns:
        Distances with shape (\*, n, m), not negative.
    """
    centre = y.mean(-2, keepdim=True)
    x, y = x - centre, y - centre
    squares = x.square().sum(-1).unsqueeze(-1) + y.square().sum(-1).unsqueeze(-2)
    return (squares - 2 * x @ y.mT).clamp(min=0)


def exact_squared_distances(x: Tensor, y: Tensor) -> Tensor:
    r"""Squared Euclidean distances of all pairs, from their differences: exact at 0, at d times the memory.

    Args:
        x: Points with shape (\*, n, d).
        y: Points with shape (\*, m, d).

    Returns:
        Distances with shape (\*, n, m).
    """
    return (x.unsqueeze(-2) - y.unsqueeze(-3)).square().sum(-1)


def median_distance(x: Tensor, y: Tensor, seed: Seed = None, most: int = 1000) -> float:
    """Median distance between pairs of x and y together: the usual bandwidth (the "median heuristic").

    Args:
        x: Samples with shape (n, d).
        y: Samples with shape (m, d).
        seed: Seed of the subsample.
        most: Samples of each that are looked at.

    Returns:
        The median; where more than half of the pairs coincide, the mean; 1 if all do.

    Raises:
        ValueError: If there are fewer than 2 samples in all.
    """
    if len(x) + len(y) < 2:
        raise ValueError(f"x, y: expected at least 2 samples in all; got {len(x)} and {len(y)}")
    draw = generator(seed, x.device)
    some = [sample.detach()[torch.randperm(len(sample), generator=draw, device=x.device)[:most]] for sample in (x, y)]
    distances = torch.nn.functional.pdist(torch.cat(some))
    middle = float(distances.median()) or float(distances.mean())
    return middle or 1.0


def ladder(median: float, factors: Sequence[float] = LADDER) -> tuple[float, ...]:
    """Bandwidths: ``median`` times each of ``factors``."""
    return tuple(median * factor for factor in factors)
