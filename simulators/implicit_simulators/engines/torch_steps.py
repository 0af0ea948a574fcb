r"""The same stepwise model in torch, on the same noise: gradients along the path, and other devices.

A step written for :mod:`implicit_simulators.engines.steps` is arithmetic on numbers, and arithmetic on numbers is
arithmetic on columns of rows: with ``math`` replaced by torch the very function that is compiled also builds a graph.
On a CPU it sees the noise that the compiled code sees, so that both give the same path up to rounding; elsewhere the
noise is the device's own.
"""

from __future__ import annotations

import builtins
import math
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_simulators.engines.step_noise import Stepwise, draw_noise
from implicit_simulators.streams import Stream


def run_in_torch(
    process: Stepwise, parameters: Tensor, initial: Tensor, steps: int, key: int, every: int = 1, skip: int = 0
) -> Tensor:
    r"""One trajectory for each row, differentiable in parameters and initial states.

    .. math:: \frac{\partial s_{t+1}}{\partial \theta} = \partial_s f \frac{\partial s_t}{\partial \theta}
        + \partial_\theta f, \quad \text{noise held fixed}

    Args:
        process: The model; counts have no path, and are refused.
        parameters: Shape (n, m), on any device.
        initial: Shape (n, k).
        steps: How many steps.
        key: Key of the random numbers.
        every: Steps from one record to the next.
        skip: Steps before the first record is waited for.

    Returns:
        Records with shape (n, (steps - skip) // every, o), of the parameters' dtype.

    Raises:
        ValueError: If the process records counts.
        TypeError: If the step does what columns cannot, such as ``if`` on a state.
    """
    if process.counts:
        raise ValueError("counts: a Poisson count has no gradient; run the process without counts for its means")
    n = len(parameters)
    step = in_torch(process.step)
    emit = None if process.emit is None else in_torch(process.emit)
    noise = step_noise(process.noise, n, steps, key, parameters)
    seen = step_noise(process.emission_noise, n, (steps - skip) // every, key, parameters, stream=1)
    state, columns = list(initial.unbind(1)), list(parameters.unbind(1))
    records = []
    try:
        for t in range(steps):
            state = list(step(*state, *columns, *noise[:, t].unbind(1)))
            if t >= skip and (t + 1 - skip) % every == 0:
                place = (t + 1 - skip) // every - 1
                values = state if emit is None else emit(*state, *columns, *seen[:, place].unbind(1))
                chosen = [
                    torch.as_tensor(values[i], dtype=parameters.dtype, device=parameters.device)
                    for i in process.recorded
                ]
                records.append(torch.stack([value.expand(n) for value in chosen], 1))
    except RuntimeError as error:
        if "ambiguous" in str(error) or "Boolean value of Tensor" in str(error):
            raise TypeError("step: a condition on a state cannot be differentiated; use max, min or abs") from error
        raise
    if not records:
        return parameters.new_empty((n, 0, process.outputs))
    return torch.stack(records, 1)


def step_noise(kinds: Sequence[str], n: int, steps: int, key: int, like: Tensor, stream: int = 0) -> Tensor:
    """The noise of compiled steps for torch to use, with shape (n, steps, r); on other devices than a CPU, their own.

    Args:
        kinds: Kind of each of r numbers a step; see :data:`implicit_simulators.engines.step_noise.KINDS`.
        n: How many rows.
        steps: How many steps.
        key: Key of the compiled run.
        like: Dtype and device.
        stream: 0 for steps, 1 for emissions.
    """
    if like.device.type == "cpu":
        return torch.from_numpy(draw_noise(kinds, n, steps, key, stream=stream)).to(like.dtype)
    columns = []
    for i, kind in enumerate(kinds):
        made = torch.randn if kind == "normal" else torch.rand
        generator = Stream.of(key, 2 * i + stream).torch(like.device)
        column = made((n, steps), generator=generator, device=like.device, dtype=like.dtype)
        if kind != "normal":
            column = column.clamp_min(torch.finfo(like.dtype).eps / 4)  # torch's may be zero, whose logarithm is not
        columns.append(-torch.log1p(-column) if kind == "exponential" else column)
    return torch.stack(columns, 2) if columns else like.new_empty((n, steps, 0))


def in_torch(function: Callable[..., Any]) -> Callable[..., Any]:
    """A copy of ``function`` in which mathematics on numbers is mathematics on tensors."""
    return _rebuilt(function, {})


def _rebuilt(function: Any, done: dict[int, Any]) -> Callable[..., Any]:
    function = getattr(function, "py_func", function)  # of what numba compiled, the Python within

    def swap(value: Any) -> Any:
        if value is math or value is np:
            return _TORCH
        if id(value) in _BY_IDENTITY:
            return _BY_IDENTITY[id(value)]
        value = getattr(value, "py_func", value)
        if isinstance(value, types.FunctionType):
            return done[id(value)] if id(value) in done else _rebuilt(value, done)
        return value

    scope = {"max": _maximum, "min": _minimum} | function.__globals__
    cells = tuple(types.CellType() for _ in function.__closure__ or ())
    copy = types.FunctionType(function.__code__, scope, function.__name__, function.__defaults__, cells)
    copy.__kwdefaults__ = function.__kwdefaults__
    done[id(function)] = copy  # before its globals, among which it may be itself
    for name in set(_names(function.__code__)) & function.__globals__.keys():
        scope[name] = swap(scope[name])
    for ours, theirs in zip(cells, function.__closure__ or (), strict=True):
        ours.cell_contents = swap(theirs.cell_contents)
    return copy


def _names(code: types.CodeType) -> Iterator[str]:
    """Global names that code uses, nested functions included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _of_tensors(plain: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    """``ours`` for tensors, and numbers beside them, ``plain`` for numbers."""

    def function(*arguments: Any) -> Any:
        like = next((a for a in arguments if isinstance(a, Tensor)), None)
        if like is None:
            return plain(*arguments)
        return ours(*(torch.as_tensor(a, dtype=like.dtype, device=like.device) for a in arguments))

    return function


def _maximum(*values: Any) -> Any:
    return _extreme(torch.maximum, builtins.max, values)


def _minimum(*values: Any) -> Any:
    return _extreme(torch.minimum, builtins.min, values)


def _extreme(ours: Callable[[Tensor, Tensor], Tensor], plain: Callable[..., Any], values: tuple[Any, ...]) -> Any:
    tensors = [value for value in values if isinstance(value, Tensor)]
    if not tensors:
        return plain(*values)
    result, *others = (torch.as_tensor(value, dtype=tensors[0].dtype, device=tensors[0].device) for value in values)
    for other in others:
        result = ours(result, other)
    return result


_TORCH = types.SimpleNamespace(**{name: value for name, value in vars(math).items() if not name.startswith("_")})
for _name, _ours in {
    **{
        name: getattr(torch, name)
        for name in (
            "exp",
            "log",
            "log1p",
            "expm1",
            "sqrt",
            "sin",
            "cos",
            "tan",
            "tanh",
            "log2",
            "log10",
            "floor",
            "ceil",
        )
    },
    **{
        name: getattr(torch, name)
        for name in ("sinh", "cosh", "atan", "atan2", "hypot", "copysign", "lgamma", "erf", "pow")
    },
    "fabs": torch.abs,
}.items():
    setattr(_TORCH, _name, _of_tensors(getattr(math, _name), _ours))
for _name in ("sign", "square", "arctan", "arctan2", "arcsin", "arccos", "arcsinh", "arccosh", "arctanh", "exp2"):
    setattr(_TORCH, _name, _of_tensors(getattr(np, _name), getattr(torch, _name)))
for _name in ("asin", "acos", "asinh", "acosh", "atanh"):
    setattr(_TORCH, _name, _of_tensors(getattr(math, _name), getattr(torch, _name)))
_TORCH.power = _of_tensors(np.power, torch.pow)
_TORCH.abs, _TORCH.maximum, _TORCH.minimum, _TORCH.where = abs, _maximum, _minimum, torch.where

_BY_IDENTITY = {
    id(function): getattr(_TORCH, name)
    for module in (math, np)
    for name in vars(_TORCH)
    if callable(function := getattr(module, name, None)) and name not in ("abs", "where")
}
