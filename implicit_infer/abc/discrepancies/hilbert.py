r"""Places along a Hilbert curve: an order of points in a cube in which neighbours are near each other.

The curve of k bits visits the :math:`2^{kp}` cells of a grid, each a neighbour of the one before. Its index is found by
undoing, bit by bit from the top, the rotations and reflections of the smaller cubes it is made of.

References:
    | Programming the Hilbert curve (Skilling, 2004)
    | https://doi.org/10.1063/1.1751381
"""

from __future__ import annotations

import torch
from torch import Tensor

BITS = 62
"""Bits of an index: what an int64 holds without its sign."""

FINEST = 16
"""The most bits of a column: finer than data are compared at."""


def hilbert_index(cells: Tensor, bits: int) -> Tensor:
    """Index along the curve of grid cells.

    Args:
        cells: Whole numbers in [0, 2 ** bits) with shape (..., p), int64.
        bits: Bits of each column; ``bits * p`` is at most 62.

    Returns:
        Whole numbers in [0, 2 ** (bits p)) with shape (...), int64; each cell has its own.

    Raises:
        ValueError: If the index would not fit.
    """
    width = cells.shape[-1]
    if bits < 1 or bits * width > BITS:
        raise ValueError(f"bits: expected between 1 and {BITS} over the {width} columns; got {bits}")
    axes = list(cells.unbind(-1))
    for level in range(bits - 1, 0, -1):
        high = 1 << level
        low = high - 1
        for i in range(width):
            mirrored = (axes[i] & high) != 0
            swap = (axes[0] ^ axes[i]) & low
            first = torch.where(mirrored, axes[0] ^ low, axes[0] ^ swap)
            if i > 0:
                axes[i] = torch.where(mirrored, axes[i], axes[i] ^ swap)
            axes[0] = first
    for i in range(1, width):
        axes[i] = axes[i] ^ axes[i - 1]
    flips = torch.zeros_like(axes[0])
    for level in range(bits - 1, 0, -1):
        high = 1 << level
        flips = torch.where((axes[-1] & high) != 0, flips ^ (high - 1), flips)
    axes = [axis ^ flips for axis in axes]
    index = torch.zeros_like(axes[0])
    for level in range(bits - 1, -1, -1):
        for axis in axes:
            index = (index << 1) | ((axis >> level) & 1)
    return index


def hilbert_order(points: Tensor) -> Tensor:
    """The order in which the curve meets the points of each set.

    Args:
        points: In the unit cube, with shape (b, m, p), p at most 62.

    Returns:
        Rows of points, with shape (b, m).
    """
    bits = max(1, min(FINEST, BITS // points.shape[2]))
    cells = (points.double() * 2**bits).long().clamp(0, 2**bits - 1)
    return hilbert_index(cells, bits).argsort(dim=1, stable=True)
