"""A stepwise model that cannot be compiled, run by NumPy: one step of all rows at a time, on the same noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from implicit_simulators.engines.steps import StepProcess


def run_in_numpy(
    process: StepProcess,
    parameters: np.ndarray,
    initial: np.ndarray,
    steps: int,
    key: int,
    every: int,
    skip: int,
    first_row: int,
    out: np.ndarray,
) -> None:
    """Write what the process records into ``out``; arguments are as for the process itself.

    The paths are those of the compiled code, up to rounding. Poisson counts are NumPy's, from a generator for each row
    and count: other numbers of the same law.
    """
    step = process.vectorised or process.step
    n = len(parameters)
    noise = process.noise_of(n, steps, key, first_row)
    seen = process.noise_of(n, out.shape[1], key, first_row, emission=True) if process.emit else noise[:, :0]
    counter = np.random.default_rng if process.counts else None
    state, columns = list(initial.T), list(parameters.T)
    for t in range(steps):
        state = [np.broadcast_to(s, n) for s in step(*state, *columns, *noise[:, t].T)]
        if t < skip or (t + 1 - skip) % every:
            continue
        place = (t + 1 - skip) // every - 1
        values = state if process.emit is None else process.emit(*state, *columns, *seen[:, place].T)
        chosen = [values[i] for i in process.recorded]
        for i, value in enumerate(chosen):
            if counter is not None:
                means = np.broadcast_to(value, n)
                value = [counter((key, first_row + row, place, i)).poisson(means[row]) for row in range(n)]
            out[:, place, i] = value
