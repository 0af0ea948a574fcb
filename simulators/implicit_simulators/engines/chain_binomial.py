r"""Chain-binomial epidemics: in each step of time everybody who can moves on, independently, with some probability.

Susceptible people go through the stages of an infection, the last of which is infectious. In a step of length h, each
susceptible one is infected, and each in stage j leaves it, with the probabilities

.. math:: 1 - \exp\left(-h\, \frac{\beta I}{N}\right), \qquad 1 - \exp(-h \gamma_j),

all at the counts at the start of the step, so that the moves are binomial numbers. As :math:`h \to 0` it is the Markov
jump process; with everybody leaving the last stage in one step it is the chain of Reed and Frost, in which a
susceptible one escapes each infectious one with probability :math:`q = \exp(-h \beta / N)`.

References:
    | An examination of the Reed-Frost theory of epidemics (Abbey, 1952)
    | Time series analysis via mechanistic models (Bretó, He, Ionides & King, 2009)
    | https://doi.org/10.1214/08-AOAS201
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from implicit_simulators.engines.rows import integer, key_words, matrix


def chain_binomial(
    rates: Any, initial: Any, intervals: int, steps: int, width: float, key: int, first_row: int = 0
) -> np.ndarray:
    """Simulate one epidemic for each row, with the interpreter lock released.

    A row's random numbers are those of its number under the key, whatever the other rows.

    Args:
        rates: Shape (n, k): the rate of infection by one infectious person, beta / N, and the rates of leaving each of
            the k - 1 stages.
        initial: Susceptible people, and people in each of the stages, with shape (n, k).
        intervals: Number of records after the initial one.
        steps: Steps from one record to the next.
        width: Time between two records.
        key: Key of the random numbers, in [0, 2**64).
        first_row: Number of the first row.

    Returns:
        Counts with shape (n, intervals + 1, k), float64. Rows with a negative or undefined rate are NaN but for the
        initial counts.

    Raises:
        ValueError: If an argument has another shape or is out of range.
    """
    initial = np.ascontiguousarray(initial, dtype=np.float64)
    if initial.ndim != 2 or initial.shape[1] < 2:
        raise ValueError(f"initial: expected shape (n, k), with k at least 2; got {initial.shape}")
    n, k = initial.shape
    rates = matrix(rates, "rates", k, n)
    intervals = integer(intervals, "intervals", 1, 2**31)
    steps = integer(steps, "steps", 1, 2**31)
    if intervals * steps >= 2**32:
        raise ValueError(f"steps: expected fewer than 2**32 in all; got {intervals} * {steps}")
    if not (width > 0 and np.isfinite(width)):
        raise ValueError(f"width: expected a positive number; got {width}")
    k0, k1 = key_words(key)
    first_row = integer(first_row, "first_row", 0, 2**32 - n)
    states = np.empty((n, intervals + 1, k))
    _kernel()(rates, initial, steps, float(width) / steps, k0, k1, first_row, states)
    return states


def prepare_chain() -> float:
    """Compile it, or load it from disk, now rather than at the first call; the seconds that took."""
    table, word = np.ones((1, 2)), np.uint64(0)
    seconds: float = _kernel().prepare(table, table, 1, 1.0, word, word, 0, np.ones((1, 2, 2)))
    return seconds


@lru_cache(maxsize=1)
def _kernel() -> Any:
    """The loop for any number of stages; numba is imported, and compiles or finds it on disk, at the first call."""
    from numba import njit

    from implicit_simulators.engines.counts import binomial
    from implicit_simulators.engines.kernel_cache import CachedKernel
    from implicit_simulators.engines.lanes import JIT

    @njit(**JIT)
    def run(rates, initial, steps, h, k0, k1, first_row, states):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - numba infers these
        n, times, k = states.shape
        x, moved = np.empty(k), np.empty(k)
        for number in range(n):
            row = np.uint64(first_row + number)
            step = np.uint64(0)
            legal = True
            for j in range(k):
                x[j] = states[number, 0, j] = initial[number, j]
                legal &= 0.0 <= rates[number, j] < np.inf
            for place in range(1, times):
                for _ in range(steps):
                    for j in range(k):
                        rate = rates[number, j] * (x[k - 1] if j == 0 else 1.0)
                        moved[j] = binomial(x[j], -np.expm1(-rate * h), step, row, np.uint64(j), k0, k1)
                    step += np.uint64(1)
                    x[0] -= moved[0]
                    for j in range(1, k):
                        x[j] += moved[j - 1] - moved[j]
                for j in range(k):
                    states[number, place, j] = x[j] if legal else np.nan
        return

    return CachedKernel(run, ("chain",), "the chain binomial")
