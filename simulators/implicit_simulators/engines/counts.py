r"""Poisson and binomial numbers from a counter: what leaps and measurements draw, the same however rows are split.

A draw belongs to an address, the words (step, row, role) under a key, and is a function of its address and its
parameters alone. Where the mean is small the distribution function is inverted, by adding up probabilities from zero;
where it is large the transformed rejection of Hörmann takes between 1.1 and 1.3 pairs of uniform numbers, the fourth
word of the counter numbering the pairs. Both are exact up to the 52 bits of the uniform numbers.

Rejection compares with probabilities in Loader's saddle-point form, which keeps its digits at any mean, where
:math:`k \log \lambda - \lambda - \log k!` cancels:

.. math:: \log P(k; \lambda) = -\tfrac12 \log(2 \pi k) - \delta(k) - D(k, \lambda), \quad
    D(k, \lambda) = k \log\frac{k}{\lambda} + \lambda - k

with the error :math:`\delta` of Stirling's formula.

Importing this module imports numba.

References:
    | The transformed rejection method for generating Poisson random variables (Hörmann, 1993)
    | https://doi.org/10.1016/0167-6687(93)90997-4
    | The generation of binomial random variates (Hörmann, 1993)
    | https://doi.org/10.1080/00949659308811496
    | Fast and accurate computation of binomial probabilities (Loader, 2000)
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from implicit_simulators.engines.lanes import JIT, log, philox, unit_above, unit_below

SMALL = 10.0
"""Mean below which the distribution function is inverted: where Hörmann's constants begin to hold."""

_LAST = 150
"""Where inversion stops adding: at a mean of 10, P(k > 150) is below 1e-110, and a uniform number has 52 bits."""

_RECIPROCALS = 1.0 / np.arange(1, _LAST + 2)  # a product waits a third as long as a division
_STIRLING_ERRORS = np.array(
    [0.0] + [math.lgamma(k + 1) - (k + 0.5) * math.log(k) + k - 0.5 * math.log(2 * math.pi) for k in range(1, 16)]
)


@njit(**JIT)
def stirling_error(k: float) -> float:
    r""":math:`\delta(k) = \log k! - \log(\sqrt{2 \pi k}\,(k / e)^k)` for an integer k of at least 1."""
    if k < 16.0:
        return _STIRLING_ERRORS[int(k)]
    inverse = 1.0 / k
    s = inverse * inverse
    return inverse * (1 / 12 - s * (1 / 360 - s * (1 / 1260 - s * (1 / 1680 - s / 1188))))


@njit(**JIT)
def deviance(k: float, mean: float) -> float:
    r""":math:`D(k, \lambda) = k \log(k / \lambda) + \lambda - k` for positive arguments, exact near zero."""
    distance = k - mean
    if abs(distance) > 0.1 * (k + mean):
        return k * log(k / mean) - distance
    # k log(k / mean) = 2 k artanh(v), v = (k - mean) / (k + mean), as a series from its second term on
    v = distance / (k + mean)
    total = distance * v
    term, square = 2.0 * k * v, v * v
    order = 3.0
    while True:
        term *= square
        longer = total + term / order
        if longer == total:
            return total
        total = longer
        order += 2.0


@njit(**JIT)
def log_poisson(k: float, mean: float) -> float:
    """Log probability of the count k, at least 0, under a Poisson law with a positive mean."""
    if k == 0.0:
        return -mean
    return -0.5 * log(2.0 * math.pi * k) - stirling_error(k) - deviance(k, mean)


@njit(**JIT)
def log_binomial(k: float, trials: float, p: float) -> float:
    """Log probability of k successes in ``trials``, for 0 <= k <= trials and 0 < p < 1."""
    if k == 0.0:
        return trials * math.log1p(-p)
    if k == trials:
        return trials * math.log(p)
    rest = trials - k
    errors = stirling_error(trials) - stirling_error(k) - stirling_error(rest)
    shape = 0.5 * log(trials / (2.0 * math.pi * k * rest))
    return shape + errors - deviance(k, trials * p) - deviance(rest, trials * (1.0 - p))


@njit(**JIT)
def poisson(mean: float, step: np.uint64, row: np.uint64, role: np.uint64, k0: np.uint64, k1: np.uint64) -> float:
    r"""A Poisson number with mean :math:`\lambda`, at one address.

    Inversion below a mean of 10, Hörmann's PTRS above: 1.1 pairs of uniform numbers at large means, 1.3 at 10.

    Args:
        mean: The mean; negative, undefined and infinite ones give NaN.
        step: First word of the counter, below 2**32.
        row: Second word, below 2**32.
        role: Third word, below 2**32; the fourth is used up by rejection.
        k0: First word of the key, below 2**32.
        k1: Second word of the key, below 2**32.

    Returns:
        The count as a float (exact below 2**53), or NaN.
    """
    if not (0.0 <= mean < np.inf):
        return np.nan
    if mean < SMALL:
        first, _ = philox(step, row, role, np.uint64(0), k0, k1)
        left = unit_below(first)
        probability = math.exp(-mean)
        k = 0
        while left >= probability and k < _LAST:
            left -= probability
            probability *= mean * _RECIPROCALS[k]
            k += 1
        return float(k)

    root = math.sqrt(mean)
    b = 0.931 + 2.53 * root
    a = -0.059 + 0.02483 * b
    squeeze = 0.9277 - 3.6224 / (b - 2.0)
    attempt = np.uint64(0)
    while True:
        first, second = philox(step, row, role, attempt, k0, k1)
        attempt += np.uint64(1)
        u, v = unit_below(first) - 0.5, unit_above(second)
        edge = 0.5 - abs(u)
        k = np.floor((2.0 * a / edge + b) * u + mean + 0.43)
        if edge >= 0.07 and v <= squeeze:
            return k
        if k < 0.0 or (edge < 0.013 and v > edge):
            continue
        height = v * (1.1239 + 1.1328 / (b - 3.4)) / (a / (edge * edge) + b)
        if log(height) <= log_poisson(k, mean):
            return k


@njit(**JIT)
def binomial(
    trials: float, p: float, step: np.uint64, row: np.uint64, role: np.uint64, k0: np.uint64, k1: np.uint64
) -> float:
    """A binomial number of successes in ``trials`` with probability ``p`` each, at one address.

    Inversion where fewer than 10 successes, or failures, are expected; Hörmann's BTRS elsewhere.

    Args:
        trials: How many, a whole number; negative and undefined ones give NaN.
        p: Probability of success; NaN and values outside of [0, 1] give NaN.
        step: First word of the counter, below 2**32.
        row: Second word, below 2**32.
        role: Third word, below 2**32; the fourth is used up by rejection.
        k0: First word of the key, below 2**32.
        k1: Second word of the key, below 2**32.

    Returns:
        The count as a float (exact below 2**53), or NaN.
    """
    if not (0.0 <= trials < np.inf and 0.0 <= p <= 1.0):
        return np.nan
    if p > 0.5:
        return trials - _binomial_below_half(trials, 1.0 - p, step, row, role, k0, k1)
    return _binomial_below_half(trials, p, step, row, role, k0, k1)


@njit(**JIT)
def _binomial_below_half(
    trials: float, p: float, step: np.uint64, row: np.uint64, role: np.uint64, k0: np.uint64, k1: np.uint64
) -> float:
    if trials == 0.0 or p == 0.0:
        return 0.0
    if trials * p < SMALL:
        first, _ = philox(step, row, role, np.uint64(0), k0, k1)
        left = unit_below(first)
        probability = math.exp(trials * math.log1p(-p))
        odds = p / (1.0 - p)
        k = 0
        while left >= probability and k < trials and k < _LAST:
            left -= probability
            probability *= odds * (trials - k) * _RECIPROCALS[k]
            k += 1
        return float(k)

    root = math.sqrt(trials * p * (1.0 - p))
    b = 1.15 + 2.53 * root
    a = -0.0873 + 0.0248 * b + 0.01 * p
    squeeze = 0.92 - 4.2 / b
    scale = (2.83 + 5.1 / b) * root
    highest = log_binomial(np.floor((trials + 1.0) * p), trials, p)
    attempt = np.uint64(0)
    while True:
        first, second = philox(step, row, role, attempt, k0, k1)
        attempt += np.uint64(1)
        u, v = unit_below(first) - 0.5, unit_above(second)
        edge = 0.5 - abs(u)
        k = np.floor((2.0 * a / edge + b) * u + trials * p + 0.5)
        if edge >= 0.07 and v <= squeeze:
            return k
        if k < 0.0 or k > trials:
            continue
        if log(v * scale / (a / (edge * edge) + b)) <= log_binomial(k, trials, p) - highest:
            return k


@njit(**JIT)
def fill_poisson(means: np.ndarray, k0: int, k1: int, first_row: int, counts: np.ndarray) -> None:
    """Draw ``counts`` (n, c) with ``means`` (n, c); row i has the numbers of row ``first_row + i``."""
    for i in range(means.shape[0]):
        for j in range(means.shape[1]):
            counts[i, j] = poisson(
                means[i, j], np.uint64(j), np.uint64(first_row + i), np.uint64(0), np.uint64(k0), np.uint64(k1)
            )


@njit(**JIT)
def fill_binomial(trials: np.ndarray, p: np.ndarray, k0: int, k1: int, first_row: int, counts: np.ndarray) -> None:
    """Draw ``counts`` (n, c) of ``trials`` (n, c), probability ``p`` (n, c); rows as in :func:`fill_poisson`."""
    for i in range(trials.shape[0]):
        for j in range(trials.shape[1]):
            counts[i, j] = binomial(
                trials[i, j],
                p[i, j],
                np.uint64(j),
                np.uint64(first_row + i),
                np.uint64(0),
                np.uint64(k0),
                np.uint64(k1),
            )
