"""The arithmetic under the compiled engines, against published vectors and the C library."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from implicit_simulators.engines.lanes import JIT, leading_zeros, log, philox, unit_above, unit_below


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
