"""Noise of rows in lockstep: its words against a plain Philox, its laws against what they should be."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from numba import njit

from implicit_simulators.engines.lane_noise import LANES, exponential, fill_words, normal_pair, uniform
from implicit_simulators.engines.lanes import JIT
from implicit_simulators.engines.step_noise import draw_noise
from implicit_simulators.engines.step_noise_kernel import Layout

TRIES = 1e-3
"""Least p-value: draws are fixed, so a right program passes always once it has passed; a wrong one gives far less."""

KEY = 2**64 - 12345


@njit(**JIT)
def words_of(first, count, row, stream, k0, k1):
    words = np.empty((count, LANES), np.uint32)
    fill_words(words, first, count, row, stream, k0, k1)
    return words


@njit(**JIT)
def made_of(first, second, out):
    for i in range(len(first)):
        a, b = normal_pair(first[i], second[i])
        out[0, i] = a
        out[1, i] = b
        out[2, i] = uniform(first[i])
        out[3, i] = exponential(first[i])


def made(first, second=0) -> np.ndarray:
    first, second = np.broadcast_arrays(np.asarray(first, np.uint32), np.asarray(second, np.uint32))
    out = np.empty((4, first.size))
    made_of(np.ascontiguousarray(first), np.ascontiguousarray(second), out)
    return out


def plain_philox(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    """Philox4x32-10 as the paper writes it, with Python's integers."""
    (c0, c1, c2, c3), (k0, k1), mask = counter, key, 2**32 - 1
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & mask, (p0 >> 32) ^ c3 ^ k1, p0 & mask
        k0, k1 = (k0 + 0x9E3779B9) & mask, (k1 + 0xBB67AE85) & mask
    return c0, c1, c2, c3


def test_the_plain_philox_gives_the_known_answers_of_random123() -> None:
    assert plain_philox((0, 0, 0, 0), (0, 0)) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    ones = 2**32 - 1
    assert plain_philox((ones,) * 4, (ones, ones)) == (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)
    pi = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)
    assert plain_philox(*pi) == (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)


def test_words_are_those_of_the_plain_philox() -> None:
    row, k0, k1 = 2**32 - 70, KEY & 0xFFFFFFFF, KEY >> 32
    for stream in (0, 1):
        ours = words_of(8, 8, row, stream, np.uint64(k0), np.uint64(k1))
        for lane in (0, 1, 7, 8, 63):
            theirs = [*plain_philox((2, row + lane, stream, 0), (k0, k1))]
            theirs += plain_philox((3, row + lane, stream, 0), (k0, k1))
            assert ours[:, lane].tolist() == theirs


def test_words_start_at_the_counters_origin() -> None:
    ours = words_of(0, 4, 5, 1, np.uint64(7), np.uint64(9))
    assert ours[:, 3].tolist() == list(plain_philox((0, 8, 1, 0), (7, 9)))


def test_uniform_and_exponential_numbers_stay_inside_their_intervals() -> None:
    _, _, u, e = made([0, 1, 2**31, 2**32 - 1])
    np.testing.assert_array_equal(u, (np.array([0, 1, 2**31, 2**32 - 1]) + 0.5) / 2**32)
    assert u[0] > 0
    assert u[-1] < 1
    np.testing.assert_allclose(e, -np.log(u), rtol=1e-15)
    assert e[-1] > 0
    assert e[0] == pytest.approx(33 * math.log(2))  # 22.87, the largest there is


def test_normal_numbers_are_box_and_muller_in_single_precision() -> None:
    """The radius is from one word, of 24 bits; of the other, two bits are the quarter and thirty the place in it."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 2**32, (2, 100_000), dtype=np.uint32)
    a, b, u, _ = made(first, second)
    radius, quarter = np.sqrt(-2 * np.log(u)), second >> 30
    turned = ((second << 2).view(np.int32) / 2**32) * math.pi / 2
    x, y = np.where(quarter % 2, [np.sin(turned), np.cos(turned)], [np.cos(turned), np.sin(turned)])
    sign = np.where(quarter >= 2, -1, 1)
    np.testing.assert_allclose(a, sign * radius * x, rtol=0, atol=3e-4)
    np.testing.assert_allclose(b, sign * radius * y, rtol=0, atol=3e-4)
    typical = np.abs(first / 2**32 - 0.5) < 0.4  # away from u = 1, where a bit of u is much of the radius
    np.testing.assert_allclose(a[typical], (sign * radius * x)[typical], rtol=0, atol=2e-6)


def test_the_largest_normal_number_and_the_smallest_radius() -> None:
    assert made(0, 0)[0, 0] == pytest.approx(math.sqrt(-2 * math.log(2.0**-33)), rel=1e-6)  # 6.76
    smallest = made(2**32 - 1, np.arange(0, 2**32, 2**26, dtype=np.uint32))
    assert np.isfinite(smallest).all()
    assert np.abs(smallest[:2]).max() < 1e-3


KINDS = ("exponential", "normal", "uniform", "normal")


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    """As the engine makes it, with shape (rows, steps, 4); the two normal numbers of a step are a pair."""
    return draw_noise(KINDS, 2000, 250, key=KEY)


@pytest.fixture(scope="module")
def normals(noise: np.ndarray) -> np.ndarray:
    return noise[:, :, 1::2].copy()


def test_normal_numbers_are_normal(normals: np.ndarray) -> None:
    z = normals.ravel()
    assert scipy.stats.kstest(z, "norm").pvalue > TRIES
    n = z.size
    # standard errors of the sample's moments of a standard normal number: 5 of them
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - moment) < 5 * math.sqrt(variance / n)
    for bound in (3.0, 4.0):
        tail = 2 * scipy.stats.norm.sf(bound)
        assert abs((np.abs(z) > bound).mean() - tail) < 5 * math.sqrt(tail / n)
    assert 4.2 < np.abs(z).max() < 6.77


def test_normal_numbers_of_a_pair_of_steps_and_of_rows_are_independent(normals: np.ndarray) -> None:
    """Correlations of the numbers, their squares (the radius they share) and their signs; 5 standard errors."""
    pairs = {
        "pair": (normals[..., 0], normals[..., 1]),
        "steps": (normals[:, :-1, 0], normals[:, 1:, 0]),
        "across steps": (normals[:, :-1, 1], normals[:, 1:, 0]),
        "rows": (normals[:-1, :, 0], normals[1:, :, 0]),
        "lanes": (normals[:-64, :, 0], normals[64:, :, 0]),
    }
    for name, (a, b) in pairs.items():
        for function in (lambda z: z, np.square, np.sign, np.abs):
            r = np.corrcoef(function(a).ravel(), function(b).ravel())[0, 1]
            assert abs(r) < 5 / math.sqrt(a.size), name


def test_the_angle_of_a_pair_is_uniform_and_independent_of_its_radius(normals: np.ndarray) -> None:
    a, b = normals[..., 0].ravel(), normals[..., 1].ravel()
    turns = np.arctan2(b, a) / (2 * math.pi) % 1
    assert scipy.stats.kstest(turns, "uniform").pvalue > TRIES
    far = turns[a**2 + b**2 > 6]
    assert scipy.stats.kstest(far, "uniform").pvalue > TRIES


def test_uniform_and_exponential_numbers_have_their_laws(noise: np.ndarray) -> None:
    """Beside each other in the order of the kinds asked for."""
    e, z, u = np.moveaxis(noise[:, :100, :3], 2, 0).reshape(3, -1)
    assert scipy.stats.kstest(e, "expon").pvalue > TRIES
    assert scipy.stats.kstest(u, "uniform").pvalue > TRIES
    assert 0 < u.min() < u.max() < 1
    for a, b in ((e, u), (u, z), (e, z), (e[:-1], e[1:]), (u[:-1], u[1:])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / math.sqrt(len(a))


def test_noise_belongs_to_its_row_key_and_stream() -> None:
    whole = draw_noise(KINDS, 200, 7, key=5, first_row=1000)
    np.testing.assert_array_equal(draw_noise(KINDS, 30, 7, key=5, first_row=1100), whole[100:130])
    np.testing.assert_array_equal(draw_noise(KINDS, 200, 3, key=5, first_row=1000), whole[:, :3])
    for other in ({"key": 6}, {"key": 5 + 2**32}, {"key": 5, "stream": 1}, {"key": 5, "first_row": 1001}):
        assert (draw_noise(KINDS, 200, 7, **{"first_row": 1000, **other}) != whole).mean() > 0.99


def test_no_noise_and_no_rows_are_arrays_too() -> None:
    assert draw_noise((), 3, 4, key=0).shape == (3, 4, 0)
    assert draw_noise(KINDS, 0, 4, key=0).shape == (0, 4, 4)


@pytest.mark.parametrize(
    ("noise", "together"),
    [
        ((), 1),
        (("normal",), 4),
        (("uniform",), 4),
        (("normal", "normal"), 2),
        (("normal", "uniform", "exponential"), 4),
        (("normal", "uniform", "uniform", "uniform"), 2),
        (("uniform",) * 4, 1),
    ],
)
def test_steps_are_taken_together_until_words_come_out_even(noise: tuple[str, ...], together: int) -> None:
    layout = Layout(noise)
    assert layout.together == together
    assert layout.words % 4 == 0
    assert layout.together * layout.normals % 2 == 0
    assert len(layout.arguments) == len(set(layout.arguments)) == len(noise)
