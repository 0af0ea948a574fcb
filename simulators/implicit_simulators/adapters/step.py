"""A user's model that moves step by step, or draw by draw, written for one row and run as compiled code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from implicit_simulators.adapters.own import OwnSimulator
from implicit_simulators.adapters.prior import as_prior
from implicit_simulators.base import as_tensor
from implicit_simulators.code import fingerprint
from implicit_simulators.engines.paths import compiled_paths, needs_torch
from implicit_simulators.engines.steps import step_process
from implicit_simulators.engines.torch_steps import run_in_torch
from implicit_simulators.streams import Stream


class StepSimulator(OwnSimulator):
    r"""Wraps a scalar step, compiled by numba into a loop over 64 rows in lockstep.

    .. math:: s_{t+1} = f(s_t, \theta, \varepsilon_t), \qquad y_j \sim g(s_{jm}, \theta, \eta_j)

    The step is plain Python on floats; it names the kinds of noise that it needs and is given them as arguments. Random
    numbers, logarithms and exponentials are the library's own, so that the loop becomes vector code; see
    :func:`implicit_simulators.engines.steps.step_process`. ``engine`` says what runs it and ``reason`` why it is
    nothing quicker: ``"lanes"``, ``"scalar"`` (compiled, a row at a time), or ``"vectorised"`` (not to be compiled:
    NumPy runs ``vectorised``, or the step itself, on columns of rows).

    With ``differentiable=True`` the same function is run by torch when gradients are asked for, or on another device;
    it must then be free of conditions on states (``max``, ``min`` and ``abs`` are fine).

    Args:
        step: ``(s_1, ..., s_k, theta_1, ..., theta_d, e_1, ..., e_r) -> (s_1, ..., s_k)``.
        prior: See :func:`implicit_simulators.adapters.prior.as_prior`.
        initial: The k states before the first step: numbers, or a function from theta (n, d) to (n, k).
        steps: How many steps.
        every: Steps from one record to the next.
        skip: Steps before the first record is waited for: what burns in, unseen.
        noise: Kind of each number of noise of a step: ``"normal"``, ``"uniform"``, ``"exponential"``.
        emit: What is recorded of a state, ``(s_1, ..., s_k, theta_1, ..., theta_d, e_1, ..., e_q) -> (y_1, ..., y_o)``;
            the states themselves if None.
        emission_noise: Kind of each number of noise of an emission.
        counts: Record Poisson counts with the emitted means.
        record: Without ``emit``, which states are recorded; all if None.
        vectorised: The step on arrays of rows, for when it cannot be compiled.
        differentiable: Whether gradients may be asked for.
        parameter_names: The d names; those of the step's arguments if None.
        observed: Data, with shape ``event_shape``, available as ``observation("observed")``.
        summarize: Summary statistics, from (n, \*event_shape) to (n, k); x flattened if None.
        name: Name in reports; the step's if None.
        threads: Threads that share the rows of a block; results do not depend on it.

    Attributes:
        event_shape: (T,) if one number is recorded each time, else (T, o), with T = (steps - skip) // every.

    Raises:
        TypeError: If a function takes other than positional arguments, or ``prior`` is no distribution.
        ValueError: If numbers of arguments, results, states or names do not fit each other.

    Example:
        >>> def reversion(x, speed, level, z):
        ...     return (x + 0.1 * speed * (level - x) + 0.3 * z,)
        >>> model = StepSimulator(reversion, prior=([0.0, -1.0], [2.0, 1.0]), initial=[0.0], steps=100, every=10)
        >>> model.parameter_names, model.event_shape
        (('speed', 'level'), torch.Size([10]))
        >>> model.simulate([[1.0, 0.5]], seed=0).shape
        torch.Size([1, 10])
    """

    releases_gil = True

    def __init__(
        self,
        step: Callable[..., Any],
        prior: Any,
        *,
        initial: Sequence[float] | Callable[[Tensor], Any],
        steps: int,
        every: int = 1,
        skip: int = 0,
        noise: Sequence[str] | str = ("normal",),
        emit: Callable[..., Any] | None = None,
        emission_noise: Sequence[str] | str = (),
        counts: bool = False,
        record: Sequence[int] | None = None,
        vectorised: Callable[..., Any] | None = None,
        differentiable: bool = False,
        parameter_names: Sequence[str] | None = None,
        observed: Any = None,
        summarize: Callable[[Tensor], Any] | None = None,
        name: str | None = None,
        threads: int = 1,
    ) -> None:
        for argument, value in (("steps", steps), ("every", every), ("threads", threads)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{argument}: expected a positive int; got {value!r}")
        if isinstance(skip, bool) or not isinstance(skip, int) or skip < 0:
            raise ValueError(f"skip: expected an int of at least 0; got {skip!r}")
        if steps - skip < every:
            raise ValueError(f"steps: expected at least skip + every, {skip + every}, to record something; got {steps}")
        if differentiable and counts:
            raise ValueError("differentiable: a Poisson count has no gradient; leave out counts or differentiable")
        self.prior = as_prior(prior)
        d = self.prior.event_shape[0]
        states = len(initial) if isinstance(initial, Sequence) else _width(initial, self.prior)
        self.process = step_process(
            step,
            states=states,
            noise=noise,
            emit=emit,
            emission_noise=emission_noise,
            counts=counts,
            record=record,
            vectorised=vectorised,
        )
        if self.process.parameters != d:
            raise ValueError(
                f"step: expected {states} states, {d} parameters (as the prior has) and {len(self.process.noise)} of "
                f"noise; got {states + self.process.parameters + len(self.process.noise)} arguments"
            )
        own = step.__code__.co_varnames[states : states + d]
        self.parameter_names = tuple(own if parameter_names is None else parameter_names)
        if len(self.parameter_names) != d or len(set(self.parameter_names)) != d:
            raise ValueError(f"parameter_names: expected {d} different names; got {list(self.parameter_names)}")
        self.name = str(name or getattr(step, "__name__", "step"))
        self.steps, self.every, self.skip, self.threads = steps, every, skip, threads
        self.differentiable = differentiable
        self._initial = initial
        self._take_statistics(summarize)
        times, outputs = (steps - skip) // every, self.process.outputs
        self.event_shape = torch.Size([times] if outputs == 1 else [times, outputs])
        self._take_data(observed)

    @property
    def engine(self) -> str:
        """What runs it on a CPU: ``"lanes"``, ``"scalar"`` or ``"vectorised"``; compiles it."""
        return self.process.engine

    @property
    def reason(self) -> str:
        """Why ``engine`` is not ``"lanes"``, or an empty string."""
        return self.process.reason

    def prepare(self) -> float:
        """Compile, or load from disk, what simulating needs; the seconds that took."""
        return self.process.prepare()

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        if not self.differentiable:
            theta = theta.detach()
        initial = self._start(theta)
        if self.differentiable and needs_torch(theta, initial):
            x = run_in_torch(self.process, theta, initial, self.steps, stream.key, self.every, self.skip)
        else:
            x = compiled_paths(
                *(self.process, theta, initial, self.steps, stream.key, self.every, self.skip), threads=self.threads
            )
        return x.reshape(len(theta), *self.event_shape)

    def _start(self, theta: Tensor) -> Tensor:
        if isinstance(self._initial, Sequence):
            return theta.new_tensor(self._initial).expand(len(theta), -1)
        initial = as_tensor(self._initial(theta), "outcome of initial").to(theta)
        if initial.shape != (len(theta), self.process.states):
            expected = (len(theta), self.process.states)
            raise ValueError(f"initial: expected states of shape {expected}; got {tuple(initial.shape)}")
        return initial

    def settings(self) -> dict[str, Any]:
        """The step and all that made the model what it is, by a fingerprint of its code."""
        process = self.process
        code = fingerprint(process.step, process.emit, self._initial, process.vectorised)
        return {
            "name": self.name,
            "code": code,
            "steps": self.steps,
            "every": self.every,
            "skip": self.skip,
            "noise": list(process.noise),
            "emission_noise": list(process.emission_noise),
            "counts": process.counts,
            "record": list(process.recorded),
        }


def _width(initial: Callable[[Tensor], Any], prior: Any) -> int:
    """How many states a function of theta gives."""
    if not callable(initial):
        raise TypeError(f"initial: expected numbers or a function of theta; got {type(initial).__name__}")
    with Stream.of(0, role="prior").forked():
        theta = prior.sample((2,))
    states = as_tensor(initial(theta), "outcome of initial")
    if states.ndim != 2 or len(states) != 2:
        raise ValueError(
            f"initial: expected states of shape (n, k) for theta of shape (n, d); got {tuple(states.shape)}"
        )
    return int(states.shape[1])
