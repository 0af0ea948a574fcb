"""Tau-leaping against known laws, the paper's step against a plain calculation of it, and what becomes of failures."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.stats

from implicit_simulators.engines.tau_leap import TauLeap, tau_leap

TRIES = 1e-3
"""Least p-value: draws are fixed, so a right program passes always once it has passed; a wrong one gives far less."""

STEPS = [[1], [-1]]
TAKEN = [[0], [1]]


def immigration_death(x, immigration, death):
    return immigration, death * x


def triple(x, y, a, b, c):
    """3X -> Y, 2X + Y -> 3X, Y -> nothing: the orders for which the paper has formulas of their own."""
    return a * x * (x - 1) * (x - 2) / 6, b * x * (x - 1) / 2 * y, c * y


def run(process: TauLeap, n: int, rates: tuple[float, ...], initial: int, times: list[float], **settings):
    return process(np.tile(rates, (n, 1)), np.full((n, 1), initial), times, **{"key": 1, **settings})


def test_a_fixed_step_has_the_moments_of_its_recursion() -> None:
    """x' = x + Poisson(h l) - Poisson(h d x) has a mean and variance that follow exactly; 5 standard errors.

    Its variance is not the Poisson law's: after 20 steps of 0.1 the mean is 878.4, not 864.7.
    """
    n, rate, death, h = 20_000, 1000.0, 1.0, 0.1
    states, turns = run(tau_leap(immigration_death, STEPS, TAKEN, step=h, critical=0), n, (rate, death), 0, [0, 2])
    mean = variance = 0.0
    for _ in range(20):
        mean, variance = mean + h * (rate - death * mean), variance * (1 - h * death) ** 2 + h * (rate + death * mean)
    x = states[:, 1, 0]
    assert abs(x.mean() - mean) < 5 * math.sqrt(variance / n)
    assert abs(x.var() / variance - 1) < 5 * math.sqrt(2 / n)
    assert abs(mean - rate * (1 - math.exp(-2))) > 50 * math.sqrt(variance / n)  # so that the test tells them apart
    assert ((turns == 20) | (turns == 21)).all()  # twenty tenths can leave a rest of one rounding


def test_the_bias_shrinks_with_epsilon() -> None:
    """Immigration and death from 0 is Poisson at every time; what is left at the smallest epsilon is below 5 SE."""
    n, rate = 4000, 5000.0
    exact = rate * (1 - math.exp(-1))
    biases, turns = [], []
    for epsilon in (0.5, 0.1, 0.005):
        states, steps = run(tau_leap(immigration_death, STEPS, TAKEN, epsilon), n, (rate, 1.0), 0, [0, 0.5, 1])
        x = states[:, 2, 0]
        biases.append(abs(x.mean() - exact) / math.sqrt(exact / n))
        turns.append(steps.mean())
    assert biases[0] > 2 * biases[1] > 4 * biases[2]
    assert biases[0] > 20
    assert biases[2] < 5
    assert abs(x.var() / exact - 1) < 5 * math.sqrt(2 / n)
    assert turns[0] < turns[1] < turns[2] < 2 * exact  # fewer than events


def test_small_populations_are_exact() -> None:
    """Below ten individuals every death is critical; single events have the exact law."""
    states, _ = run(tau_leap(immigration_death, STEPS, TAKEN), 20_000, (0.0, 0.8), 9, [0, 0.5, 1.5])
    for t, x in ((0.5, states[:, 1, 0]), (1.5, states[:, 2, 0])):
        law = scipy.stats.binom(9, math.exp(-0.8 * t))
        observed, expected = np.bincount(x.astype(int), minlength=10), 20_000 * law.pmf(np.arange(10))
        kept = expected > 5
        assert (
            scipy.stats.chisquare(observed[kept], expected[kept] * observed[kept].sum() / expected[kept].sum()).pvalue
            > TRIES
        )


def test_critical_reactions_keep_their_exact_times() -> None:
    """With immigration leaping at 5,000 and no step bound, one individual that dies once does so exponentially."""

    def two(x, y, immigration, death):
        return immigration, death * y

    process = tau_leap(two, [[1, 0], [0, -1]], [[0, 0], [0, 1]], step=0.25)
    states, _ = process(np.tile([5000.0, 1.3], (20_000, 1)), np.tile([0.0, 1.0], (20_000, 1)), [0, 0.1, 0.6], 3)
    for t, place in ((0.1, 1), (0.6, 2)):
        alive = states[:, place, 1].mean()
        assert abs(alive - math.exp(-1.3 * t)) < 5 * math.sqrt(0.25 / 20_000)
        assert abs(states[:, place, 0].mean() - 5000 * t) < 5 * math.sqrt(5000 * t / 20_000)


def test_leaps_never_make_a_population_negative() -> None:
    """A step of ten lifetimes would take ten times as many as there are."""
    for critical in (0, 10):
        states, _ = run(
            tau_leap(immigration_death, STEPS, TAKEN, step=10.0, critical=critical), 500, (0, 1), 500, [0, 10]
        )
        assert (states >= 0).all()
        assert (states == np.floor(states)).all()


def reference_leap(x, h, changes, taken, epsilon):
    """Equations 27 and 33 of Cao, Gillespie and Petzold (2006), as they are printed."""
    best = math.inf
    for i in range(len(x)):
        users = [row for row in taken if row[i] > 0]
        if not users:
            continue
        order = max(sum(row) for row in users)
        own = max(row[i] for row in users if sum(row) == order)
        g = {
            (1, 1): 1,
            (2, 1): 2,
            (2, 2): 2 + 1 / (x[i] - 1),
            (3, 1): 3,
            (3, 2): 1.5 * (2 + 1 / (x[i] - 1)),
            (3, 3): 3 + 1 / (x[i] - 1) + 2 / (x[i] - 2),
        }[order, own]
        bound = max(epsilon * x[i] / g, 1)
        mu = sum(changes[r][i] * h[r] for r in range(len(h)))
        sigma2 = sum(changes[r][i] ** 2 * h[r] for r in range(len(h)))
        best = min(best, bound / abs(mu) if mu else math.inf, bound**2 / sigma2 if sigma2 else math.inf)
    return best


@pytest.mark.parametrize(
    "taken", [[[3, 0], [2, 1], [0, 1]], [[1, 0], [1, 1], [0, 1]], [[0, 0], [0, 2], [0, 1]], [[2, 0], [1, 0], [1, 2]]]
)
def test_the_step_is_the_papers(taken: list[list[int]]) -> None:
    from implicit_simulators.engines.tau_leap import _highest_orders
    from implicit_simulators.engines.tau_leap_kernel import _longest_leap

    changes = [[-3, 1], [1, -1], [0, -1]]
    rng = np.random.default_rng(0)
    orders = _highest_orders(tuple(map(tuple, taken)), 2)
    for _ in range(50):
        x, h = rng.integers(3, 10_000, 2).astype(float), rng.random(3) * 100
        free = np.zeros(3, bool)
        got = _longest_leap(x, h, np.array(changes, float), orders, 0.03, free)
        assert got == pytest.approx(reference_leap(x, h, changes, taken, 0.03))


def test_a_species_that_no_rate_depends_on_does_not_bound_the_step() -> None:
    from implicit_simulators.engines.tau_leap import _highest_orders

    assert _highest_orders(((1, 0), (1, 0)), 2).tolist() == [[1, 1], [0, 0]]
    assert _highest_orders(None, 2).tolist() == [[2, 2], [2, 2]]


@pytest.fixture(scope="module")
def three() -> TauLeap:
    return tau_leap(triple, [[-3, 1], [1, -1], [0, -1]], [[3, 0], [2, 1], [0, 1]])


def test_a_row_depends_on_its_key_and_number_only(three: TauLeap) -> None:
    rng = np.random.default_rng(0)
    parameters = np.column_stack((rng.random(60) * 1e-5, rng.random(60) * 1e-6, rng.random(60)))
    initial, times = np.tile([2000.0, 500.0], (60, 1)), np.linspace(0, 1, 6)
    whole, turns = three(parameters, initial, times, 7)
    assert np.isfinite(whole).all()
    part, some = three(parameters[20:50], initial[20:50], times, 7, first_row=20)
    assert np.array_equal(part, whole[20:50])
    assert np.array_equal(some, turns[20:50])
    assert not np.array_equal(three(parameters, initial, times, 8)[0], whole)
    with ThreadPoolExecutor(2) as pool:
        halves = pool.map(lambda a: three(parameters[a : a + 30], initial[:30], times, 7, first_row=a)[0], (0, 30))
        assert np.array_equal(np.concatenate(list(halves)), whole)


def test_compiling_ahead_of_time_is_done_once() -> None:
    process = tau_leap(lambda x, a, b: (a, 3 * b * x), STEPS)
    assert process.prepare() > 0
    assert process.prepare() == 0


def test_recorded_times_may_repeat_and_start_anywhere(three: TauLeap) -> None:
    states, _ = three([[1e-5, 1e-6, 0.5]], [[300.0, 40.0]], [2.0, 2.0, 2.5, 2.5, 9.0], 0)
    assert np.array_equal(states[0, 0], states[0, 1])
    assert np.array_equal(states[0, 2], states[0, 3])
    assert three([[1e-5, 1e-6, 0.5]], [[300.0, 40.0]], [2.0], 0)[0].tolist() == [[[300.0, 40.0]]]


def test_what_fails_is_nan_from_there_on() -> None:
    process = tau_leap(immigration_death, STEPS, TAKEN)
    states, turns = run(process, 3, (1000.0, 1.0), 0, [0, 1e-4, 5], max_events=60)
    assert np.isfinite(states[:, :2]).all()
    assert np.isnan(states[:, 2]).all()
    assert (turns == 60).all()
    for rates in ((-1.0, 1.0), (math.nan, 1.0), (math.inf, 1.0)):
        states, _ = run(process, 2, rates, 4, [0, 1])
        assert (states[:, 0] == 4).all()
        assert np.isnan(states[:, 1]).all()
    states, turns = run(process, 2, (0.0, 1.0), 0, [0, 1, 1e9])  # nothing can happen any more: no failure
    assert (states == 0).all()
    assert (turns == 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epsilon": 0.0}, r"epsilon: expected a number in \(0, 1\); got 0.0"),
        ({"step": -1.0}, "step: expected a positive number or None; got -1.0"),
        ({"critical": -1}, "critical: expected an int in"),
        ({"reactants": [[1]]}, r"reactants: expected integers with shape \(2, 1\), as stoichiometry has; got \(1, 1\)"),
        ({"reactants": [[0.5], [1]]}, "reactants: expected non-negative integers"),
        ({"reactants": [[-1], [1]]}, "reactants: expected non-negative integers"),
    ],
)
def test_bad_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tau_leap(immigration_death, STEPS, **settings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0]], [[1.0]], [0, 1], 0), r"parameters: expected shape \(n, 2\); got \(1, 1\)"),
        (([[1.0, 1.0]], [[1.0, 2.0]], [0, 1], 0), r"initial: expected shape \(1, 1\); got \(1, 2\)"),
        (([[1.0, 1.0]], [[1.0]], [1, 0], 0), "times: expected finite, increasing numbers"),
        (([[1.0, 1.0]], [[1.0]], [0, 1], -1), "key: expected an int in"),
        (([[1.0, 1.0]], [[1.0]], [0, 1], 0, 0), "max_events: expected an int in"),
    ],
)
def test_bad_arguments_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tau_leap(immigration_death, STEPS)(*arguments)
