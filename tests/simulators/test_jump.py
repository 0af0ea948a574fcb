"""The jump process against laws that are known, and against the plainest program that simulates the same thing."""

from __future__ import annotations

import math
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.stats

from implicit_simulators.engines.jump import JumpProcess, jump_process

TRIES = 1e-3
"""Least p-value: draws are fixed, so a right program passes always once it has passed; a wrong one gives far less."""


def birth_death(x, immigration, birth, death):
    return immigration, birth * x, death * x


STEPS = ((1,), (1,), (-1,))


def predation(x, y, a, b, c, d):
    return a * x * y, b * x, c * y, d * x * y


PREDATION = ((1, 0), (-1, 0), (0, 1), (0, -1))


@pytest.fixture(scope="module")
def process() -> JumpProcess:
    return jump_process(birth_death, STEPS)


def run(process: JumpProcess, n: int, rates: tuple[float, ...], initial: int, times: list[float], **settings):
    return process(np.tile(rates, (n, 1)), np.full((n, 1), initial), times, **{"key": 1, **settings})


def fit(counts: np.ndarray, law: scipy.stats.rv_discrete) -> float:
    """P-value of the chi-squared test of ``counts`` against ``law``, tails pooled to at least 20 expected."""
    lowest, highest = int(law.ppf(20 / len(counts))) + 1, int(law.ppf(1 - 20 / len(counts)))
    assert highest > lowest
    inner = np.arange(lowest, highest)
    observed = [(counts < lowest).sum(), *[(counts == i).sum() for i in inner], (counts >= highest).sum()]
    expected = len(counts) * np.array([law.cdf(lowest - 1), *law.pmf(inner), law.sf(highest - 1)])
    return scipy.stats.chisquare(observed, expected).pvalue


def test_pure_death_is_binomial(process: JumpProcess) -> None:
    states, events = run(process, 20_000, (0, 0, 0.8), 30, [0, 0.5, 1.5])
    assert fit(states[:, 1, 0], scipy.stats.binom(30, math.exp(-0.4))) > TRIES
    assert fit(states[:, 2, 0], scipy.stats.binom(30, math.exp(-1.2))) > TRIES
    assert np.array_equal(events, 30 - states[:, 2, 0])


def test_immigration_and_death_is_poisson(process: JumpProcess) -> None:
    states, _ = run(process, 20_000, (5, 0, 0.7), 0, [0, 0.4, 4])
    for t, counts in zip((0.4, 4), states[:, 1:, 0].T, strict=True):
        assert fit(counts, scipy.stats.poisson(5 / 0.7 * (1 - math.exp(-0.7 * t)))) > TRIES


def test_pure_birth_is_geometric(process: JumpProcess) -> None:
    states, _ = run(process, 20_000, (0, 1.2, 0), 1, [0, 1])
    assert fit(states[:, 1, 0], scipy.stats.geom(math.exp(-1.2))) > TRIES


def test_linear_birth_and_death_has_its_known_moments_and_extinction(process: JumpProcess) -> None:
    n, birth, death, t, initial = 40_000, 0.9, 0.6, 1.5, 10
    states, _ = run(process, n, (0, birth, death), initial, [0, t])
    x, growth = states[:, 1, 0], math.exp((birth - death) * t)
    mean = initial * growth
    variance = initial * (birth + death) / (birth - death) * growth * (growth - 1)
    assert abs(x.mean() - mean) < 4 * math.sqrt(variance / n)
    assert abs(x.var() / variance - 1) < 4 * math.sqrt((scipy.stats.kurtosis(x) + 2) / n)
    extinct = (death * (growth - 1) / (birth * growth - death)) ** initial
    assert abs((x == 0).mean() - extinct) < 4 * math.sqrt(extinct * (1 - extinct) / n)


def plain_gillespie(rates: tuple[float, ...], x: float, y: float, times: list[float], rng: random.Random):
    """The textbook loop, one trajectory at a time, with another generator."""
    recorded, t = [(x, y)], times[0]
    while len(recorded) < len(times):
        h = predation(x, y, *rates)
        t = t + rng.expovariate(sum(h)) if sum(h) > 0 else math.inf
        while len(recorded) < len(times) and times[len(recorded)] < t:
            recorded.append((x, y))
        if sum(h) > 0:
            dx, dy = rng.choices(PREDATION, weights=h)[0]
            x, y = x + dx, y + dy
    return recorded


def test_predator_and_prey_agree_with_the_textbook_loop() -> None:
    n, rates, times, rng = 2000, (0.01, 0.5, 1.0, 0.01), [0, 0.3, 0.6], random.Random(0)
    states, _ = jump_process(predation, PREDATION)(np.tile(rates, (n, 1)), np.tile((50, 100), (n, 1)), times, key=5)
    plain = np.array([plain_gillespie(rates, 50.0, 100.0, times, rng) for _ in range(n)])
    for t in (1, 2):
        for species in (0, 1):
            assert scipy.stats.ks_2samp(states[:, t, species], plain[:, t, species]).pvalue > TRIES
    both = [np.corrcoef(s[:, 2].T)[0, 1] for s in (states, plain)]
    assert abs(both[0] - both[1]) < 4 * math.sqrt(2 / n)  # standard error of a correlation is below 1 / sqrt(n)


def scattered(n: int) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Rows that end after very different numbers of events."""
    rng = np.random.default_rng(0)
    rates = np.exp(rng.normal(size=(n, 3))) * [3, 0.5, 1]
    return rates, rng.integers(0, 30, (n, 1)), [0, 0.1, 1, 4]


def test_results_do_not_depend_on_lanes(process: JumpProcess) -> None:
    rates, initial, times = scattered(300)
    wide = process(rates, initial, times, key=2**64 - 1, max_events=200)
    narrow = JumpProcess(birth_death, STEPS, lanes=8)(rates, initial, times, key=2**64 - 1, max_events=200)
    assert np.isnan(wide[0]).any()
    for ours, theirs in zip(wide, narrow, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_results_do_not_depend_on_how_rows_are_split(process: JumpProcess) -> None:
    rates, initial, times = scattered(300)
    whole = process(rates, initial, times, key=11, max_events=200)
    cuts = [0, 1, 64, 65, 200, 300]

    def part(a: int, b: int) -> tuple[np.ndarray, np.ndarray]:
        return process(rates[a:b], initial[a:b], times, key=11, max_events=200, first_row=a)

    with ThreadPoolExecutor(3) as threads:
        parts = list(threads.map(part, cuts[:-1], cuts[1:]))
    for ours, theirs in zip(whole, map(np.concatenate, zip(*parts, strict=True)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_results_do_not_depend_on_threads(process: JumpProcess) -> None:
    rates, initial, times = scattered(3000)
    alone = process(rates, initial, times, key=3, max_events=200)
    assert np.isnan(alone[0]).any()
    for threads in (2, 3):
        together = process(rates, initial, times, key=3, max_events=200, threads=threads)
        for ours, theirs in zip(alone, together, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    tail = process(rates[1500:], initial[1500:], times, key=3, max_events=200, first_row=1500, threads=2)
    np.testing.assert_array_equal(tail[0], alone[0][1500:])


def test_it_is_compiled_before_it_is_needed_and_once(process: JumpProcess) -> None:
    assert process.prepare() >= 0
    assert process.prepare() == 0


def power_law(x, rate, exponent):
    return rate * math.exp(-exponent * math.log(x + 1.0)), math.pow(x, 2.0) * 0.0


def test_rates_may_have_logs_exponentials_and_powers() -> None:
    """A birth rate (x + 1)**-s in the library's own mathematics: the textbook loop's law, by a two-sample test."""
    n, rng = 4000, random.Random(2)
    states, _ = jump_process(power_law, ((1,), (1,)))(np.tile((4.0, 0.7), (n, 1)), np.zeros((n, 1)), [0, 3], key=8)
    plain = []
    for _ in range(n):
        x, t = 0, rng.expovariate(4.0)
        while t < 3:
            x += 1
            t += rng.expovariate(4.0 * (x + 1) ** -0.7)
        plain.append(x)
    assert scipy.stats.ks_2samp(states[:, 1, 0], plain).pvalue > TRIES


def test_rows_keys_and_first_rows_have_different_numbers(process: JumpProcess) -> None:
    x = run(process, 2, (100, 0, 0), 0, [0, 10])[0]
    assert x[0, 1] != x[1, 1]
    assert not np.array_equal(x, run(process, 2, (100, 0, 0), 0, [0, 10], key=1 << 40)[0])
    assert np.array_equal(x[1:], run(process, 1, (100, 0, 0), 0, [0, 10], first_row=1)[0])


def test_a_row_that_reaches_the_cap_is_nan_from_there_on(process: JumpProcess) -> None:
    times = np.linspace(0, 10, 101)
    states, events = run(process, 100, (10, 0, 0), 0, times, max_events=50)
    free, _ = run(process, 100, (10, 0, 0), 0, times)
    capped = np.isnan(states[:, :, 0])
    assert capped.any(1).all()
    assert (events == 50).all()
    assert (np.diff(capped.astype(int), axis=1) >= 0).all()
    # what comes before is what it would have been, and it reaches up to the event that was one too many
    np.testing.assert_array_equal(capped, free[:, :, 0] > 50)
    np.testing.assert_array_equal(states[~capped], free[~capped])


def test_a_row_that_ends_with_its_last_allowed_event_has_not_failed(process: JumpProcess) -> None:
    states, events = run(process, 10, (0, 0, 1), 5, [0, 1e6], max_events=5)
    assert (states[:, 1] == 0).all()
    assert (events == 5).all()


def test_nothing_happens_where_all_rates_are_zero(process: JumpProcess) -> None:
    states, events = run(process, 70, (0, 1, 1), 0, [0, 1, 1e300])
    assert (states == 0).all()
    assert (events == 0).all()


def test_reactions_with_rate_zero_never_happen(process: JumpProcess) -> None:
    """Counts never fall below zero: death has rate zero there, and stands last, where rounding would let it in."""
    states, events = run(process, 200, (0.3, 0, 1), 0, np.linspace(0, 2000, 2001))
    assert events.sum() > 200_000
    assert states.min() == 0


@pytest.mark.parametrize("rates", [(1, 0, -1), (-1, 0, 2), (math.nan, 0, 0), (1, math.inf, 0)])
def test_rates_that_are_negative_or_undefined_fail_their_row_only(
    process: JumpProcess, rates: tuple[float, ...]
) -> None:
    parameters = np.array([(1, 0, 1), rates, (1, 0, 1)])
    states, _ = process(parameters, [[0], [2], [0]], [0, 1, 5], key=0, max_events=10_000)
    assert np.isnan(states[1, 1:]).all()
    assert states[1, 0] == 2
    assert np.isfinite(states[[0, 2]]).all()


def test_one_time_and_no_rows_need_no_loop(process: JumpProcess) -> None:
    states, events = run(process, 3, (1, 1, 1), 4, [2.5])
    assert (states == 4).all()
    assert (events == 0).all()
    assert run(process, 0, (1, 1, 1), 4, [0, 1])[0].shape == (0, 2, 1)


def test_the_clock_starts_at_the_first_time(process: JumpProcess) -> None:
    early, late = (run(process, 50, (3, 0, 1), 2, [t, t + 1, t + 2])[0] for t in (0, 64))
    np.testing.assert_array_equal(early, late)


def test_a_network_is_compiled_once(process: JumpProcess) -> None:
    assert jump_process(birth_death, np.array(STEPS)) is process


@pytest.mark.parametrize(
    ("propensities", "stoichiometry", "error", "message"),
    [
        (birth_death, [1, 1, -1], ValueError, r"stoichiometry: expected shape \(R, k\)"),
        (birth_death, [[0.5], [1], [-1]], ValueError, "stoichiometry: expected integers"),
        (birth_death, [["a"], ["b"], ["c"]], ValueError, "stoichiometry: expected integers"),
        (birth_death, [[1], [-1]], ValueError, "propensities: expected a tuple of 2 rates, one a reaction; got 3"),
        (lambda x: x, [[1]], ValueError, "propensities: expected a tuple of 1 rates, one a reaction; got float"),
        (lambda: (1.0,), [[1]], ValueError, "propensities: expected at least 1 arguments"),
        (lambda *x: (1.0,), [[1]], TypeError, "propensities: expected positional arguments only"),
        (3, [[1]], TypeError, "propensities: expected a Python function; got int"),
    ],
)
def test_bad_networks_are_refused(propensities, stoichiometry, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        jump_process(propensities, stoichiometry)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": np.ones((2, 2))}, r"parameters: expected shape \(n, 3\); got \(2, 2\)"),
        ({"initial": np.ones(2)}, r"initial: expected shape \(n, 1\); got \(2,\)"),
        ({"initial": np.ones((3, 1))}, "initial: expected 2 rows, as parameters has; got 3"),
        ({"times": [0, 2, 1]}, "times: expected finite, increasing numbers"),
        ({"times": []}, "times: expected finite, increasing numbers"),
        ({"times": [0, math.nan]}, "times: expected finite, increasing numbers"),
        ({"key": -1}, r"key: expected an int in \[0, "),
        ({"max_events": 0}, r"max_events: expected an int in \[1, "),
        ({"first_row": 2**32}, r"first_row: expected an int in \[0, "),
        ({"threads": 0}, "threads: expected a positive int; got 0"),
    ],
)
def test_bad_arguments_are_refused(process: JumpProcess, change: dict, message: str) -> None:
    arguments = {"parameters": np.ones((2, 3)), "initial": np.ones((2, 1)), "times": [0, 1], "key": 0, **change}
    with pytest.raises(ValueError, match=message):
        process(**arguments)


def test_lanes_are_whole_vectors() -> None:
    with pytest.raises(ValueError, match="lanes: expected a multiple of 8 from 8 to 64; got 7"):
        JumpProcess(birth_death, STEPS, lanes=7)
