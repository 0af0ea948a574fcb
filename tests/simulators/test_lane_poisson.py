"""Poisson counts of rows in lockstep against their law, from means where none happens to a million."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from numba import njit

from implicit_simulators.engines.lane_noise import LANES
from implicit_simulators.engines.lane_poisson import LARGEST, SCRATCH, SMALL, fill_poisson
from implicit_simulators.engines.lanes import JIT

TRIES = 1e-3
"""Least p-value: draws are fixed, so a right program passes always once it has passed; a wrong one gives far less."""


@njit(**JIT)
def run(means, out, first_cell, first_row, k0, k1):
    mean = np.empty(LANES)
    counted = np.empty(LANES)
    scratch = np.ones((SCRATCH, LANES))
    lists = np.zeros((2, LANES), np.int64)
    rows, cells = means.shape
    for row in range(0, rows, LANES):
        width = min(LANES, rows - row)
        for cell in range(cells):
            for lane in range(LANES):
                mean[lane] = means[row + min(lane, width - 1), cell]
            fill_poisson(mean, counted, scratch, lists, width, first_cell + cell, first_row + row, 2, k0, k1)
            for lane in range(width):
                out[row + lane, cell] = counted[lane]


def poisson(means, key: int = 1, first_cell: int = 0, first_row: int = 0) -> np.ndarray:
    """Counts with the shape (rows, cells) of ``means``."""
    means = np.ascontiguousarray(means, dtype=float)
    out = np.full_like(means, -7.0)
    run(means, out, first_cell, first_row, np.uint64(key), np.uint64(2))
    return out


def fit(counts: np.ndarray, mean: float) -> float:
    """P-value of the chi-squared test against the Poisson law, tails pooled to at least 20 expected."""
    law, n = scipy.stats.poisson(mean), len(counts)
    low, high = int(law.ppf(20 / n)), int(law.isf(20 / n))
    inner = np.arange(low + 1, high + 1)
    observed = [(counts <= low).sum(), *[(counts == i).sum() for i in inner], (counts > high).sum()]
    expected = n * np.array([law.cdf(low), *law.pmf(inner), law.sf(high)])
    kept = expected >= 10
    assert kept.sum() >= 2
    pooled = np.array([np.append(np.asarray(c)[kept], np.asarray(c)[~kept].sum()) for c in (observed, expected)])
    pooled = pooled[:, pooled[1] > 0]
    return scipy.stats.chisquare(pooled[0], pooled[1]).pvalue


MEANS = (0.3, 3.0, 24.9, 25.0, 60.0, 1e3)


@pytest.mark.parametrize("mean", MEANS)
def test_counts_have_their_law(mean: float) -> None:
    counts = poisson(np.full((1000, 200), mean)).ravel()
    assert (counts == np.rint(counts)).all()
    assert fit(counts, mean) > TRIES
    n, spread = len(counts), math.sqrt(mean)  # 5 standard errors of mean and variance
    assert abs(counts.mean() - mean) < 5 * spread / math.sqrt(n)
    assert abs(counts.var() - mean) < 5 * mean * math.sqrt((2 + 1 / mean) / n)


@pytest.mark.parametrize("mean", [1e6, 1e9, 1e12])
def test_large_counts_have_their_law(mean: float) -> None:
    """As good as continuous; the largest against the normal law, from which theirs differs too little to be seen."""
    counts = poisson(np.full((1000, 30), mean), key=4).ravel()
    assert (counts == np.rint(counts)).all()
    law = scipy.stats.poisson(mean) if mean < 1e8 else scipy.stats.norm(mean, math.sqrt(mean))
    assert scipy.stats.kstest(counts, law.cdf).pvalue > TRIES


def test_next_to_nothing_seldom_happens() -> None:
    assert (poisson(np.zeros((100, 10))) == 0).all()
    assert (poisson(np.full((100, 10), -0.0)) == 0).all()
    assert (poisson(np.full((1000, 100), 1e-8)) == 0).all()  # one in a thousand such tests would see a count
    counts = poisson(np.full((1000, 200), 1e-3))
    assert abs(counts.mean() - 1e-3) < 5 * math.sqrt(1e-3 / counts.size)


def test_rows_with_other_means_beside_them_have_their_own_law() -> None:
    """Both methods, and failures, in every block of 64."""
    means = np.array([*MEANS, 0.0, np.nan, 1e-8, -1.0, np.inf])
    rows = np.random.default_rng(0).permutation(np.repeat(np.arange(len(means)), 200))
    counts = poisson(np.tile(means[rows][:, None], 100), key=9)
    for i, mean in enumerate(MEANS):
        assert fit(counts[rows == i].ravel(), mean) > TRIES
    assert (counts[rows == 6] == 0).all()
    assert np.isnan(counts[(rows == 7) | (rows >= 9)]).all()


def test_a_count_depends_on_its_row_cell_mean_and_key_only() -> None:
    rng = np.random.default_rng(1)
    means = np.exp(rng.uniform(-3, 8, (300, 5)))
    whole = poisson(means, key=3, first_row=17)
    for a, b in ((0, 1), (1, 64), (60, 70), (100, 300), (299, 300)):
        np.testing.assert_array_equal(poisson(means[a:b], key=3, first_row=17 + a), whole[a:b])
    np.testing.assert_array_equal(poisson(means[:, 2:], key=3, first_cell=2, first_row=17), whole[:, 2:])
    mixed = means.copy()
    mixed[::2] = rng.choice([0.0, 5.0, 80.0, np.nan], mixed[::2].shape)
    np.testing.assert_array_equal(poisson(mixed, key=3, first_row=17)[1::2], whole[1::2])


def test_other_rows_cells_and_keys_have_other_counts() -> None:
    means = np.full((200, 20), 1e4)
    counts = poisson(means)
    assert len(np.unique(counts, axis=0)) == 200
    assert len(np.unique(counts, axis=1).T) == 20
    assert (poisson(means, key=2) != counts).mean() > 0.98
    for a, b in ((counts[1:], counts[:-1]), (counts[:, 1:], counts[:, :-1]), (poisson(means, key=2), counts)):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / math.sqrt(a.size)


@pytest.mark.parametrize("mean", [-1e-300, -1.0, -math.inf, math.inf, math.nan, LARGEST, 1e300])
def test_means_without_a_law_give_nan(mean: float) -> None:
    assert np.isnan(poisson([[mean], [3.0]])[0, 0])
    assert np.isfinite(poisson([[mean], [3.0]])[1, 0])


@pytest.mark.parametrize("width", [1, 7, 63, 64])
def test_rows_beyond_the_width_are_not_touched(width: int) -> None:
    assert (poisson(np.full((width, 2), 40.0)) >= 0).all()


def test_the_two_methods_meet_where_one_ends() -> None:
    """Just below and at the border the same law: a two-sample test."""
    below, at = (poisson(np.full((1000, 50), mean), key=6).ravel() for mean in (np.nextafter(SMALL, 0), SMALL))
    values = np.arange(10, 42)
    table = [[(c == v).sum() for v in values] for c in (below, at)]
    assert scipy.stats.chi2_contingency(table).pvalue > TRIES
