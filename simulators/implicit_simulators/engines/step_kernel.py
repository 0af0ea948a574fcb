"""The compiled loop of a stepwise model: a user's scalar step for 64 rows in lockstep.

A turn of the loop fills a table with the noise of a few steps, which is vector code (:mod:`lane_noise`), and then takes
the steps, each a loop over lanes around the user's function, written out argument by argument. What is recorded goes
through a small buffer, so that it reaches memory in runs of one row rather than number by number.

LLVM must see each loop in the function that allocates the tables, where it knows that their rows do not overlap:
helpers with loops are therefore inlined by numba (``inline="always"``), helpers of one lane by LLVM (``forceinline``).

Importing this module imports numba.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import njit

from implicit_simulators.engines.lane_noise import LANES
from implicit_simulators.engines.lane_poisson import SCRATCH, fill_poisson
from implicit_simulators.engines.lanes import JIT, widest_vectors
from implicit_simulators.engines.step_noise_kernel import Layout, filler, written
from implicit_simulators.engines.user_code import compiled

STEPS, EMISSION, COUNTS = range(3)
"""Streams of random numbers: third word of the counter."""

BUFFER = 16
"""Records kept before they are written out: a cache line of single precision."""


def compile_kernel(
    step: Callable[..., Any],
    states: int,
    parameters: int,
    noise: Sequence[str],
    emit: Callable[..., Any] | None,
    outputs: Sequence[int],
    emission_noise: Sequence[str],
    counts: bool,
) -> Any:
    """Compile the loop for one model.

    Args:
        step: As for :func:`implicit_simulators.engines.steps.step_process`.
        states: Number of states, k.
        parameters: Number of parameters, m.
        noise: Kinds of the step's noise.
        emit: What is recorded of a state; None for the states ``outputs``.
        outputs: With ``emit``, a range over what it gives; otherwise the states recorded.
        emission_noise: Kinds of the emission's noise.
        counts: Whether Poisson counts with the emitted means are recorded.

    Returns:
        ``kernel(parameters, initial, steps, every, skip, k0, k1, first_row, out)``, which writes ``out``.
    """
    k, m, o = states, parameters, len(outputs)
    ahead, seen = Layout(noise), Layout(emission_noise)
    fill, fill_seen = filler(ahead), filler(seen)
    advance = _advance(step, k, m, ahead)
    observe = _observe(emit, k, m, outputs, seen)
    together, together_seen = ahead.together, seen.together
    noisy, noisy_seen = len(noise) > 0, len(emission_noise) > 0
    words, words_seen = max(1, ahead.words), max(1, seen.words)
    normals, normals_seen = max(1, together * ahead.normals), max(1, together_seen * seen.normals)

    @njit(**JIT)
    def kernel(parameters, initial, steps, every, skip, k0, k1, first_row, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - numba infers these
        widest_vectors()  # type: ignore[call-arg]  # numba gives the context
        table = np.ones((k + m, LANES))
        table_words = np.empty((words, LANES), np.uint32)
        normal = np.empty((normals, LANES), np.float32)
        other = np.empty((words, LANES))
        seen_words = np.empty((words_seen, LANES), np.uint32)
        seen_normal = np.empty((normals_seen, LANES), np.float32)
        seen_other = np.empty((words_seen, LANES))
        emitted = np.zeros((o, LANES))
        counted = np.empty(LANES)
        mean = np.empty(LANES)
        scratch = np.ones((SCRATCH, LANES))
        lists = np.zeros((2, LANES), np.int64)
        buffer = np.empty((BUFFER * o, LANES))
        for row in range(0, len(parameters), LANES):
            width = min(LANES, len(parameters) - row)
            for lane in range(LANES):
                source = row + min(lane, width - 1)  # lanes beyond the last row repeat it, and are not recorded
                for s in range(k):
                    table[s, lane] = initial[source, s]
                for j in range(m):
                    table[k + j, lane] = parameters[source, j]
            first, place, taken = first_row + row, 0, 0
            for turn in range((steps + together - 1) // together):
                if noisy:
                    fill(table_words, normal, other, turn, first, STEPS, k0, k1)
                for step in range(min(together, steps - turn * together)):
                    for lane in range(LANES):
                        advance(table, normal, other, step, lane)
                    taken += 1
                    if taken > skip and (taken - skip) % every == 0:
                        if noisy_seen and place % together_seen == 0:
                            fill_seen(
                                seen_words, seen_normal, seen_other, place // together_seen, first, EMISSION, k0, k1
                            )
                        for lane in range(LANES):
                            observe(table, emitted, seen_normal, seen_other, place % together_seen, lane)
                        slot = place % BUFFER
                        for i in range(o):
                            if counts:
                                for lane in range(LANES):
                                    mean[lane] = emitted[i, lane]
                                cell = place * o + i
                                fill_poisson(mean, counted, scratch, lists, width, cell, first, COUNTS, k0, k1)
                                for lane in range(LANES):
                                    buffer[slot * o + i, lane] = counted[lane]
                            else:
                                for lane in range(LANES):
                                    buffer[slot * o + i, lane] = emitted[i, lane]
                        place += 1
                        if slot == BUFFER - 1 or taken + every > steps:
                            start = place - slot - 1
                            for lane in range(width):
                                for r in range(slot + 1):
                                    for i in range(o):
                                        out[row + lane, start + r, i] = buffer[r * o + i, lane]

    return kernel


def is_vector_code(function: Callable[..., Any], inputs: int, outputs: int) -> bool:
    """Whether LLVM makes vector code of a loop over rows around ``function``; seen in what it makes of one alone."""
    arguments = ", ".join(f"table[{i}, lane]" for i in range(inputs))
    source = ["def one(table, lane):", f"    value = function({arguments})"]
    source += [f"    table[{inputs + i}, lane] = value[{i}]" for i in range(outputs)]
    one = written(source, "one", {"function": compiled(function)})

    @njit(**JIT)
    def loop():  # type: ignore[no-untyped-def]  # noqa: ANN202 - numba infers it
        widest_vectors()  # type: ignore[call-arg]  # numba gives the context
        table = np.ones((inputs + outputs, LANES))
        for lane in range(LANES):
            table[0, lane] = lane
        for lane in range(LANES):
            one(table, lane)
        return table

    loop.compile(())
    code = loop.inspect_llvm(())
    arithmetic = r"= f(?:add|mul|sub|div|cmp)(?: [a-z]+)*"
    vectors = re.search(arithmetic + r" <\d+ x double>|call[^\n]*\.v\d+f64", code)
    scalars = re.search(arithmetic + " double", code)
    # within a vector loop, one for each row; powers and the like are vectors only until they are lowered
    instructions = "fabs|sqrt|floor|ceil|trunc|rint|nearbyint|round|copysign|min|max|fma"
    scalar_calls = re.search(rf"call[^\n<]* double @|@llvm\.(?!{instructions})\w+\.v\d+f64", code)
    return not scalar_calls and (bool(vectors) or not scalars)


def _advance(step: Callable[..., Any], k: int, m: int, layout: Layout) -> Any:
    """One step of one lane, in place."""
    arguments = ", ".join([f"table[{i}, lane]" for i in range(k + m)] + layout.arguments)
    source = ["def advance(table, normal, other, step, lane):", f"    new = function({arguments})"]
    source += [f"    table[{i}, lane] = new[{i}]" for i in range(k)]
    return written(source, "advance", {"function": compiled(step)})


def _observe(emit: Callable[..., Any] | None, k: int, m: int, outputs: Sequence[int], layout: Layout) -> Any:
    """What is recorded of one lane."""
    source = ["def observe(table, emitted, normal, other, step, lane):"]
    if emit is None:
        source += [f"    emitted[{i}, lane] = table[{state}, lane]" for i, state in enumerate(outputs)]
        return written(source, "observe", {})
    arguments = ", ".join([f"table[{i}, lane]" for i in range(k + m)] + layout.arguments)
    source += [f"    value = function({arguments})"]
    source += [f"    emitted[{i}, lane] = value[{i}]" for i in outputs]
    return written(source, "observe", {"function": compiled(emit)})
