"""What stands in for ``math`` in a user's compiled function, against the C library, and how a function is rebuilt."""

from __future__ import annotations

import math
from math import exp as imported_exp

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from implicit_simulators.engines.lanes import JIT
from implicit_simulators.engines.user_code import VECTOR, compiled, scalar_calls

LOG1P, EXPM1, TANH, LOG2, LOG10 = (VECTOR[name] for name in ("log1p", "expm1", "tanh", "log2", "log10"))
POWER = VECTOR["pow"]
ONE = ("log1p", "expm1", "tanh", "log2", "log10")


@njit(**JIT)
def run_all(x, y, out):
    for i in range(len(x)):
        out[0, i] = LOG1P(x[i])
        out[1, i] = EXPM1(x[i])
        out[2, i] = TANH(x[i])
        out[3, i] = LOG2(x[i])
        out[4, i] = LOG10(x[i])
        out[5, i] = POWER(x[i], y[i])


def stand_ins(x, y=0.5) -> dict[str, np.ndarray]:
    x, y = (np.ascontiguousarray(a, dtype=float) for a in np.broadcast_arrays(x, y))
    out = np.empty((6, x.size))
    run_all(x.ravel(), y.ravel(), out)
    return dict(zip((*ONE, "pow"), out, strict=True))


def plain(name: str, *arguments) -> np.ndarray:
    with np.errstate(all="ignore"):
        return getattr(np, {"pow": "power"}.get(name, name))(*(np.asarray(a, float) for a in arguments))


def assert_close(name: str, ours: np.ndarray, theirs: np.ndarray, tolerance: float = 2e-15) -> None:
    """Relative error; infinities and NaN in the same places. Subnormal results count as zero."""
    rough = ~np.isfinite(theirs)
    np.testing.assert_array_equal(ours[rough], theirs[rough], err_msg=name)
    np.testing.assert_allclose(ours[~rough], theirs[~rough], rtol=tolerance, atol=1e-307, err_msg=name)


SPECIAL = [0.0, 1e-300, -1e-300, 1.0, -1.0, 2.0, 1e300, -1e300, np.inf, -np.inf, np.nan, 709.0, -709.0, 710.0, -2.0]


@pytest.mark.parametrize("name", ONE)
def test_special_values_are_those_of_the_c_library(name: str) -> None:
    assert_close(name, stand_ins(SPECIAL)[name], plain(name, SPECIAL))


@pytest.mark.parametrize("name", ONE)
def test_all_magnitudes_are_right(name: str) -> None:
    rng = np.random.default_rng(0)
    x = np.exp(rng.uniform(-650, 650, 50_000)) * rng.choice([-1, 1], 50_000)
    near = np.concatenate([x, rng.uniform(-1, 1, 50_000), rng.uniform(-40, 40, 50_000)])
    assert_close(name, stand_ins(near)[name], plain(name, near))


@pytest.mark.parametrize("name", ["log1p", "expm1", "tanh"])
def test_nothing_is_lost_near_zero(name: str) -> None:
    """Where 1 + x is rounded to a few digits of x: one part in 10**15 all the same, and the sign of zero."""
    x = 2.0 ** np.arange(-1000, 1, 0.37)
    for sign in (1, -0.999):
        assert_close(name, stand_ins(sign * x)[name], plain(name, sign * x), tolerance=1e-15)


@pytest.mark.parametrize("x", [0.0, 0.5, 1.0, 2.5, -1.0, -0.5, -2.0, -3.0, np.inf, np.nan, 1e-300, -1e200])
def test_powers_have_the_special_values_of_the_c_library(x: float) -> None:
    """Squares of negative numbers among them. (The sign of zero is left out: lanes have none.)"""
    y = np.array([0.0, 1.0, 2.0, 3.0, -1.0, -2.0, -3.0, 0.5, 1.5, np.inf, -np.inf, np.nan, 4e15, 2.0**60])
    assert_close("pow", stand_ins(x, y)["pow"], plain("pow", x, y), tolerance=1e-12)


@given(st.floats(1e-100, 1e100), st.floats(-3, 3))
def test_powers_lose_no_more_than_logarithms_do(x: float, y: float) -> None:
    expected = x**y
    error = abs(stand_ins(x, y)["pow"][0] - expected)
    assert error <= 1e-15 * (2 + abs(y * math.log(x))) * expected


@given(st.floats(-50, 50), st.integers(-6, 6))
def test_whole_powers_have_the_sign_of_their_base(x: float, y: int) -> None:
    theirs = plain("pow", [x], y)
    assert_close("pow", stand_ins([abs(x) and x], y)["pow"], np.abs(theirs) if x == 0 else theirs, tolerance=1e-13)


def helper(x):
    return math.exp(x) + 1.0


def uses_everything(x, a, b=2.0):
    return helper(x) + np.log(a) + imported_exp(b) + math.sqrt(a) + math.fabs(x) + math.pi


def code_of(function, *types_) -> str:
    dispatcher = compiled(function)
    dispatcher.compile(types_)
    return dispatcher.inspect_llvm(dispatcher.signatures[0])


def test_functions_are_found_in_modules_imports_helpers_and_closures() -> None:
    from numba import types

    scale, inner = 3.0, imported_exp

    def closed(x, a):
        return scale * inner(x) + uses_everything(x, a)

    assert compiled(closed)(0.3, 2.0) == pytest.approx(closed(0.3, 2.0), rel=1e-14)
    code = code_of(closed, types.float64, types.float64)
    assert " @exp(" not in code
    assert "@llvm.exp." not in code
    assert "@llvm.log." not in code


def test_the_users_own_function_and_modules_are_left_as_they_were() -> None:
    before = dict(uses_everything.__globals__)
    compiled(uses_everything)
    assert uses_everything.__globals__ == before
    assert math.exp(1.0) == math.e
    assert np.exp is not VECTOR["exp"]


def test_arguments_with_defaults_keep_them() -> None:
    assert compiled(uses_everything)(0.3, 2.0) == pytest.approx(uses_everything(0.3, 2.0), rel=1e-14)


def factorial(n):
    return 1.0 if n < 1.5 else n * factorial(n - 1.0)


def log(x):
    """Named as what it calls."""
    return math.log(x) + 1.0


def test_functions_may_call_themselves_and_be_named_as_others() -> None:
    assert compiled(factorial)(5.0) == 120
    assert compiled(log)(2.0) == pytest.approx(math.log(2) + 1, rel=1e-15)


def test_what_numba_compiled_is_rebuilt_too() -> None:
    assert compiled(njit(helper))(0.5) == pytest.approx(helper(0.5), rel=1e-15)


def test_calls_that_keep_a_loop_scalar_are_named() -> None:
    assert scalar_calls(lambda x: math.gamma(x) + math.sin(x) + math.exp(x) + math.floor(x) * math.pi) == [
        "gamma",
        "sin",
    ]
    assert scalar_calls(uses_everything) == []
