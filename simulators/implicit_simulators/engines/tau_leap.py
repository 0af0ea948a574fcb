r"""Tau-leaping: jump processes in steps that take many events at once, where an exact run would take too long.

Over a time :math:`\tau` in which no rate changes much, reaction r happens
:math:`K_r \sim \mathrm{Poisson}(h_r(x)\, \tau)` times, and the counts move by

.. math:: x \leftarrow x + \sum_r \nu_r K_r.

The step is the longest at which the expected change of each rate, and its standard deviation, stay below a part
:math:`\epsilon` of the sum of all rates, bounded through the counts that the rates depend on (Cao et al. 2006, equation
33): with :math:`\mu_i = \sum_r \nu_{ri} h_r` and :math:`\sigma_i^2 = \sum_r \nu_{ri}^2 h_r`,

.. math:: \tau = \min_i \min\left\{ \frac{\max(\epsilon x_i / g_i, 1)}{|\mu_i|},
    \frac{\max(\epsilon x_i / g_i, 1)^2}{\sigma_i^2} \right\},

where :math:`g_i` is the order of the highest reaction that uses species i (:math:`2 + 1 / (x_i - 1)` for a pair of its
own kind). A reaction that is within ten firings of using up a species is *critical*: it happens once a step at most, at
its exact time. Where a leap would be shorter than ten waiting times, a hundred exact events are taken instead. A leap
that would make a count negative is tried again at half the length.

References:
    | Efficient step size selection for the tau-leaping simulation method (Cao, Gillespie & Petzold, 2006)
    | https://doi.org/10.1063/1.2159468
    | Approximate accelerated stochastic simulation of chemically reacting systems (Gillespie, 2001)
    | https://doi.org/10.1063/1.1378322
"""

from __future__ import annotations

import time
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from implicit_simulators.engines.jump import Propensities, jump_process
from implicit_simulators.engines.rows import instants, integer, key_words, matrix

CRITICAL = 10
"""Firings that a reaction must be away from using up a species, n_c of the paper."""


def tau_leap(
    propensities: Propensities,
    stoichiometry: Any,
    reactants: Any = None,
    epsilon: float = 0.03,
    step: float | None = None,
    critical: int = CRITICAL,
) -> TauLeap:
    r"""A reaction network, ready to run in leaps; the same network is compiled once in a process.

    Args:
        propensities: As for :func:`implicit_simulators.engines.jump.jump_process`.
        stoichiometry: What each reaction adds to each species: integers with shape (R, k).
        reactants: How many individuals of each species a reaction takes: integers with shape (R, k), as in its rate,
            which decide the :math:`g_i` and which species bound the step at all. If None, every species does, as if it
            took part in a dimerisation: shorter steps than needed for species that only pile up, and right for
            reactions of at most second order.
        epsilon: The part of the rates that may change in a step; the bias falls with it.
        step: A fixed step instead of a chosen one, without exact events; the last before a recorded time is shorter.
        critical: Firings below which a reaction is critical; 0 for none.

    Returns:
        The process; it is called as :class:`implicit_simulators.engines.jump.JumpProcess` is.

    Raises:
        TypeError: If ``propensities`` is not a function of positional arguments.
        ValueError: If an argument has another shape or is out of range.

    Example:
        >>> process = tau_leap(lambda x, birth, death: (birth, death * x), [[1], [-1]], reactants=[[0], [1]])
        >>> process.species, process.parameters, process.reactions
        (1, 2, 2)
    """
    network = jump_process(propensities, stoichiometry)  # which checks them
    if not 0 < epsilon < 1:
        raise ValueError(f"epsilon: expected a number in (0, 1); got {epsilon}")
    if step is not None and not (step > 0 and np.isfinite(step)):
        raise ValueError(f"step: expected a positive number or None; got {step}")
    critical = integer(critical, "critical", 0, 2**31)
    step = None if step is None else float(step)
    orders = check_reactants(reactants, (network.reactions, network.species))
    return _process(propensities, network.stoichiometry, orders, float(epsilon), step, critical)


def check_reactants(reactants: Any, shape: tuple[int, int]) -> tuple[tuple[int, ...], ...] | None:
    """``reactants`` as R tuples of k ints, or None.

    Raises:
        ValueError: If they have another shape, are not integer, or negative.
    """
    if reactants is None:
        return None
    taken = np.asarray(reactants)
    if taken.shape != shape or not np.issubdtype(taken.dtype, np.number):
        raise ValueError(f"reactants: expected integers with shape {shape}, as stoichiometry has; got {taken.shape}")
    if not np.array_equal(taken, np.rint(taken)) or (taken < 0).any():
        raise ValueError("reactants: expected non-negative integers, how many of each species a reaction takes")
    return tuple(tuple(int(count) for count in row) for row in taken)


@lru_cache(maxsize=64)
def _process(
    propensities: Propensities,
    stoichiometry: tuple[tuple[int, ...], ...],
    reactants: tuple[tuple[int, ...], ...] | None,
    epsilon: float,
    step: float | None,
    critical: int,
) -> TauLeap:
    return TauLeap(propensities, stoichiometry, reactants, epsilon, step, critical)


class TauLeap:
    """A reaction network as a function from parameters and initial counts to approximate trajectories.

    Args:
        propensities: As for :func:`tau_leap`, as are the others, in tuples.
        stoichiometry: Changes.
        reactants: Individuals taken, or None.
        epsilon: The part of the rates that may change in a step.
        step: A fixed step, or None.
        critical: Firings below which a reaction is critical.
    """

    def __init__(
        self,
        propensities: Propensities,
        stoichiometry: tuple[tuple[int, ...], ...],
        reactants: tuple[tuple[int, ...], ...] | None,
        epsilon: float,
        step: float | None,
        critical: int,
    ) -> None:
        network = jump_process(propensities, stoichiometry)
        self.propensities, self.stoichiometry = propensities, stoichiometry
        self.reactions, self.species, self.parameters = network.reactions, network.species, network.parameters
        self.epsilon, self.step, self.critical = epsilon, step, critical
        self._orders = _highest_orders(reactants, self.species)

    def __call__(
        self,
        parameters: Any,
        initial: Any,
        times: Any,
        key: int,
        max_events: int = 1_000_000,
        first_row: int = 0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Simulate one trajectory for each row, with the interpreter lock released.

        Arguments, random numbers and failures are those of :class:`implicit_simulators.engines.jump.JumpProcess`: a row
        depends on its parameters, its initial counts, the key and its number, and not on the other rows; one that
        reaches ``max_events``, or a negative or undefined rate, is NaN from there on.

        Args:
            parameters: Shape (n, m).
            initial: Counts at ``times[0]``, with shape (n, k).
            times: Increasing times at which counts are wanted, with shape (T,). No leap goes past one.
            key: Key of the random numbers, in [0, 2**64).
            max_events: Turns after which a row counts as failed: leaps, those tried again, and single exact events.
            first_row: Number of the first row.

        Returns:
            ``states`` (n, T, k) float64 and ``turns`` (n,) int64. ``states[:, 0]`` is ``initial``.

        Raises:
            ValueError: If an argument has another shape or is out of range.
        """
        parameters = matrix(parameters, "parameters", self.parameters)
        n = len(parameters)
        initial = matrix(initial, "initial", self.species, n)
        times = instants(times)
        k0, k1 = key_words(key)
        max_events = integer(max_events, "max_events", 1, 2**32 - 1)
        first_row = integer(first_row, "first_row", 0, 2**32 - n)
        states = np.empty((n, len(times), self.species))
        turns = np.zeros(n, dtype=np.int64)
        fixed = 0.0 if self.step is None else self.step
        rates, run = self._compiled
        changes = np.array(self.stoichiometry, dtype=np.float64)
        run(
            *(rates, changes, self._orders, self.epsilon, fixed, self.critical),
            *(parameters, initial, times, k0, k1, first_row, max_events, states, turns),
        )
        return states, turns

    def prepare(self) -> float:
        """Compile it, or load it from disk, now rather than at the first call; the seconds that took."""
        if "_compiled" in self.__dict__:
            return 0.0
        begun = time.perf_counter()
        self(np.ones((1, self.parameters)), np.ones((1, self.species)), [0.0, 0.0], key=0)
        return time.perf_counter() - begun

    @cached_property
    def _compiled(self) -> tuple[Any, Any]:
        """The network's rates and the loop; the loop, which all networks share, compiles at the first of all calls."""
        from implicit_simulators.engines.tau_leap_kernel import compile_rates, loop

        return compile_rates(self.propensities, self.species, self.parameters, self.reactions), loop()


def _highest_orders(reactants: tuple[tuple[int, ...], ...] | None, species: int) -> np.ndarray:
    """For each species the order of the highest reaction that takes it, and how many of it that takes; (k, 2)."""
    if reactants is None:
        return np.full((species, 2), 2, dtype=np.int64)
    uses = [[(sum(row), row[i]) for row in reactants if row[i]] for i in range(species)]
    return np.array([max(pairs, default=(0, 0)) for pairs in uses], dtype=np.int64)
