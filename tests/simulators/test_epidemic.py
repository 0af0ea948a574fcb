"""The epidemic against the exact law of its Markov chain."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import scipy.stats
import torch

from implicit_simulators.epidemic import Epidemic
from implicit_simulators.streams import Stream


def final_sizes(population: int, infected: int, ratio: float) -> np.ndarray:
    """Probability of each number left susceptible, by the jump chain: infection against recovery, from every state."""

    @cache
    def law(s: int, i: int) -> tuple[float, ...]:
        if i == 0:
            return tuple(float(left == s) for left in range(population + 1))
        p = ratio * s / (ratio * s + population)
        infection = law(s - 1, i + 1) if s else (0.0,) * (population + 1)
        recovery = law(s, i - 1)
        return tuple(p * a + (1 - p) * b for a, b in zip(infection, recovery, strict=True))

    return np.array(law(population - infected, infected))


@pytest.mark.parametrize(("beta", "rho"), [(2.0, 1.0), (2.0, 0.4), (0.8, 0.7)])
def test_final_size_has_its_exact_law(beta: float, rho: float) -> None:
    n, population, infected = 20_000, 12, 2
    simulator = Epidemic(population, infected, days=60)  # by then it is over: recovery takes a day
    states = simulator._trajectories(np.tile([beta, 1.0, rho], (n, 1)), Stream.of(0))
    assert (states[:, -1, 1:] == 0).all()
    observed = np.bincount(states[:, -1, 0].astype(int), minlength=population + 1)
    expected = n * final_sizes(population, infected, beta)
    assert expected.sum() == pytest.approx(n)
    possible = expected > 0
    assert observed[~possible].sum() == 0
    assert scipy.stats.chisquare(observed[possible], expected[possible]).pvalue > 1e-3


def test_boys_in_bed_are_a_binomial_part_of_the_infectious() -> None:
    n, rho = 20_000, 0.3
    states = Epidemic(50, 5, days=6)._trajectories(np.tile([2.0, 0.5, rho], (n, 1)), Stream.of(1))
    for day in range(7):
        bed, infectious = states[:, day, 1], states[:, day, 1:].sum(1)
        surprise = bed - rho * infectious
        variance = rho * (1 - rho) * infectious.mean()
        assert abs(surprise.mean()) < 4 * math.sqrt(variance / n)
        excess = surprise**2 - rho * (1 - rho) * infectious
        assert abs(excess.mean()) < 4 * excess.std() / math.sqrt(n)
        modal = scipy.stats.mode(infectious).mode
        counts = np.bincount(bed[infectious == modal].astype(int), minlength=int(modal) + 1)
        expected = counts.sum() * scipy.stats.binom(modal, rho).pmf(np.arange(modal + 1))
        usual = expected > 5
        observed, expected = (np.append(c[usual], c[~usual].sum()) for c in (counts, expected))
        possible = expected > 0
        assert scipy.stats.chisquare(observed[possible], expected[possible]).pvalue > 1e-3


def test_nobody_is_lost() -> None:
    states = Epidemic()._trajectories(np.tile([1.8, 0.5, 0.8], (200, 1)), Stream.of(0))
    assert (np.diff(states[:, :, 0], axis=1) <= 0).all()
    assert (states >= 0).all()
    assert (states.sum(2) <= 763).all()


def test_everybody_or_nobody_is_reported() -> None:
    theta = torch.tensor([[1.8, 0.5, 1.0], [1.8, 0.5, 0.0]]).repeat(100, 1)
    x = Epidemic(infected=10).simulate(theta, seed=0)
    assert (x[1::2] == 0).all()
    assert (x[::2].amax(1) > 0).all()


def test_a_large_school_follows_the_deterministic_epidemic() -> None:
    """Kermack and McKendrick's final size: the part z infected solves z = 1 - exp(-R z), as infected / N -> 0."""
    states = Epidemic(20_000, 200, days=60)._trajectories(np.tile([2.0, 0.8, 1.0], (50, 1)), Stream.of(0))
    part, first = 1 - states[:, -1, 0] / 20_000, 200 / 20_000
    z = 0.9
    for _ in range(100):
        z = 1 - (1 - first) * math.exp(-2.5 * z)
    assert abs(part.mean() - z) < 4 * part.std() / math.sqrt(50) + 1e-3  # plus the bias of a finite school, O(1 / N)


@pytest.mark.parametrize("theta", [[-1.0, 0.5, 0.5], [1.5, -0.5, 0.5], [1.5, 0.5, 1.5], [1.5, 0.5, -0.5]])
def test_rows_outside_of_the_range_are_nan(theta: list[float]) -> None:
    x = Epidemic().simulate([theta, [1.8, 0.5, 0.8]], seed=0)
    assert torch.isnan(x[0]).all()
    assert torch.isfinite(x[1]).all()


def test_the_school_flu_ships() -> None:
    simulator = Epidemic()
    observed = simulator.observation("boarding-school-flu")
    assert observed.tolist() == [3, 8, 26, 76, 225, 298, 258, 233, 189, 128, 68, 29, 14, 4]
    assert simulator.summarize(observed[None]).square().round().tolist() == [observed.tolist()]


def test_the_school_flu_is_not_shown_to_a_model_of_other_days() -> None:
    with pytest.raises(ValueError, match=r"observed: epidemic expects shape \(10,\); got \(14,\)"):
        Epidemic(days=10).observation("boarding-school-flu")


def test_the_flu_is_an_epidemic_that_the_model_can_make() -> None:
    """At rates of the literature (R0 about 3.6), epidemics that take off peak about as high and as early as it did."""
    observed = Epidemic().observation("boarding-school-flu")
    x = Epidemic().simulate(torch.tensor([[1.75, 0.48, 1.0]]).repeat(500, 1), seed=0)
    x = x[x.amax(1) > 50]
    low, high = (x.amax(1).quantile(q) for q in (0.01, 0.99))
    assert low < observed.max() < high
    assert x.argmax(1).float().quantile(0.02) <= observed.argmax() <= x.argmax(1).float().quantile(0.98)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"population": 0}, "population: expected a positive int; got 0"),
        ({"infected": 1.5}, "infected: expected a positive int; got 1.5"),
        ({"days": -3}, "days: expected a positive int; got -3"),
        ({"population": 3, "infected": 4}, "infected: expected at most the population, 3; got 4"),
    ],
)
def test_impossible_schools_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Epidemic(**settings)
