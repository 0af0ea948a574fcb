"""A stepwise model that cannot be compiled, run by NumPy: one step of all rows at a time, on the same noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from implicit_simulators.engines.step_noise import Stepwise


def run_in_numpy(
    process: Stepwise,
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
    step = process.vectorised or _of_columns(process.step, process.states)
    emit = process.emit and _of_columns(process.emit, process.outputs)
    n = len(parameters)
    noise = process.noise_of(n, steps, key, first_row)
    seen = process.noise_of(n, out.shape[1], key, first_row, emission=True) if process.emit else noise[:, :0]
    state, columns = list(initial.T), list(parameters.T)
    for t in range(steps):
        with np.errstate(all="ignore"):  # infinity and NaN are what they are in compiled code
            state = [np.broadcast_to(s, n) for s in step(*state, *columns, *noise[:, t].T)]
            if t < skip or (t + 1 - skip) % every:
                continue
            place = (t + 1 - skip) // every - 1
            values = state if emit is None else emit(*state, *columns, *seen[:, place].T)
            for i, value in enumerate([values[i] for i in process.recorded]):
                if process.counts:
                    means = np.broadcast_to(value, n)
                    value = [_count(means[row], (key, first_row + row, place, i)) for row in range(n)]
                out[:, place, i] = value


def _count(mean: float, address: tuple[int, ...]) -> float:
    """A Poisson number, or NaN where the compiled code gives it."""
    from implicit_simulators.engines.lane_poisson import LARGEST

    return float(np.random.default_rng(address).poisson(mean)) if 0 <= mean < LARGEST else np.nan


def _of_columns(function: Callable[..., Any], outputs: int) -> Callable[..., Any]:
    """``function`` of columns; where it has conditions, or ``math``, which columns cannot do, row by row."""

    def of_row(*arguments: float) -> Any:
        try:
            return function(*arguments)
        except (ArithmeticError, ValueError):  # the logarithm of zero and its like, which fail their row only
            return (np.nan,) * outputs

    def of_columns(*arguments: np.ndarray) -> Any:
        try:
            return function(*arguments)
        except (TypeError, ValueError):
            return list(np.array([of_row(*row) for row in zip(*(a.tolist() for a in arguments), strict=True)]).T)

    return of_columns
