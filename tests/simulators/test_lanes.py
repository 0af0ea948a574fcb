"""The arithmetic under the compiled engines, against published vectors and the C library."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

import implicit_simulators
from implicit_simulators.engines.lanes import (
    JIT,
    any_exp,
    any_log,
    leading_zeros,
    log,
    philox,
    unit_above,
    unit_below,
)


def words(*values: int) -> list[np.uint64]:
    return [np.uint64(value) for value in values]


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5E169C58D, 0xBC57AC4C9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D41C83B0E, 0xA20BC7C66D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE0994FDCCEB, 0x5001E42024126EA1),
        ),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_philox_gives_the_known_answers_of_random123(
    counter: tuple[int, ...], key: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert tuple(int(word) for word in philox(*words(*counter, *key))) == expected


@njit(**JIT)
def log_all(x, out):
    for i in range(len(x)):
        out[i] = log(x[i])


@pytest.mark.parametrize(
    "x",
    [
        np.random.default_rng(0).random(200_000) + 2.0**-53,  # what waiting times are made from
        1 - np.arange(1, 100_000) * 2.0**-52,  # close to one, where the logarithm vanishes
        2.0 ** np.arange(-1022, 1023),
        np.exp(np.random.default_rng(1).uniform(-700, 700, 100_000)),
        np.sqrt([0.5, 2.0]) * np.array([[1 - 1e-15], [1.0], [1 + 1e-15]]),  # the edges of the reduced range
    ],
    ids=["uniform", "near one", "powers of two", "all magnitudes", "edges"],
)
def test_log_is_right_to_one_part_in_ten_to_the_fifteen(x: np.ndarray) -> None:
    ours, theirs = np.empty(x.size), np.log(x.ravel())
    log_all(x.ravel(), ours)
    assert np.abs(ours - theirs).max(initial=0, where=theirs == 0) == 0
    relative = np.abs(ours - theirs) / np.where(theirs == 0, 1, np.abs(theirs))
    assert relative.max() < 1e-15


def test_uniform_numbers_stay_on_their_side_of_the_interval() -> None:
    none, all_ones = words(0, 2**64 - 1)
    assert unit_below(none) == 0
    assert unit_below(all_ones) == 1 - 2.0**-52
    assert unit_above(none) == 1
    assert unit_above(all_ones) == 2.0**-52


def test_leading_zeros_are_counted() -> None:
    count = njit(lambda x: leading_zeros(x))
    assert [count(word) for word in words(1, 2**63, 2**32 - 1)] == [63, 0, 32]


@njit(**JIT)
def any_log_all(x, out):
    for i in range(len(x)):
        out[i] = any_log(x[i])


@njit(**JIT)
def any_exp_all(x, out):
    for i in range(len(x)):
        out[i] = any_exp(x[i])


def by(kernel, x) -> np.ndarray:
    x = np.ascontiguousarray(x, dtype=float).ravel()
    out = np.empty_like(x)
    kernel(x, out)
    return out


def assert_same(ours: np.ndarray, theirs: np.ndarray, units: float) -> None:
    """NaN, infinity and zero in the same places, and the rest within so many units in the last place."""
    finite = np.isfinite(theirs)
    np.testing.assert_array_equal(ours[~finite], theirs[~finite])
    ours, theirs = ours[finite], theirs[finite]
    assert (np.abs(ours - theirs) <= units * np.spacing(np.abs(theirs))).all()


def logarithm(x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.log(x)


def exponential(x: np.ndarray) -> np.ndarray:
    """As the C library has it; below e**-707, where ours is documented to be so, zero."""
    with np.errstate(all="ignore"):
        return np.where(x < -707, 0.0, np.exp(x))


EDGES = [0.0, -0.0, 5e-324, 1e-310, 2.2250738585072009e-308, 2.2250738585072014e-308, 1.0, 1.7976931348623157e308]
EDGES += [np.inf, -np.inf, np.nan, -1.0, -5e-324, -1e308]


def test_any_log_has_the_special_values_of_the_c_library() -> None:
    assert_same(by(any_log_all, EDGES), logarithm(np.array(EDGES)), 5)


def test_any_exp_has_the_special_values_of_the_c_library() -> None:
    last = np.log(np.finfo(float).max)  # 709.78: the largest number whose exponential is finite
    x = np.array([*EDGES, 709.0, 709.7, last, np.nextafter(last, 800), 709.79, 710.0, 711.0, -707.0, -707.1, -745.0])
    assert np.isfinite(np.exp(last))
    assert_same(by(any_exp_all, x), exponential(x), 2)


def test_any_log_is_right_everywhere() -> None:
    """To five units, against the C library's, which is right to one.

    Bits drawn at random reach every magnitude, negative numbers, subnormal ones, infinity and NaN.
    """
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**64, 100_000, dtype=np.uint64)
    subnormal = rng.integers(1, 2**52, 10_000, dtype=np.uint64) >> rng.integers(0, 50, 10_000, dtype=np.uint64)
    for words in (bits, bits & np.uint64(2**63 - 1), subnormal):
        assert_same(by(any_log_all, words.view(float)), logarithm(words.view(float)), 5)


def test_any_exp_is_right_everywhere() -> None:
    rng = np.random.default_rng(1)
    halves = np.log(2) * (np.arange(-1020, 1024) + 0.5)  # where rounding to a power of two changes its mind
    x = np.concatenate([rng.uniform(-707, 709.7, 200_000), rng.normal(size=100_000), halves, halves * (1 + 1e-15)])
    assert_same(by(any_exp_all, x), exponential(x), 2)
    x = rng.integers(0, 2**64, 100_000, dtype=np.uint64).view(float)
    assert_same(by(any_exp_all, x), exponential(x), 2)


@given(st.floats(allow_subnormal=True))
def test_logarithm_and_exponential_of_any_number(x: float) -> None:
    assert_same(by(any_log_all, [x]), logarithm(np.array([x])), 5)
    assert_same(by(any_exp_all, [x]), exponential(np.array([x])), 2)


@given(st.floats(-700, 700))
def test_the_logarithm_undoes_the_exponential(x: float) -> None:
    back = by(any_log_all, by(any_exp_all, [x]))[0]
    assert abs(back - x) <= 6 * np.spacing(max(abs(x), 1.0))


def test_rounding_survives_in_a_compiled_loop() -> None:
    """What ``fastmath=True`` deletes: adding and subtracting 1.5 * 2**52 rounds, and (x - y) + y is not x."""

    @njit(**JIT)
    def rounded(x, out):
        for i in range(len(x)):
            out[i] = (x[i] + 6755399441055744.0) - 6755399441055744.0

    @njit(**JIT)
    def failed(x, out):
        for i in range(len(x)):
            out[i] = 1.0 if x[i] != x[i] else 0.0

    x = np.random.default_rng(0).uniform(-1e6, 1e6, 1000)
    np.testing.assert_array_equal(by(rounded, x), np.rint(x))
    np.testing.assert_array_equal(by(failed, [1.0, np.nan, np.inf]), [0, 1, 0])
    code = any_exp_all.inspect_llvm(any_exp_all.signatures[0])
    assert "contract" in code
    assert not re.search(r"= f\w+ [a-z ]*\b(fast|reassoc|nnan|ninf|arcp|afn)\b", code)


def test_lane_kernels_are_compiled_with_flags_that_keep_numbers_right() -> None:
    assert set(JIT["fastmath"]) == {"contract", "nsz"}
    assert JIT["nogil"]
    assert JIT["error_model"] == "numpy"


def test_nothing_is_compiled_for_openmp_or_with_all_fast_mathematics() -> None:
    """A process that forks after an OpenMP loop hangs; ``fastmath=True`` reassociates."""
    root = Path(implicit_simulators.__file__).parents[2]
    sources = [
        path
        for package in ("simulators/implicit_simulators", "estimators/implicit_estimators", "implicit_infer")
        for path in (root / package).rglob("*.py")
    ] or list(Path(implicit_simulators.__file__).parent.rglob("*.py"))
    assert len(sources) > 50
    bad = re.compile(r"\bprange\b|\bparallel\s*=\s*True|[\"']parallel[\"']\s*:\s*True|fastmath\s*=\s*True")
    guilty = [path.name for path in sources if bad.search(re.sub(r'"""[\s\S]*?"""|#.*', "", path.read_text()))]
    assert guilty == []
