r"""A user's scalar function, made fit for compiled loops: its logs and exponentials replaced, its helpers compiled too.

``math.exp`` in a loop over rows is a call into the C library, which keeps the loop scalar: two to three times slower.
The functions of :mod:`implicit_simulators.engines.lanes` are straight-line arithmetic, which LLVM turns into vector
code. A function is rebuilt with other globals, in which ``math``, ``numpy`` and what was imported from them give ours;
the user's own is left as it is.

Importing this module imports numba.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numba import njit

from implicit_simulators.engines.lanes import JIT, any_exp, any_log

_INLINED: dict[str, Any] = {"forceinline": True, **JIT}


@njit(**_INLINED)
def _log1p(x: float) -> float:
    r"""Log of 1 + x without loss near zero: :math:`x \log(u) / (u - 1)` with :math:`u = 1 + x` as rounded (Kahan)."""
    u = 1.0 + x
    ratio = any_log(u) / (u - 1.0 if u != 1.0 else 1.0)
    value = x * ratio if u != 1.0 else x
    return value if x < np.inf else x


@njit(**_INLINED)
def _expm1(x: float) -> float:
    r"""Exponential of x less 1 without loss near zero: :math:`(u - 1) x / \log u` with :math:`u = e^x` as rounded."""
    u = any_exp(x)
    inner = (u - 1.0) * (x / any_log(u)) if (u != 1.0) & (u > 0.1) & (u < 10.0) else u - 1.0
    return x if u == 1.0 else inner


@njit(**_INLINED)
def _tanh(x: float) -> float:
    """Hyperbolic tangent."""
    t = _expm1(-2.0 * abs(x))
    value = -t / (t + 2.0)
    return value if x >= 0.0 else -value


@njit(**_INLINED)
def _power(x: float, y: float) -> float:
    """Power, by logs: relative error about ``|y log x|`` units in the last place; NaN for roots of negative numbers."""
    size = any_exp(y * any_log(abs(x)))
    size = 1.0 if (y == 0.0) | (abs(x) == 1.0) else size
    half = 0.5 * y
    whole, even = np.floor(y) == y, np.floor(half) == half
    below = size if even else (-size if whole else np.nan)
    value = below if x < 0.0 else size
    # infinity times the logarithm of one, and NaN to the power of zero, are one, as in the C library
    return 1.0 if (y == 0.0) | (x == 1.0) else value


@njit(**_INLINED)
def _log2(x: float) -> float:
    return any_log(x) * 1.4426950408889634


@njit(**_INLINED)
def _log10(x: float) -> float:
    return any_log(x) * 0.4342944819032518


VECTOR: dict[str, Any] = {
    "exp": any_exp,
    "log": any_log,
    "log1p": _log1p,
    "expm1": _expm1,
    "tanh": _tanh,
    "pow": _power,
    "log2": _log2,
    "log10": _log10,
}
"""What stands in for functions of ``math`` (and, under the same names, of ``numpy``)."""

_BY_IDENTITY = {
    id(function): VECTOR[name] for name in VECTOR for module in (math, np) if (function := getattr(module, name, None))
}
_IN_LINE = ("sqrt", "fabs", "floor", "ceil", "copysign")
"""Functions of ``math`` that are instructions of the processor, and need no stand-in."""


def compiled(function: Callable[..., Any]) -> Any:
    """``function`` compiled for use inside a loop over rows.

    Python functions that it calls by name are compiled in the same way; what numba compiled already is used as it is.

    Args:
        function: A plain Python function of numbers.

    Returns:
        A numba function with the same arguments.
    """
    function = getattr(function, "py_func", function)  # of what numba compiled already, the Python within
    done: dict[int, Any] = {}
    _rebuilt(function, done)
    return done[id(function)]


def _rebuilt(function: Any, done: dict[int, Any]) -> None:
    """Put into ``done``, by identity, a compiled copy of ``function`` that sees our mathematics."""

    def swap(value: Any) -> Any:
        if value is math:
            return _stand_in(math)
        if value is np:
            return _stand_in(np)
        if id(value) in _BY_IDENTITY:
            return _BY_IDENTITY[id(value)]
        if isinstance(value, types.FunctionType):
            if id(value) not in done:
                _rebuilt(value, done)
            return done[id(value)]
        return value

    swapped = dict(function.__globals__)
    cells = tuple(types.CellType() for _ in function.__closure__ or ())
    copy = types.FunctionType(function.__code__, swapped, function.__name__, function.__defaults__, cells)
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__qualname__ = function.__qualname__
    done[id(function)] = njit(**_INLINED)(copy)  # before its globals, among which it may be itself
    for name in set(_names(function.__code__)) & swapped.keys():
        swapped[name] = swap(swapped[name])
    for ours, theirs in zip(cells, function.__closure__ or (), strict=True):
        ours.cell_contents = swap(theirs.cell_contents)


_STAND_INS: dict[str, types.ModuleType] = {}


def _stand_in(module: types.ModuleType) -> types.ModuleType:
    """A module like ``math`` or ``numpy`` in which the functions of ``VECTOR`` are ours."""
    if module.__name__ not in _STAND_INS:
        copy = types.ModuleType(module.__name__)
        copy.__dict__.update(vars(module))
        copy.__dict__.update({name: VECTOR[name] for name in VECTOR if hasattr(module, name)})
        _STAND_INS[module.__name__] = copy
    return _STAND_INS[module.__name__]


def _names(code: types.CodeType) -> Iterator[str]:
    """Global names that code uses, nested functions included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def scalar_calls(function: Callable[..., Any]) -> list[str]:
    """Functions of ``math`` that ``function`` uses and that keep the loop over rows scalar, such as ``math.gamma``."""
    module = any(value is math for value in _reached(function))
    used = set(_names(function.__code__)) if module else set()
    return sorted(
        name
        for name in used
        if callable(getattr(math, name, None)) and name not in VECTOR and name not in _IN_LINE and name != "pi"
    )


def _reached(function: Any) -> Iterator[Any]:
    """Values of the globals and closure that ``function`` uses."""
    for name in _names(function.__code__):
        if name in function.__globals__:
            yield function.__globals__[name]
    for cell in function.__closure__ or ():
        yield cell.cell_contents
