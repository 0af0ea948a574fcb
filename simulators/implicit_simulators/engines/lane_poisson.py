r"""Poisson counts for rows in lockstep, exact: what keeps models that are seen through counts from crawling.

The sampler of the C library's kind draws one number at a time and spends most of its time on branches. Here 64 rows are
sorted into two lists. Those with a mean below 25 are inverted together, one term of the distribution a turn:

.. math:: k = \min\{k : u \le \sum_{i \le k} e^{-\mu} \mu^i / i!\}

The others take Hörmann's transformed rejection with squeeze (PTRS): a first proposal for all at once, of which about
five in six pass the squeeze; the exact test for the rest; and new proposals, in shorter and shorter lists, for those
rejected. Attempt a of a row draws from the counter (cell, row, stream, a), so counts depend on nothing but that and the
mean.

Importing this module imports numba.

References:
    | The transformed rejection method for generating Poisson random variables (Hörmann, 1993)
    | https://doi.org/10.1016/0167-6687(93)90997-4
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from implicit_simulators.engines.lanes import JIT, any_exp, log, philox, unit_above

SMALL = 25.0
"""Means below are inverted, which costs a term for each count; PTRS, for means of at least 10, costs more below it."""

MEAN, U, V, COUNT, ROOT, SUM, TERM, SCRATCH = range(8)
"""Rows of the working table; the last is how many there are."""

LARGEST = 1e15
"""Means from here on give NaN: single counts are beyond double precision."""

_MOST_TERMS = 200  # of the distribution at a mean below 25: the rest is smaller than 1e-90


@njit(inline="always", **JIT)
def propose(
    table: Any, lanes: Any, count: int, cell: int, row: int, stream: int, attempt: int, k0: Any, k1: Any
) -> Any:
    """Two uniform numbers for each row of a list, in ``table[U]`` and ``table[V]``."""
    c0, c2, c3 = np.uint64(cell), np.uint64(stream), np.uint64(attempt)
    for i in range(count):
        first, second = philox(c0, np.uint64(row + lanes[i]), c2, c3, k0, k1)
        table[U, i] = unit_above(first)
        table[V, i] = unit_above(second)


@njit(inline="always", **JIT)
def fill_poisson(
    means: Any, out: Any, table: Any, lanes: Any, width: int, cell: int, row: int, stream: int, k0: Any, k1: Any
) -> None:
    """Counts ``out[0:width]`` with the given means: one for each of rows ``row`` to ``row + width``.

    Means that are negative, NaN, or at least ``LARGEST`` give NaN.

    Args:
        means: Shape (64,).
        out: Shape (64,), float64.
        table: Working space with shape (SCRATCH, 64).
        lanes: Working space with shape (2, 64), int64.
        width: How many of the 64 are wanted.
        cell: Number of this draw among those of a row.
        row: Number of the first row.
        stream: Third word of the counter.
        k0: Low half of the key.
        k1: High half of the key.
    """
    small = large = 0
    for lane in range(width):
        mean = means[lane]
        lanes[0, small] = lane
        lanes[1, large] = lane
        small += int((mean >= 0.0) & (mean < SMALL))
        large += int((mean >= SMALL) & (mean < LARGEST))
        out[lane] = np.nan
    if small:
        _invert(means, out, table, lanes[0], small, cell, row, stream, k0, k1)
    if large:
        _reject(means, out, table, lanes[1], large, cell, row, stream, k0, k1)


@njit(inline="always", **JIT)
def _invert(
    means: Any, out: Any, table: Any, lanes: Any, count: int, cell: int, row: int, stream: int, k0: Any, k1: Any
) -> None:
    for i in range(count):
        table[MEAN, i] = means[lanes[i]]
    width = (count + 7) & ~7
    for i in range(count, width):
        table[MEAN, i] = 0.0
        lanes[i] = 0
    propose(table, lanes, width, cell, row, stream, 0, k0, k1)
    for i in range(width):
        term = any_exp(-table[MEAN, i])
        table[TERM, i] = term
        table[SUM, i] = term
        table[COUNT, i] = 0.0
    for k in range(1, _MOST_TERMS):
        inverse = 1.0 / k
        beyond = np.int64(0)  # an integer sum, which is vector code; a maximum of floats would not be, for NaN's sake
        for i in range(width):
            more = np.int64(table[U, i] > table[SUM, i])
            beyond += more
            table[COUNT, i] += np.float64(more)
            term = table[TERM, i] * (table[MEAN, i] * inverse)
            table[TERM, i] = term
            table[SUM, i] += term
        if beyond == 0:
            break
    for i in range(count):
        out[lanes[i]] = table[COUNT, i]


@njit(inline="always", **JIT)
def _reject(
    means: Any, out: Any, table: Any, lanes: Any, count: int, cell: int, row: int, stream: int, k0: Any, k1: Any
) -> None:
    for i in range(count):
        table[MEAN, i] = means[lanes[i]]
    width = (count + 7) & ~7
    for i in range(count, width):
        lanes[i] = 0
        table[MEAN, i] = SMALL
    for i in range(width):
        table[ROOT, i] = np.sqrt(table[MEAN, i])
    attempt = 0
    while count > 0:
        # whole vectors: what is left over would be done one by one; lanes from count on hold leftovers
        width = (count + 7) & ~7
        propose(table, lanes, width, cell, row, stream, attempt, k0, k1)
        for i in range(width):
            root = table[ROOT, i]
            b = 0.931 + 2.53 * root
            a = -0.059 + 0.02483 * b
            u = table[U, i] - 0.5
            us = 0.5 - abs(u)
            table[COUNT, i] = np.floor((2.0 * a / us + b) * u + table[MEAN, i] + 0.43)
            # the squeeze, v <= 0.9277 - 3.6224 / (b - 2), multiplied out
            table[SUM, i] = 0.0 if (us >= 0.07) & ((0.9277 - table[V, i]) * (b - 2.0) >= 3.6224) else 1.0
        # written without branches, which would be guessed wrongly a third of the time: every count is put in its place,
        # and those that fail a test are overwritten by a later attempt
        waiting = 0
        for i in range(count):
            lane = lanes[i]
            out[lane] = table[COUNT, i]
            lanes[waiting] = lane
            table[MEAN, waiting] = table[MEAN, i]
            table[U, waiting] = table[U, i]
            table[V, waiting] = table[V, i]
            table[COUNT, waiting] = table[COUNT, i]
            table[ROOT, waiting] = table[ROOT, i]
            waiting += int(table[SUM, i])
        for i in range((waiting + 7) & ~7):
            b = 0.931 + 2.53 * table[ROOT, i]
            a = -0.059 + 0.02483 * b
            us = 0.5 - abs(table[U, i] - 0.5)
            inside = (table[COUNT, i] >= 0.0) & ((us >= 0.013) | (table[V, i] <= us))
            k = max(table[COUNT, i], 0.0)
            # v (1.1239 + 1.1328 / (b - 3.4)) / (a / us**2 + b), in one division
            c, s = b - 3.4, us * us
            height = table[V, i] * s * (1.1239 * c + 1.1328) / (c * (a + b * s))
            # log k! by Stirling's series at k + 8, less the logarithm of (k + 1) ... (k + 7), which joins the height
            x = k + 8.0
            product = (k + 1.0) * (k + 2.0) * (k + 3.0) * (k + 4.0) * (k + 5.0) * (k + 6.0) * (k + 7.0)
            w = 1.0 / x
            q = w * w
            series = w * (1 / 12 - q * (1 / 360 - q * (1 / 1260 - q * (1 / 1680 - q * (1 / 1188)))))
            stirling = (x - 0.5) * log(x) - x + 0.9189385332046727 + series
            exact = log(height / product) + stirling <= k * log(table[MEAN, i]) - table[MEAN, i]
            table[SUM, i] = 0.0 if inside & exact else 1.0
        count = 0
        for i in range(waiting):
            lanes[count] = lanes[i]
            table[MEAN, count] = table[MEAN, i]
            table[ROOT, count] = table[ROOT, i]
            count += int(table[SUM, i])
        attempt += 1
