"""The compiled loop of tau-leaping: one row after another, as branches decide what each step is.

The loop is compiled once, kept on disk, and calls a network's rates through a pointer: a network then costs a tenth of
a second to compile, not three, and the call is cheap beside the Poisson numbers of a leap.

Importing this module imports numba.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit, types
from numba.core.types.function_type import CompileResultWAP

from implicit_simulators.engines.counts import poisson
from implicit_simulators.engines.kernel_cache import CachedKernel
from implicit_simulators.engines.lanes import JIT, log, philox, unit_above, unit_below

EXACT_EVENTS = 100
"""Exact events in a row, where leaps would be short."""

SHORTEST = 10.0
"""Mean waiting times that a leap must be worth."""

_VECTOR = types.float64[::1]
_RATES = types.void(_VECTOR, _VECTOR, _VECTOR)


def compile_rates(propensities: Callable[..., tuple[float, ...]], species: int, parameters: int, reactions: int) -> Any:
    """``rates(x, p, h)``, which writes the propensities of counts x and parameters p into h."""
    arguments = [f"x[{i}]" for i in range(species)] + [f"p[{j}]" for j in range(parameters)]
    source = ["def rates(x, p, h):", f"    result = propensities({', '.join(arguments)})"]
    source += [f"    h[{r}] = result[{r}]" for r in range(reactions)]
    namespace: dict[str, Any] = {"propensities": njit(**JIT)(propensities)}
    exec("\n".join(source), namespace)
    compiled = njit(_RATES, **JIT)(namespace["rates"])
    return CompileResultWAP(compiled.get_compile_result(_RATES))  # whose type is its signature, the same for all


@njit(**JIT)
def _total(h: np.ndarray) -> float:
    """Sum of the rates, or NaN if one is negative or undefined."""
    total = 0.0
    for r in range(len(h)):
        if not (h[r] >= 0.0):
            return np.nan
        total += h[r]
    return total if total < np.inf else np.nan


@njit(**JIT)
def _mark_critical(x: np.ndarray, h: np.ndarray, changes: np.ndarray, critical: int, marked: np.ndarray) -> float:
    """Mark the reactions that can fire fewer than ``critical`` times; the sum of their rates."""
    total = 0.0
    for r in range(len(h)):
        marked[r] = False
        if h[r] > 0.0:
            for i in range(len(x)):
                if changes[r, i] < 0.0 and np.floor(x[i] / -changes[r, i]) < critical:
                    marked[r] = True
        if marked[r]:
            total += h[r]
    return total


@njit(**JIT)
def _longest_leap(
    x: np.ndarray, h: np.ndarray, changes: np.ndarray, orders: np.ndarray, epsilon: float, marked: np.ndarray
) -> float:
    """The step of Cao et al. (2006) for the reactions that are not critical; infinite if there is none."""
    longest = np.inf
    for i in range(len(x)):
        order, taken = orders[i, 0], orders[i, 1]
        if order == 0:
            continue
        mean = variance = 0.0
        for r in range(len(h)):
            if not marked[r]:
                mean += changes[r, i] * h[r]
                variance += changes[r, i] * changes[r, i] * h[r]
        bound = 1.0
        if x[i] > taken:
            g = float(taken)
            for j in range(1, taken):
                g += j / (x[i] - j)
            bound = max(epsilon * x[i] * taken / (g * order), 1.0)
        if mean != 0.0:
            longest = min(longest, bound / abs(mean))
        if variance > 0.0:
            longest = min(longest, bound * bound / variance)
    return longest


@njit(**JIT)
def _pick(h: np.ndarray, below: float, marked: np.ndarray, only_marked: bool) -> int:
    """The reaction at which the running sum of rates passes ``below``; rounding cannot pick one of rate zero."""
    last = -1
    for r in range(len(h)):
        if h[r] > 0.0 and (marked[r] or not only_marked):
            last = r
            below -= h[r]
            if below < 0.0:
                break
    return last


def _loop(  # type: ignore[no-untyped-def]  # numba infers these
    rates,  # noqa: ANN001 - as above
    changes: np.ndarray,
    orders: np.ndarray,
    epsilon: float,
    fixed: float,
    critical: int,
    parameters: np.ndarray,
    initial: np.ndarray,
    times: np.ndarray,
    k0: np.uint64,
    k1: np.uint64,
    first_row: int,
    max_turns: int,
    states: np.ndarray,
    turns: np.ndarray,
) -> None:
    reactions, species = changes.shape
    h, marked = np.empty(reactions), np.empty(reactions, np.bool_)
    x, ahead = np.empty(species), np.empty(species)
    none, one = np.uint64(0), np.uint64(1)
    for number in range(len(parameters)):
        row = np.uint64(first_row + number)
        for i in range(species):
            x[i] = states[number, 0, i] = initial[number, i]
        now, place, exact = times[0], 1, 0
        turn = none
        while place < len(times):
            rates(x, parameters[number], h)
            total = _total(h)
            if np.isnan(total) or turn >= max_turns:
                for late in range(place, len(times)):
                    for i in range(species):
                        states[number, late, i] = np.nan
                break
            due = times[place]
            landed = False
            if total == 0.0:
                landed = True
            elif exact > 0:
                first, second = philox(turn, row, none, none, k0, k1)
                turn += one
                exact -= 1
                now -= log(unit_above(first)) / total
                landed = now > due
                if not landed:
                    fired = _pick(h, unit_below(second) * total, marked, False)
                    for i in range(species):
                        x[i] += changes[fired, i]
            else:
                slow = _mark_critical(x, h, changes, critical, marked)
                limit = fixed if fixed > 0.0 else _longest_leap(x, h, changes, orders, epsilon, marked)
                while turn < max_turns:
                    if fixed == 0.0 and limit < SHORTEST / total:
                        exact = EXACT_EVENTS
                        break
                    first, second = philox(turn, row, none, none, k0, k1)
                    tau = min(limit, due - now)
                    landed = tau == due - now
                    for i in range(species):
                        ahead[i] = x[i]
                    if slow > 0.0:
                        wait = -log(unit_above(first)) / slow
                        if wait < tau:
                            tau, landed = wait, False
                            fired = _pick(h, unit_below(second) * slow, marked, True)
                            for i in range(species):
                                ahead[i] += changes[fired, i]
                    for r in range(reactions):
                        if h[r] > 0.0 and not marked[r]:
                            count = poisson(h[r] * tau, turn, row, np.uint64(r + 1), k0, k1)
                            for i in range(species):
                                ahead[i] += changes[r, i] * count
                    turn += one
                    legal = True
                    for i in range(species):
                        legal &= ahead[i] >= 0.0
                    if legal:
                        for i in range(species):
                            x[i] = ahead[i]
                        now += tau
                        break
                    landed = False
                    limit = 0.5 * min(limit, due - now)
            if landed:
                # the time that was left to a next event is dropped: it would have been as long, drawn anew
                now = due
                while place < len(times) and times[place] <= now:
                    for i in range(species):
                        states[number, place, i] = x[i]
                    place += 1
        turns[number] = turn


@lru_cache(maxsize=1)
def loop() -> CachedKernel:
    """The loop for any network, given its compiled rates; compiled, or found on disk, at its first call."""
    return CachedKernel(njit(**JIT)(_loop), ("leaps",), "tau-leaping")
