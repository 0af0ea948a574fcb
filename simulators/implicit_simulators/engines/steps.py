r"""Models that move step by step: a user's scalar step, written in plain Python and run as vector code.

.. math:: s_{t+1} = f(s_t, \theta, \varepsilon_t), \qquad y_j \sim g(s_{j m}, \theta, \eta_j)

with noise :math:`\varepsilon, \eta` of a kind that is declared (normal, uniform, exponential) and, if wanted, Poisson
counts with the emitted means. Euler-Maruyama schemes, maps, queues, volatility models and i.i.d. draws are of this
form. The library owns the random numbers, replaces the logs and exponentials of the function by its own, and runs 64
rows in lockstep (:mod:`implicit_simulators.engines.step_kernel`), four to ten times as fast as arrays of NumPy or
torch.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from implicit_simulators.code import fingerprint
from implicit_simulators.engines.rows import integer, key_words, matrix
from implicit_simulators.engines.step_noise import KINDS, draw_noise
from implicit_simulators.engines.threads import in_threads

logger = logging.getLogger(__name__)

Step = Callable[..., Any]

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def step_process(
    step: Step,
    *,
    states: int,
    noise: Sequence[str] | str = ("normal",),
    emit: Step | None = None,
    emission_noise: Sequence[str] | str = (),
    counts: bool = False,
    record: Sequence[int] | None = None,
    vectorised: Step | None = None,
) -> StepProcess:
    r"""A stepwise model, ready to run; the same model is compiled once in a process and kept on disk.

    Args:
        step: A plain Python function ``(s_1, ..., s_k, p_1, ..., p_m, e_1, ..., e_r) -> (s_1, ..., s_k)`` of states,
            parameters and noise, all floats, that numba can compile: arithmetic, comparisons, conditions, ``math`` and
            ``numpy`` functions of numbers, helpers that are like it. Where time matters, make it a state. Powers with
            a fractional exponent are quicker as ``math.pow`` or by ``math.exp`` and ``math.log`` than as ``**``.
            Arguments with a default are constants, and keep it.
        states: Number of states, k.
        noise: Kind of each number of noise that a step takes; see ``KINDS``.
        emit: What is recorded of a state: a function like ``step``, ``(s_1, ..., s_k, p_1, ..., p_m, e_1, ..., e_q)
            -> (y_1, ..., y_o)``. The states themselves if None.
        emission_noise: Kind of each number of noise that ``emit`` takes.
        counts: Record Poisson counts with the emitted means instead of the means.
        record: Without ``emit``, the states that are recorded; all if None.
        vectorised: Used where ``step`` cannot be compiled: the same on arrays of rows. ``step`` itself if None, which
            serves as long as it is arithmetic, and is called row by row where it is not.

    Raises:
        TypeError: If a function takes other than positional arguments.
        ValueError: If a kind of noise is unknown, or the numbers of arguments and results do not fit.

    Example:
        >>> walk = step_process(lambda x, scale, z: (x + scale * z,), states=1)
        >>> walk(parameters=[[1.0], [2.0]], initial=[[0.0], [0.0]], steps=10, key=0).shape
        (2, 10, 1)
    """
    noise = (noise,) if isinstance(noise, str) else tuple(noise)
    emission_noise = (emission_noise,) if isinstance(emission_noise, str) else tuple(emission_noise)
    for argument, kinds in (("noise", noise), ("emission_noise", emission_noise)):
        for kind in kinds:
            if kind not in KINDS:
                raise ValueError(f"{argument}: expected kinds among {', '.join(KINDS)}; got {kind!r}")
    states = integer(states, "states", 1, 2**16)
    return _process(
        step,
        states,
        noise,
        emit,
        emission_noise,
        bool(counts),
        None if record is None else tuple(record),
        vectorised,
    )


def _process(*arguments: Any) -> StepProcess:
    # with the contents, as the same function may have come to read other globals
    return _made(fingerprint(arguments), *arguments)


@lru_cache(maxsize=64)
def _made(contents: str, *arguments: Any) -> StepProcess:
    return StepProcess(*arguments)


class StepProcess:
    """A stepwise model as a function from parameters and initial states to what is recorded.

    Args:
        step: As for :func:`step_process`, and so are the others.
        states: Number of states.
        noise: Kinds of noise of a step.
        emit: What is recorded of a state.
        emission_noise: Kinds of noise of an emission.
        counts: Whether Poisson counts are recorded.
        record: States recorded, without ``emit``.
        vectorised: What stands in for a step that cannot be compiled.

    Attributes:
        outputs: How many numbers each record has, o.
    """

    def __init__(
        self,
        step: Step,
        states: int,
        noise: tuple[str, ...],
        emit: Step | None,
        emission_noise: tuple[str, ...],
        counts: bool,
        record: tuple[int, ...] | None,
        vectorised: Step | None,
    ) -> None:
        self.step, self.states, self.noise, self.emit = step, states, noise, emit
        self.emission_noise, self.counts, self.vectorised = emission_noise, counts, vectorised
        self._made_from = (step, states, noise, emit, emission_noise, counts, record, vectorised)
        self._refusal = ""
        self.parameters = _arguments(step, "step") - states - len(noise)
        if self.parameters < 0:
            wanted = f"{states} states, the parameters and {len(noise)} of noise"
            raise ValueError(f"step: expected arguments for {wanted}; got {_arguments(step, 'step')}")
        moved = _try(step, "step", states + self.parameters, len(noise))
        if len(moved) != states:
            raise ValueError(f"step: expected a tuple of {states} states; got {len(moved)}")
        if emit is None:
            self.recorded = tuple(range(states)) if record is None else record
            if not self.recorded or any(not 0 <= state < states for state in self.recorded):
                raise ValueError(f"record: expected states from 0 to {states - 1}; got {list(self.recorded)}")
            if emission_noise:
                raise ValueError("emission_noise: needs emit, the function that takes it")
        else:
            if record is not None:
                raise ValueError("record: chooses states where there is no emit; with emit, leave it out")
            if _arguments(emit, "emit") != states + self.parameters + len(emission_noise):
                wanted = f"{states} states, {self.parameters} parameters and {len(emission_noise)} of noise"
                raise ValueError(f"emit: expected arguments for {wanted}; got {_arguments(emit, 'emit')}")
            given = _try(emit, "emit", states + self.parameters, len(emission_noise))
            self.recorded = tuple(range(len(given)))
        self.outputs = len(self.recorded)

    def __call__(
        self,
        parameters: Any,
        initial: Any,
        steps: int,
        key: int,
        every: int = 1,
        skip: int = 0,
        first_row: int = 0,
        threads: int = 1,
        dtype: Any = np.float32,
    ) -> np.ndarray:
        """Run one trajectory for each row, with the interpreter lock released.

        A row's random numbers come from a counter-based generator at (key; number, row): it depends on its parameters,
        its initial states, the key and its number, and not on the other rows, on ``threads`` or on ``every``'s effect
        on others. Rows [a, b) run alone with ``first_row=a`` are bit for bit what they are within a larger batch.

        Args:
            parameters: Shape (n, m).
            initial: States before the first step, with shape (n, k).
            steps: How many steps.
            key: Key of the random numbers, in [0, 2**64).
            every: Steps from one record to the next.
            skip: Steps before the first record is waited for: what burns in, unseen.
            first_row: Number of the first row.
            threads: Threads that share the rows.
            dtype: float32 or float64, of the result; states are float64 throughout.

        Returns:
            Records after steps ``skip + every``, ``skip + 2 every``, ..., with shape (n, (steps - skip) // every, o).

        Raises:
            ValueError: If an argument has another shape or is out of range.
        """
        parameters = matrix(parameters, "parameters", self.parameters)
        initial = matrix(initial, "initial", self.states)
        n = len(parameters)
        if len(initial) != n:
            raise ValueError(f"initial: expected {n} rows, as parameters has; got {len(initial)}")
        steps, every = integer(steps, "steps", 0, 2**31), integer(every, "every", 1, 2**31)
        skip = integer(skip, "skip", 0, steps)
        key, first_row = integer(key, "key", 0, 2**64 - 1), integer(first_row, "first_row", 0, 2**32 - n)
        dtype = np.dtype(dtype)
        if dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype: expected float32 or float64; got {dtype}")
        out = np.empty((n, (steps - skip) // every, self.outputs), dtype=dtype)
        if not out.size:
            return out
        self.prepare(dtype)
        if self._refusal:
            from implicit_simulators.engines.numpy_steps import run_in_numpy

            run_in_numpy(self, parameters, initial, steps, key, every, skip, first_row, out)
            return out
        k0, k1 = key_words(key)

        def work(first: int, last: int) -> None:
            rows = slice(first, last)
            self._kernel(parameters[rows], initial[rows], steps, every, skip, k0, k1, first_row + first, out[rows])

        in_threads(work, n, threads)
        return out

    def __reduce__(self) -> Any:
        """Travel to other processes as what it was made from; they load the compiled code from disk."""
        return _process, self._made_from

    def prepare(self, dtype: Any = np.float32) -> float:
        """Compile it, or load it from disk, now rather than at the first call; the seconds that took."""
        if self._refusal:
            return 0.0
        row, key = np.ones((1, 1)), np.uint64(0)
        try:
            seconds: float = self._kernel.prepare(row, row, 1, 1, 0, key, key, 0, np.ones((1, 1, 1), dtype=dtype))
        except Exception as error:
            self._refusal = self._culprit(error)
            logger.warning("NumPy runs %s instead of compiled code: %s", _name(self.step), self._refusal)
            return 0.0
        return seconds

    def noise_of(self, rows: int, steps: int, key: int, first_row: int = 0, emission: bool = False) -> np.ndarray:
        """The very noise that the steps (or emissions) see, with shape (rows, steps, r) and dtype float64.

        With it, code in torch follows the same path, which is how gradients are had (and how the engine is tested).
        """
        kinds = self.emission_noise if emission else self.noise
        return draw_noise(kinds, rows, steps, key, first_row, stream=1 if emission else 0)

    @property
    def engine(self) -> str:
        """What runs it: ``"lanes"``, ``"scalar"`` (compiled, a row at a time) or ``"vectorised"`` (not compiled)."""
        self.prepare()
        if self._refusal:
            return "vectorised"
        return "scalar" if self._scalar_code else "lanes"

    @property
    def reason(self) -> str:
        """Why it is not ``"lanes"``, or an empty string."""
        self.prepare()
        return self._refusal or self._scalar_code

    @cached_property
    def _scalar_code(self) -> str:
        """What keeps the loop over rows from becoming vector code, or an empty string."""
        from implicit_simulators.engines.step_kernel import is_vector_code
        from implicit_simulators.engines.user_code import scalar_calls

        why = []
        for name, function, noise in self._functions():
            outputs = self.states if name == "step" else self.outputs
            if is_vector_code(function, self.states + self.parameters + len(noise), outputs):
                continue
            calls = [f"math.{call}" for call in scalar_calls(function)]
            loop = ["a loop"] if _has_loop(function) else []
            found = " and ".join(calls + loop) or "a branch, a power or a call"
            why.append(f"{name} has {found} that keeps rows from running side by side")
        return "; ".join(why)

    def _functions(self) -> list[tuple[str, Step, tuple[str, ...]]]:
        """Name, function and noise of the step and, if there is one, of the emission."""
        step = ("step", self.step, self.noise)
        return [step] if self.emit is None else [step, ("emit", self.emit, self.emission_noise)]

    def _culprit(self, error: Exception) -> str:
        """Which function numba refuses, and why, in one line."""
        inputs = self.states + self.parameters
        for name, function, noise in self._functions():
            try:
                _compile_alone(function, inputs + len(noise))
            except Exception as alone:
                lines = [line.strip() for line in _COLOURS.sub("", str(alone)).splitlines() if line.strip()]
                return f"{name} cannot be compiled: {next(iter(lines[1:2] or lines), type(alone).__name__)}"
        return f"the loop cannot be compiled: {type(error).__name__}"

    @cached_property
    def _kernel(self) -> Any:
        from implicit_simulators.engines.kernel_cache import CachedKernel
        from implicit_simulators.engines.step_kernel import compile_kernel

        made = (self.states, self.parameters, self.noise, self.emission_noise, self.counts, self.recorded)
        kernel = compile_kernel(
            *(self.step, self.states, self.parameters, self.noise),
            *(self.emit, self.recorded, self.emission_noise, self.counts),
        )
        return CachedKernel(kernel, ("steps", self.step, self.emit, made), _name(self.step))


def _arguments(function: Step, name: str) -> int:
    try:
        arguments = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected a Python function; got {type(function).__name__}") from error
    if any(a.kind not in (a.POSITIONAL_ONLY, a.POSITIONAL_OR_KEYWORD) for a in arguments):
        raise TypeError(f"{name}: expected positional arguments only: states, parameters, noise")
    return sum(a.default is a.empty for a in arguments)


def _try(function: Step, name: str, inputs: int, noise: int) -> tuple[Any, ...]:
    """What the function gives for ones, or for the first of a few numbers for which it is defined."""
    for number in (1.0, 0.5, 2.0, 0.0, -1.0, 10.0):
        try:
            with np.errstate(all="ignore"):
                result = function(*[number] * inputs, *[0.5] * noise)
            break
        except (ArithmeticError, ValueError) as error:  # compiled, these are infinity or NaN
            failure = error
    else:
        raise ValueError(f"{name}: expected a function of numbers; it fails on each that was tried: {failure}")
    if not isinstance(result, tuple):
        raise ValueError(f"{name}: expected a tuple of numbers; got {type(result).__name__}")
    return result


def _compile_alone(function: Step, inputs: int) -> None:
    """Raise what numba has against the function itself."""
    from numba import types

    from implicit_simulators.engines.user_code import compiled

    defaults = getattr(function, "__defaults__", None) or ()
    compiled(function).compile((types.float64,) * inputs + tuple(types.Omitted(value) for value in defaults))


def _name(function: Step) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))


def _has_loop(function: Step) -> bool:
    """Whether the bytecode jumps backwards."""
    import dis

    return any("BACKWARD" in instruction.opname for instruction in dis.get_instructions(function))
