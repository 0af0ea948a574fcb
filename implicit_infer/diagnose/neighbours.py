"""Distances to nearest neighbours, in blocks: what precision, coverage and copies are counted by."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from implicit_simulators.base import as_tensor

BLOCK = 2048


def as_points(value: Any, name: str, rows: int = 2) -> Tensor:
    """Samples as points with shape (n, d) in float64; what has more axes is flattened.

    Raises:
        ValueError: If there are fewer than ``rows``, or a value is not finite.
    """
    points = as_tensor(value, name).detach()
    points = points.reshape(len(points), -1).double() if points.ndim else points
    if points.ndim != 2 or len(points) < rows or not points.shape[1]:
        raise ValueError(f"{name}: expected samples of shape (n, ...) with n >= {rows}; got {tuple(points.shape)}")
    if not bool(points.isfinite().all()):
        raise ValueError(f"{name}: expected finite values")
    return points


def as_two(first: Any, second: Any, names: tuple[str, str], rows: int = 2) -> tuple[Tensor, Tensor]:
    """Two sets of points of one width (see :func:`as_points`).

    Raises:
        ValueError: If either is refused, or their widths differ.
    """
    x, y = as_points(first, names[0], rows), as_points(second, names[1], rows)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"{names[0]}, {names[1]}: expected one width; got {x.shape[1]} and {y.shape[1]}")
    return x, y.to(x.device)


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances of all pairs, without the cancellation of the matrix product."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def radii(points: Tensor, k: int) -> Tensor:
    """Distance of each point to its k-th nearest neighbour among the others, with shape (n,)."""
    parts = []
    for start in range(0, len(points), BLOCK):
        found = distances(points[start : start + BLOCK], points)
        rows = torch.arange(len(found), device=found.device)
        found[rows, start + rows] = torch.inf
        parts.append(found.kthvalue(k, dim=1).values)
    return torch.cat(parts)


def nearest(points: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of each point to the nearest of ``among``, and which that is, each with shape (n,)."""
    parts = [distances(points[start : start + BLOCK], among).min(1) for start in range(0, len(points), BLOCK)]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])
