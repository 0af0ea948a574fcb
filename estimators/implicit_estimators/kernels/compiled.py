r"""Sums of a kernel over all pairs and their gradient, in vector code: tiles of pairs that stay in the nearest cache.

Four rows of x meet 128 of y at a time. Their squared distances are sums of squared differences, so that nothing
cancels however far from the origin the samples lie; the kernel overwrites the distances; what it leaves is summed in
double precision. The gradient

.. math:: \frac{\partial}{\partial x_i} \sum_{ij} k(\|x_i - y_j\|^2) = \sum_j w_{ij} (y_j - x_i), \quad
    w = -2 \, \frac{\partial k}{\partial \|x - y\|^2}

is summed from the same tiles, so that only numbers for each sample are kept. Pairs of one set are visited once: a tile
off the diagonal serves its rows and its columns.

Importing this module imports numba, and the first call compiles for some seconds; the machine code is kept on disk
beside this file or in numba's cache folder.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from implicit_estimators.kernels.vectors import exp2, log2, widest_vectors

logger = logging.getLogger(__name__)

GAUSSIAN, RATIONAL_QUADRATIC, LAPLACE, DISTANCE = range(4)
"""Kinds of kernels; what the rows of ``parts`` are is said at each function."""

TILE = 128
"""Columns of a tile."""

ROWS = 4
"""Rows of a tile."""

_BUFFER = ROWS * TILE
_SUMS: dict[str, Any] = {"error_model": "numpy", "nogil": True, "fastmath": {"contract", "nsz", "reassoc"}}
"""Sums may be reordered, else they are not vectorised; numbers are finite or not as they come (no ``nnan``)."""

_F = np.float32
_ZERO, _ONE = _F(0), _F(1)
_TINIEST = _F(2.0**-31)
"""What a fourth power is taken of at least, for arithmetic on subnormal numbers is a hundredfold slower."""


def _kept(function: Callable[..., Any]) -> Any:
    """``function`` compiled, and kept on disk where any folder can be written."""
    try:
        return njit(cache=True, **_SUMS)(function)
    except RuntimeError as error:
        logger.debug("the machine code of kernels is not kept on disk: %s", error)
        return njit(**_SUMS)(function)


@njit(**_SUMS)
def _distances(rows: Any, columns: Any, values: Any) -> None:
    """Squared distances of four rows (4, d) and the columns (d, 128), into ``values``; d is even."""
    widest_vectors()
    for j in range(_BUFFER):
        values[j] = _ZERO
    for k in range(0, rows.shape[1], 2):
        pair = columns[k * TILE : (k + 2) * TILE]  # indices into a slice need no check of their sign, which is a branch
        a0, a1, a2, a3 = rows[0, k], rows[1, k], rows[2, k], rows[3, k]
        c0, c1, c2, c3 = rows[0, k + 1], rows[1, k + 1], rows[2, k + 1], rows[3, k + 1]
        for j in range(TILE):
            b, c = pair[j], pair[TILE + j]
            values[j] += (b - a0) * (b - a0) + (c - c0) * (c - c0)
            values[TILE + j] += (b - a1) * (b - a1) + (c - c1) * (c - c1)
            values[2 * TILE + j] += (b - a2) * (b - a2) + (c - c2) * (c - c2)
            values[3 * TILE + j] += (b - a3) * (b - a3) + (c - c3) * (c - c3)


@njit(**_SUMS)
def _gaussian(squared: Any, values: Any, slopes: Any, power: Any, parts: Any, sloped: bool) -> None:
    """Gaussians: factor of the squared distance to base 2 (0: the last one's fourth power), and weight of the slope."""
    widest_vectors()
    for b in range(parts.shape[0]):
        factor, weight = parts[b, 0], parts[b, 1]
        if b == 0:
            for j in range(_BUFFER):
                values[j] = _ZERO
                slopes[j] = _ZERO
        if factor != _ZERO:
            for j in range(_BUFFER):
                e = exp2(squared[j] * factor)
                power[j] = e
                values[j] += e
                slopes[j] += weight * e
        elif sloped:
            for j in range(_BUFFER):
                e = power[j]
                e = e if e > _TINIEST else _TINIEST
                e *= e
                e *= e
                power[j] = e
                values[j] += e
                slopes[j] += weight * e
        else:
            for j in range(_BUFFER):
                e = power[j]
                e = e if e > _TINIEST else _TINIEST
                e *= e
                e *= e
                power[j] = e
                values[j] += e


@njit(**_SUMS)
def _rational_quadratic(squared: Any, values: Any, slopes: Any, parts: Any, sloped: bool) -> None:
    """(1 + factor s) ** -alpha, for rows (factor, alpha, weight of the slope) of ``parts``."""
    widest_vectors()
    for b in range(parts.shape[0]):
        factor, alpha, weight = parts[b, 0], parts[b, 1], parts[b, 2]
        if b == 0:
            for j in range(_BUFFER):
                values[j] = _ZERO
                slopes[j] = _ZERO
        if sloped:
            for j in range(_BUFFER):
                u = _ONE + squared[j] * factor
                v = exp2(-alpha * log2(u))
                values[j] += v
                slopes[j] += weight * (v / u)
        else:
            for j in range(_BUFFER):
                values[j] += exp2(-alpha * log2(_ONE + squared[j] * factor))


@njit(**_SUMS)
def _laplace(squared: Any, values: Any, slopes: Any, parts: Any) -> None:
    """2 ** (-factor sqrt(s)), for rows (factor, weight of the slope); at distance 0, where it has none, slope 0."""
    widest_vectors()
    for b in range(parts.shape[0]):
        factor, weight = parts[b, 0], parts[b, 1]
        for j in range(_BUFFER):
            s = squared[j]
            r = np.sqrt(s)
            v = exp2(-factor * r)
            slope = weight * v / r if s > _ZERO else _ZERO
            values[j] = v if b == 0 else values[j] + v
            slopes[j] = slope if b == 0 else slopes[j] + slope


@njit(**_SUMS)
def _distance(squared: Any, values: Any, slopes: Any) -> None:
    """-sqrt(s); at distance 0, where it has none, slope 0."""
    widest_vectors()
    for j in range(_BUFFER):
        s = squared[j]
        r = np.sqrt(s)
        values[j] = -r
        slopes[j] = _ONE / r if s > _ZERO else _ZERO


@njit(**_SUMS)
def _total(values: Any) -> float:
    """The sum of a tile."""
    widest_vectors()
    total = _ZERO
    for j in range(_BUFFER):
        total += values[j]
    return float(total)


@njit(**_SUMS)
def _row_gradient(rows: Any, columns: Any, slopes: Any, gradient: Any, top: int, live: int, times: float) -> None:
    """Add ``times`` sum_j w (y_j - x_i) to the rows of ``gradient`` from ``top`` on."""
    widest_vectors()
    for k in range(gradient.shape[1]):
        column = columns[k * TILE : (k + 1) * TILE]
        a0, a1, a2, a3 = rows[0, k], rows[1, k], rows[2, k], rows[3, k]
        s0, s1, s2, s3 = _ZERO, _ZERO, _ZERO, _ZERO
        for j in range(TILE):
            b = column[j]
            s0 += slopes[j] * (b - a0)
            s1 += slopes[TILE + j] * (b - a1)
            s2 += slopes[2 * TILE + j] * (b - a2)
            s3 += slopes[3 * TILE + j] * (b - a3)
        gradient[top, k] += times * s0
        if live > 1:
            gradient[top + 1, k] += times * s1
        if live > 2:
            gradient[top + 2, k] += times * s2
        if live > 3:
            gradient[top + 3, k] += times * s3


@njit(**_SUMS)
def _column_gradient(rows: Any, columns: Any, slopes: Any, gradient: Any) -> None:
    """Add sum_i w (x_i - y_j) over four rows to ``gradient``, laid out as ``columns``."""
    widest_vectors()
    for k in range(rows.shape[1]):
        column, sums = columns[k * TILE : (k + 1) * TILE], gradient[k * TILE : (k + 1) * TILE]
        a0, a1, a2, a3 = rows[0, k], rows[1, k], rows[2, k], rows[3, k]
        for j in range(TILE):
            b = column[j]
            sums[j] += (slopes[j] * (a0 - b) + slopes[TILE + j] * (a1 - b)) + (
                slopes[2 * TILE + j] * (a2 - b) + slopes[3 * TILE + j] * (a3 - b)
            )


def _pairs(
    x: Any, y: Any, within: bool, kind: int, parts: Any, gradient_x: Any, gradient_y: Any, want_x: bool, want_y: bool
) -> float:
    """The sum of k(x_i, y_j) over all pairs, or over i != j where y is x; gradients are added to float64 arrays."""
    n, d = x.shape
    m = y.shape[0]
    even = d + d % 2
    rows = np.zeros((ROWS, even), np.float32)
    columns = np.zeros(even * TILE, np.float32)
    below = np.zeros(even * TILE, np.float32)
    squared = np.empty(_BUFFER, np.float32)
    values = np.empty(_BUFFER, np.float32)
    slopes = np.zeros(_BUFFER, np.float32)
    power = np.empty(_BUFFER, np.float32)
    sloped = want_x or want_y
    total = 0.0
    for left in range(0, m, TILE):
        width = min(TILE, m - left)
        for j in range(width):
            for k in range(d):
                columns[k * TILE + j] = y[left + j, k]
        for panel in range(0, left + TILE if within else n, TILE):
            diagonal = within and panel == left
            mirrored = within and not diagonal
            want_columns = want_y or (mirrored and want_x)
            times = 2.0 if mirrored else 1.0
            if want_columns:
                below[:] = _ZERO
            bottom = min(panel + TILE, n)
            for top in range(panel, bottom, ROWS):
                live = min(ROWS, bottom - top)
                for r in range(live):
                    for k in range(d):
                        rows[r, k] = x[top + r, k]
                _distances(rows, columns, squared)
                if kind == GAUSSIAN:
                    _gaussian(squared, values, slopes, power, parts, sloped)
                elif kind == RATIONAL_QUADRATIC:
                    _rational_quadratic(squared, values, slopes, parts, sloped)
                elif kind == LAPLACE:
                    _laplace(squared, values, slopes, parts)
                else:
                    _distance(squared, values, slopes)
                for r in range(ROWS):
                    padding = width if r < live else 0
                    if padding < TILE:
                        values[r * TILE + padding : (r + 1) * TILE] = _ZERO
                        slopes[r * TILE + padding : (r + 1) * TILE] = _ZERO
                    if diagonal and r < live:
                        values[r * TILE + top - panel + r] = _ZERO
                total += times * _total(values)
                if want_x:
                    _row_gradient(rows, columns, slopes, gradient_x, top, live, 2.0 if within else 1.0)
                if want_columns:
                    _column_gradient(rows, columns, slopes, below)
            if want_columns:
                for j in range(width):
                    for k in range(d):
                        if mirrored:
                            gradient_x[left + j, k] += 2.0 * below[k * TILE + j]
                        else:
                            gradient_y[left + j, k] += below[k * TILE + j]
    return total


pairs = _kept(_pairs)
