r"""Exact Markov jump processes: reactions that each happen at a rate which depends on the counts of all species.

In state x, reaction r waits an exponential time with rate :math:`h_r(x)` and then adds its column of changes to x.
Gillespie's direct method draws the first of them at once:

.. math:: \Delta t = -\log(u) / H, \quad H = \sum_r h_r(x), \quad P(r) = h_r(x) / H.

The result is exact: there is no time step. The price is that every event is simulated, so the loop is compiled
(:mod:`implicit_simulators.engines.jump_kernel`) and runs 64 rows side by side.

References:
    | Exact stochastic simulation of coupled chemical reactions (Gillespie, 1977)
    | https://doi.org/10.1021/j100540a008
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from implicit_simulators.code import fingerprint
from implicit_simulators.engines.rows import changes_of, count_arguments, instants, integer, key_words, matrix
from implicit_simulators.engines.threads import in_threads

Propensities = Callable[..., tuple[float, ...]]
"""The rates of all reactions, from the counts and parameters of one row, given one by one as floats."""


def jump_process(propensities: Propensities, stoichiometry: Any) -> JumpProcess:
    r"""A reaction network, ready to run; the same network is compiled once, and kept on disk.

    Args:
        propensities: A plain Python function ``(x_1, ..., x_k, p_1, ..., p_m) -> (h_1, ..., h_R)`` of k counts and m
            parameters, all floats, that numba can compile: arithmetic, comparisons, conditional expressions. Rates must
            not be negative, and a reaction that would take a count below zero must have rate zero there. Logs and
            exponentials are replaced by ones that leave the loop vector code
            (:mod:`implicit_simulators.engines.user_code`).
        stoichiometry: What each reaction adds to each species: integers with shape (R, k).

    Returns:
        The process; see :class:`JumpProcess` for how to call it.

    Raises:
        TypeError: If ``propensities`` is not a function of positional arguments.
        ValueError: If ``stoichiometry`` has another shape or is not integer, or the number of rates is not R.

    Example:
        >>> process = jump_process(lambda x, birth, death: (birth, death * x), [[1], [-1]])
        >>> process.species, process.parameters, process.reactions
        (1, 2, 2)
    """
    changes = changes_of(stoichiometry)
    # a function that reads a global is another process once the global has changed
    return _process(fingerprint(propensities), propensities, changes)


@lru_cache(maxsize=64)
def _process(contents: str, propensities: Propensities, stoichiometry: tuple[tuple[int, ...], ...]) -> JumpProcess:
    return JumpProcess(propensities, stoichiometry)


class JumpProcess:
    """A reaction network as a function from parameters and initial counts to trajectories.

    Args:
        propensities: As for :func:`jump_process`.
        stoichiometry: Changes as a tuple of R tuples of k ints.
        lanes: Rows that run side by side, from 8 to 64 in steps of 8; results do not depend on it.
    """

    def __init__(
        self, propensities: Propensities, stoichiometry: tuple[tuple[int, ...], ...], lanes: int | None = None
    ) -> None:
        if lanes is not None and lanes not in range(8, 65, 8):
            raise ValueError(f"lanes: expected a multiple of 8 from 8 to 64; got {lanes}")
        self.propensities, self.stoichiometry, self._lanes = propensities, stoichiometry, lanes
        self.reactions, self.species = len(stoichiometry), len(stoichiometry[0])
        self.parameters = count_arguments(propensities) - self.species
        if self.parameters < 0:
            raise ValueError(f"propensities: expected at least {self.species} arguments, one for each species")
        rates = propensities(*[1.0] * (self.species + self.parameters))
        if not isinstance(rates, tuple) or len(rates) != self.reactions:
            got = f"{len(rates)}" if isinstance(rates, tuple) else type(rates).__name__
            raise ValueError(f"propensities: expected a tuple of {self.reactions} rates, one a reaction; got {got}")

    def __call__(
        self,
        parameters: Any,
        initial: Any,
        times: Any,
        key: int,
        max_events: int = 1_000_000,
        first_row: int = 0,
        threads: int = 1,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Simulate one trajectory for each row, with the interpreter lock released.

        A row's random numbers come from a counter-based generator at (key; event, row): its trajectory depends on its
        parameters, its initial counts, the key and its number, and not on the other rows. Rows [a, b) simulated alone
        with ``first_row=a`` are bit for bit what they are within a larger batch.

        Args:
            parameters: Shape (n, m).
            initial: Counts at ``times[0]``, with shape (n, k).
            times: Increasing times at which counts are wanted, with shape (T,).
            key: Key of the random numbers, in [0, 2**64).
            max_events: Events after which a row counts as failed: populations can explode, and the events of one such
                row would outnumber those of all others.
            first_row: Number of the first row.
            threads: Threads that share the rows; results do not depend on it.

        Returns:
            ``states`` (n, T, k) float64 and ``events`` (n,) int64, the events until each row ended. ``states[:, 0]`` is
            ``initial``. **A row that reaches** ``max_events`` **, or a negative or undefined rate, is NaN from there
            on**: a failed simulation, never one frozen in its last state, which would pass for data.

        Raises:
            ValueError: If an argument has another shape or is out of range.
        """
        parameters = matrix(parameters, "parameters", self.parameters)
        initial = matrix(initial, "initial", self.species)
        n = len(parameters)
        if len(initial) != n:
            raise ValueError(f"initial: expected {n} rows, as parameters has; got {len(initial)}")
        times = instants(times)
        k0, k1 = key_words(key)
        max_events = integer(max_events, "max_events", 1, 2**32 - 1)
        first_row = integer(first_row, "first_row", 0, 2**32 - n)

        states = np.empty((n, len(times), self.species))
        events = np.zeros(n, dtype=np.int64)
        if len(times) == 1:
            states[:, 0] = initial
        elif n:
            self.prepare()

            def work(first: int, last: int) -> None:
                rows = slice(first, last)
                self._kernel(
                    *(parameters[rows], initial[rows], times, k0, k1, first_row + first, max_events),
                    *(states[rows], events[rows]),
                )

            in_threads(work, n, threads, least=1024)
        return states, events

    def prepare(self) -> float:
        """Compile it, or load it from disk, now rather than at the first call; the seconds that took."""
        row, key = np.ones((1, 1)), np.uint64(0)
        seconds: float = self._kernel.prepare(
            row, row, np.ones(2), key, key, 0, 1, np.ones((1, 2, 1)), np.ones(1, dtype=np.int64)
        )
        return seconds

    @cached_property
    def _kernel(self) -> Any:
        """The compiled loop; numba is imported here."""
        from implicit_simulators.engines.jump_kernel import LANES, compile_kernel
        from implicit_simulators.engines.kernel_cache import CachedKernel

        lanes = self._lanes or LANES
        kernel = compile_kernel(self.propensities, self.stoichiometry, self.parameters, lanes)
        name = getattr(self.propensities, "__qualname__", "propensities")
        return CachedKernel(kernel, ("jumps", self.propensities, self.stoichiometry, lanes), name)
