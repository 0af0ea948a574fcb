"""Poisson and binomial numbers against SciPy's laws, their probabilities against SciPy's, and their addresses."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats

from implicit_simulators.engines.counts import fill_binomial, fill_poisson, log_binomial, log_poisson

DRAWS = 40_000
TRIES = 1e-3
"""Least p-value: draws are fixed, so a right program passes always once it has passed; a wrong one gives far less."""


def poissons(mean: float, n: int = DRAWS, first_row: int = 0, key: int = 5) -> np.ndarray:
    counts = np.empty((n, 1))
    fill_poisson(np.full((n, 1), mean, float), key, 0, first_row, counts)
    return counts[:, 0]


def binomials(trials: float, p: float, n: int = DRAWS, first_row: int = 0, key: int = 5) -> np.ndarray:
    counts = np.empty((n, 1))
    fill_binomial(np.full((n, 1), trials, float), np.full((n, 1), p, float), key, 0, first_row, counts)
    return counts[:, 0]


def fit(counts: np.ndarray, law: scipy.stats.rv_discrete, cells: int = 60) -> float:
    """P-value of the chi-squared test of ``counts`` in at most ``cells`` cells of at least 20 expected."""
    edges = np.unique(law.ppf(np.linspace(0, 1, cells + 1)[1:-1]))
    edges = edges[(law.cdf(edges) * len(counts) > 20) & (law.sf(edges) * len(counts) > 20)]
    inner = np.diff(law.cdf(edges)) * len(counts) > 20
    edges = np.append(edges[:1], edges[1:][inner])
    observed = np.bincount(np.searchsorted(edges, counts), minlength=len(edges) + 1)
    expected = len(counts) * np.diff(np.concatenate(([0.0], law.cdf(edges), [1.0])))
    return scipy.stats.chisquare(observed, expected).pvalue


@pytest.mark.parametrize(
    "mean", [0.01, 0.3, 1.0, 3.7, 9.99, 10.0, 10.5, 12.0, 15.3, 22.0, 40.0, 75.5, 150.0, 1e3, 3.3e4, 1e7]
)
def test_poisson_numbers_have_their_law(mean: float) -> None:
    counts = poissons(mean)
    assert (counts == np.floor(counts)).all()
    assert fit(counts, scipy.stats.poisson(mean)) > TRIES
    # tails, which a few cells of a chi-squared test would hide: the rates of both thousandths
    law = scipy.stats.poisson(mean)
    for far, probability in (
        (counts > law.ppf(0.999), law.sf(law.ppf(0.999))),
        (counts < law.ppf(0.001), law.cdf(law.ppf(0.001) - 1)),
    ):
        assert scipy.stats.binomtest(int(far.sum()), DRAWS, probability).pvalue > TRIES


@pytest.mark.parametrize(
    ("trials", "p"),
    [
        *[(1, 0.3), (5, 0.5), (12, 0.97), (19, 0.5), (20, 0.5), (21, 0.5), (40, 0.3), (40, 0.7), (700, 0.01)],
        *[(700, 0.02), (763, 0.4), (763, 0.999), (10_000, 0.25), (10**6, 1e-6), (10**6, 0.3), (10**6, 0.9)],
    ],
)
def test_binomial_numbers_have_their_law(trials: int, p: float) -> None:
    counts = binomials(trials, p)
    assert (counts == np.floor(counts)).all()
    assert ((counts >= 0) & (counts <= trials)).all()
    assert fit(counts, scipy.stats.binom(trials, p)) > TRIES


def test_huge_means_keep_mean_and_spread() -> None:
    """Where a plain formula for the probability would have lost its digits; 5 standard errors."""
    for mean in (1e10, 1e14):
        z = (poissons(mean) - mean) / math.sqrt(mean)
        assert abs(z.mean()) < 5 / DRAWS**0.5
        assert abs(z.std() - 1) < 5 / (2 * DRAWS) ** 0.5
        assert scipy.stats.kstest(z, "norm").pvalue > TRIES


@pytest.mark.parametrize("mean", [0.5, 10.0, 333.3, 1e6])
def test_poisson_probabilities_are_those_of_scipy(mean: float) -> None:
    spread = math.sqrt(mean)
    for k in {0.0, 1.0, 15.0, 16.0, *np.floor(mean + spread * np.array([0.0, -3.0, 0.5, 4.0, 10.0])).clip(0)}:
        assert log_poisson(k, mean) == pytest.approx(scipy.stats.poisson.logpmf(k, mean), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("deviations", [-4, 0, 0.01, 1, 7])
def test_poisson_probabilities_keep_their_digits(deviations: float) -> None:
    """At a mean of 1e12, where each term of k log(mean) - mean - log k! is 3e13, against the series in fractions."""
    mean, k = 10**12, math.floor(10**12 + deviations * 10**6)
    x = Fraction(k - mean, k)  # mean / k = 1 - x
    expected = float(-k * sum(x**i / i for i in range(2, 9))) - 0.5 * math.log(2 * math.pi * k)
    assert log_poisson(float(k), float(mean)) == pytest.approx(expected, rel=0, abs=1e-9)


@pytest.mark.parametrize(("trials", "p"), [(1, 0.4), (20, 0.5), (500, 0.02), (10**6, 0.3)])
def test_binomial_probabilities_are_those_of_scipy(trials: int, p: float) -> None:
    for k in {0, 1, trials - 1, trials, int(trials * p), min(trials, int(trials * p) + 12)}:
        expected = scipy.stats.binom.logpmf(k, trials, p)
        assert log_binomial(float(k), float(trials), p) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_draw_belongs_to_its_row_and_key() -> None:
    for draw in (lambda **at: poissons(30.0, **at), lambda **at: binomials(100, 0.3, **at)):
        whole = draw(n=50)
        assert np.array_equal(draw(n=20, first_row=30), whole[30:])
        assert not np.array_equal(draw(n=50, key=6), whole)
        assert len(set(whole)) > 10


def test_columns_and_rows_are_independent() -> None:
    means = np.full((20_000, 3), 20.0)
    counts = np.empty_like(means)
    fill_poisson(means, 1, 2, 0, counts)
    correlation = np.corrcoef(np.column_stack((counts, np.roll(counts[:, 0], 1))).T)
    assert np.abs(correlation - np.eye(4)).max() < 5 / 20_000**0.5


def test_what_has_no_law_is_nan() -> None:
    for mean in (-1.0, math.nan, math.inf):
        assert np.isnan(poissons(mean, 3)).all()
    for trials, p in ((-1, 0.5), (math.nan, 0.5), (math.inf, 0.5), (3, -0.1), (3, 1.1), (3, math.nan)):
        assert np.isnan(binomials(trials, p, 3)).all()


def test_certainties() -> None:
    assert (poissons(0.0, 100) == 0).all()
    assert (binomials(0, 0.5, 100) == 0).all()
    assert (binomials(30, 0.0, 100) == 0).all()
    assert (binomials(30, 1.0, 100) == 30).all()
