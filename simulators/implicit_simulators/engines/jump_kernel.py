"""The compiled loop of the jump process: Gillespie's direct method for up to 64 rows in lockstep.

Every turn of the loop is one event in every lane, in three passes without branches: random words, logarithms, and the
clock. What needs a branch (recording a state, ending a row, starting the next in its lane) is marked in the bits of one
word and done lane by lane between passes. When no rows wait, the last lane moves into the place of one that ended, so
that long trajectories at the end of a batch do not drag idle lanes along.

Importing this module imports numba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from implicit_simulators.engines.lanes import JIT, leading_zeros, log, philox, unit_above, unit_below, widest_vectors
from implicit_simulators.engines.user_code import compiled

LANES = 64
"""Rows in lockstep: what one word of marks can hold, and what keeps the work in the first-level cache."""

EVENT, ROW, PLACE = range(3)  # rows of the integer table: events so far, row simulated, next time to record


def compile_kernel(
    propensities: Callable[..., tuple[float, ...]],
    stoichiometry: tuple[tuple[int, ...], ...],
    parameters: int,
    lanes: int = LANES,
) -> Any:
    """Compile the loop for one reaction network.

    Args:
        propensities: As for :func:`implicit_simulators.engines.jump.jump_process`.
        stoichiometry: Change of each of k species by each of R reactions.
        parameters: Number of parameters, m.
        lanes: Rows in lockstep, at most 64; results do not depend on it.

    Returns:
        ``kernel(parameters, initial, times, k0, k1, first_row, max_events, states, events)``, which writes
        the last two.
    """
    k, m, reactions = len(stoichiometry[0]), parameters, len(stoichiometry)
    # Rows of one table rather than an array each: LLVM would check every pair of arrays for overlap, in every pass.
    cumulative = k + m
    total = cumulative + reactions - 1
    lowest, clock, due, wait, pick = range(total + 1, total + 6)
    accumulate, react = _network(propensities, stoichiometry, m)

    @njit(forceinline=True, **JIT)
    def load(table, index, lane, row, parameters, initial, times, states):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - numba infers these
        for s in range(k):
            table[s, lane] = initial[row, s]
            states[row, 0, s] = initial[row, s]
        for j in range(m):
            table[k + j, lane] = parameters[row, j]
        table[clock, lane], table[due, lane] = times[0], times[1]
        index[EVENT, lane], index[ROW, lane], index[PLACE, lane] = 0, row, 1

    @njit(forceinline=True, **JIT)
    def record(table, index, lane, times, max_events, states):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - numba infers these
        """Write the states that hold until the next event; whether the row has ended."""
        row, place = index[ROW, lane], index[PLACE, lane]
        broken = table[lowest, lane] < 0.0 or np.isnan(table[total, lane])
        if not broken:
            if table[total, lane] == 0.0:
                table[clock, lane] = np.inf
            while place < len(times) and times[place] <= table[clock, lane]:
                for s in range(k):
                    states[row, place, s] = table[s, lane]
                place += 1
        if broken or index[EVENT, lane] >= max_events:
            while place < len(times):
                for s in range(k):
                    states[row, place, s] = np.nan
                place += 1
        if place == len(times):
            return True
        table[due, lane] = times[place]
        index[PLACE, lane] = place
        return False

    @njit(**JIT)
    def kernel(parameters, initial, times, k0, k1, first_row, max_events, states, events):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - numba infers these
        widest_vectors()  # type: ignore[call-arg]  # numba gives the context
        none = np.uint64(0)
        one = np.uint64(1)
        table = np.ones((pick + 1, lanes))
        index = np.zeros((3, lanes), np.int64)
        live = min(lanes, len(parameters))
        for lane in range(live):
            load(table, index, lane, lane, parameters, initial, times, states)
        waiting = live
        while live > 0:
            width = (live + 7) & ~7  # whole vectors; lanes from live on hold leftovers, which nothing reads
            for lane in range(width):
                event, row = np.uint64(index[EVENT, lane]), np.uint64(index[ROW, lane] + first_row)
                first, second = philox(event, row, none, none, k0, k1)
                table[wait, lane] = unit_above(first)
                table[pick, lane] = unit_below(second)
            for lane in range(width):
                table[wait, lane] = log(table[wait, lane])
            marks = none
            for lane in range(width):
                smallest = accumulate(table, lane)
                rate = table[total, lane]
                now = table[clock, lane] - table[wait, lane] / rate
                table[clock, lane] = now
                table[lowest, lane] = smallest
                table[pick, lane] *= rate
                # not (now < due), so that the NaN and infinity of a rate of zero or NaN are marked too
                mark = (not (now < table[due, lane])) | (smallest < 0.0) | (index[EVENT, lane] >= max_events)
                marks |= np.uint64(mark) << np.uint64(lane)
            if live < 64:
                marks &= (one << np.uint64(live)) - one
            while marks:
                # from the highest lane down, so that the lane which moves into a gap has been dealt with
                lane = 63 - leading_zeros(marks)
                marks ^= one << np.uint64(lane)
                if record(table, index, lane, times, max_events, states):
                    events[index[ROW, lane]] = index[EVENT, lane]
                    if waiting < len(parameters):
                        load(table, index, lane, waiting, parameters, initial, times, states)
                        waiting += 1
                        index[EVENT, lane] = -1
                        table[pick, lane] = np.inf  # no reaction in what is left of this turn
                    else:
                        live -= 1
                        for column in range(pick + 1):
                            table[column, lane] = table[column, live]
                        for column in range(3):
                            index[column, lane] = index[column, live]
            for lane in range(width):
                react(table, lane, table[pick, lane])
                index[EVENT, lane] += 1

    return kernel


def _network(
    propensities: Callable[..., tuple[float, ...]], stoichiometry: tuple[tuple[int, ...], ...], m: int
) -> tuple[Any, Any]:
    """Two functions of one lane: sum up the propensities, and apply the reaction that a number picks.

    They are written out for the network, species by species and reaction by reaction: a loop over reactions in the loop
    over lanes would keep the latter from becoming vector code. The sums are kept, not computed a second time, so that
    the pick compares with the very numbers that made the total: with a pick below the total, a reaction whose
    propensity is zero is never picked, whatever the rounding.
    """
    k, reactions = len(stoichiometry[0]), len(stoichiometry)
    cumulative = [f"table[{k + m + r}, lane]" for r in range(reactions)]
    arguments = ", ".join(f"table[{i}, lane]" for i in range(k + m))
    source = [
        "def accumulate(table, lane):",
        f"    h = rates({arguments})",
        "    running = lowest = h[0]",
        f"    {cumulative[0]} = running",
    ]
    for r in range(1, reactions):
        source += [f"    running += h[{r}]", f"    {cumulative[r]} = running", f"    lowest = min(lowest, h[{r}])"]
    source += ["    return lowest", "def react(table, lane, pick):"]
    for i in range(k):
        change = "0.0"
        for r in reversed(range(reactions)):
            change = f"({float(stoichiometry[r][i])} if pick < {cumulative[r]} else {change})"
        source.append(f"    table[{i}, lane] += {change}")
    namespace: dict[str, Any] = {"rates": compiled(propensities), "__name__": __name__}
    exec("\n".join(source), namespace)
    return tuple(njit(forceinline=True, **JIT)(namespace[name]) for name in ("accumulate", "react"))
