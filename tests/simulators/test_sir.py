"""SIR and SEIR epidemics against the law of their final size, the chain's law by enumeration, and their ODE."""

from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

from implicit_simulators.engines.chain_binomial import chain_binomial
from implicit_simulators.seir import SEIREpidemic
from implicit_simulators.sir import SIREpidemic

TRIES = 1e-3


def recursion(population: int, infected: int, ratio: float) -> np.ndarray:
    """P(number infected beside the first), by the jump chain: infection against recovery, from every state."""

    @cache
    def law(s: int, i: int) -> np.ndarray:
        if i == 0:
            return np.eye(population + 1)[s]
        p = ratio * s / (ratio * s + population)
        return p * (law(s - 1, i + 1) if s else 0) + (1 - p) * law(s, i - 1)

    return law(population - infected, infected)[population - infected :: -1]


@pytest.mark.parametrize("ratio", [0.5, 1.5, 4.0])
def test_the_law_of_the_final_size_is_that_of_the_recursion(ratio: float) -> None:
    for population, infected in ((1, 1), (12, 1), (30, 3)):
        theta = torch.tensor([[ratio * 0.2, 0.2]], dtype=torch.float64)
        law = SIREpidemic(population=population, infected=infected).final_size_distribution(theta)
        np.testing.assert_allclose(law[0], recursion(population, infected, ratio), atol=1e-12)
    theta = torch.tensor([[ratio * 0.2, 7.0, 0.2]], dtype=torch.float64)
    law = SEIREpidemic(population=12, infected=1).final_size_distribution(theta)
    np.testing.assert_allclose(law[0], recursion(12, 1, ratio), atol=1e-12)


def test_the_law_of_the_final_size_holds_its_digits_in_large_populations() -> None:
    law = SIREpidemic(population=2000, infected=5).final_size_distribution([[2.0, 1.0], [0.5, 1.0]])
    torch.testing.assert_close(law.sum(1), torch.ones(2, dtype=torch.float64))
    assert (law >= 0).all()
    big = law[0, 500:]  # epidemics that take off infect the part z = 1 - exp(-2 z), 79.7 %, of the population
    assert abs((big * torch.arange(500, 1996)).sum() / big.sum() / 2000 - 0.797) < 0.005
    assert abs(law[0, :500].sum() - 0.5**5) < 0.003  # each of five first cases dies out with probability 1 / 2


@pytest.mark.parametrize(
    ("make", "theta"), [(SIREpidemic, [2.0, 1.0]), (SIREpidemic, [0.8, 1.0]), (SEIREpidemic, [2.0, 3.0, 1.0])]
)
def test_final_sizes_have_their_law(make: type[SIREpidemic], theta: list[float]) -> None:
    n = 10_000
    simulator = make(population=12, infected=2, days=100)
    x = simulator.simulate(torch.tensor([theta]).expand(n, -1), seed=0)
    sizes = x.sum(1).long()
    expected = n * simulator.final_size_distribution([theta])[0].numpy()
    assert scipy.stats.chisquare(np.bincount(sizes, minlength=11), expected).pvalue > TRIES


def joint_law(initial: tuple[int, ...], rates: list[float], h: float, steps: int) -> dict[tuple[int, ...], float]:
    """P(state after ``steps``), by all binomial moves from all states."""
    law = {initial: 1.0}
    for _ in range(steps):
        after: dict[tuple[int, ...], float] = {}
        for state, mass in law.items():
            chances = [1 - math.exp(-h * rates[0] * state[-1]), *[1 - math.exp(-h * rate) for rate in rates[1:]]]
            for moved in itertools.product(*[range(count + 1) for count in state]):
                p = math.prod(
                    scipy.stats.binom.pmf(m, count, chance)
                    for m, count, chance in zip(moved, state, chances, strict=True)
                )
                to = tuple(
                    c - m + (moved[j - 1] if j else 0) for j, (c, m) in enumerate(zip(state, moved, strict=True))
                )
                after[to] = after.get(to, 0.0) + mass * p
        law = after
    return law


@pytest.mark.parametrize(
    ("initial", "rates"), [((4, 1), [0.5, 0.4]), ((3, 1), [0.3, math.inf]), ((2, 1, 1), [0.6, 0.8, 0.5])]
)
def test_chains_have_the_law_of_enumeration(initial: tuple[int, ...], rates: list[float]) -> None:
    """SIR, Reed-Frost (all recover in one step) and SEIR, after two days of one and of two steps."""
    n = 10_000
    for steps in (1, 2):
        given = [min(rate, 1e4) for rate in rates]  # at which nobody stays behind
        x = chain_binomial(np.tile(given, (n, 1)), np.tile(initial, (n, 1)), 2, steps, 1.0, key=3)[:, 2].astype(int)
        law = joint_law(initial, given, 1 / steps, 2 * steps)
        states = [state for state in law if n * law[state] > 5]
        observed = [(x == state).all(1).sum() for state in states]
        expected = [n * law[state] for state in states]
        observed, expected = [*observed, n - sum(observed)], [*expected, n - sum(expected)]
        possible = np.array(expected) > 1e-6
        assert np.array(observed)[~possible].sum() == 0
        assert scipy.stats.chisquare(np.array(observed)[possible], np.array(expected)[possible]).pvalue > TRIES


def test_a_chain_of_short_steps_is_the_jump_process() -> None:
    """Mean and spread of the infectious at day 10, with 50 steps a day: 5 standard errors and 1 %."""
    n, theta = 3000, torch.tensor([[0.4, 0.125]])
    chain, jump, tau = (
        SIREpidemic(kind, population=5000, infected=50, days=10, observe="prevalence", steps=50).simulate(
            theta.expand(n, -1), seed=0
        )[:, -1]
        for kind in ("chain-binomial", "jump", "tau")
    )
    for x in (chain, tau):
        assert abs(x.mean() - jump.mean()) < 5 * ((x.var() + jump.var()) / n).sqrt() + 0.01 * jump.mean()
        assert abs(x.std() / jump.std() - 1) < 5 / n**0.5 + 0.05


@pytest.mark.parametrize("make", [SIREpidemic, SEIREpidemic])
def test_large_epidemics_follow_the_ode(make: type[SIREpidemic]) -> None:
    given = {"population": 1_000_000, "infected": 10_000, "days": 40}
    theta = torch.tensor([make.reference_theta])
    limit = make("ode", **given).simulate(theta)
    torch.testing.assert_close(make("tau", **given).simulate(theta, seed=0), limit, rtol=0.05, atol=500)


@pytest.mark.parametrize("make", [SIREpidemic, SEIREpidemic])
def test_the_ode_is_that_of_scipy(make: type[SIREpidemic]) -> None:
    theta = torch.tensor([make.reference_theta], dtype=torch.float64)
    beta, *leave = theta[0].tolist()

    def field(_, z):
        flows = [beta * z[0] * z[-1] / 1000, *[rate * count for rate, count in zip(leave, z[1:], strict=True)]]
        return [-flows[0], *[flows[j] - flows[j + 1] for j in range(len(leave))]]

    start = [995.0, *[0.0] * (len(leave) - 1), 5.0]
    z = scipy.integrate.solve_ivp(field, (0, 60), start, t_eval=np.arange(61), rtol=1e-10, atol=1e-10).y
    prevalence = make("ode", days=60, observe="prevalence").simulate(theta)[0]
    incidence = make("ode", days=60).simulate(theta)[0]
    torch.testing.assert_close(prevalence, torch.tensor(z[-1, 1:]), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(incidence, torch.tensor(-np.diff(z[:-1].sum(0))), rtol=1e-6, atol=1e-6)


def test_gradients_of_the_ode_are_those_of_its_path() -> None:
    simulator = SEIREpidemic("ode", days=10)
    theta = torch.tensor([SEIREpidemic.reference_theta], dtype=torch.float64)
    direction = torch.tensor([[1.0, -0.5, 0.2]], dtype=torch.float64)
    _, slope = torch.autograd.functional.jvp(simulator.simulate, theta, direction)
    ahead, behind = (simulator.simulate(theta + step * direction) for step in (1e-6, -1e-6))
    torch.testing.assert_close(slope, (ahead - behind) / 2e-6, rtol=1e-5, atol=1e-6)
    assert slope.abs().max() > 1


@pytest.mark.parametrize("dynamics", ["jump", "tau", "chain-binomial"])
@pytest.mark.parametrize("make", [SIREpidemic, SEIREpidemic])
def test_nobody_is_lost(make: type[SIREpidemic], dynamics: str) -> None:
    given = {"dynamics": dynamics, "population": 300, "infected": 7, "days": 60}
    theta = make().sample_prior(100, seed=0)
    incidence, prevalence = (
        make(**given, observe=observe).simulate(theta, seed=1) for observe in ("incidence", "prevalence")
    )
    for x in (incidence, prevalence):
        assert (x >= 0).all()
        assert (x == x.round()).all()
    ever = 7 + incidence.cumsum(1)
    assert (prevalence <= ever).all()
    assert (ever <= 300).all()
    assert ((incidence - prevalence.diff(dim=1, prepend=torch.full((100, 1), 7.0))) >= 0).all()  # recoveries of a day


@pytest.mark.parametrize("dynamics", ["jump", "tau", "chain-binomial", "ode"])
@pytest.mark.parametrize("theta", [[-0.1, 0.1], [0.1, -0.1]])
def test_negative_rates_are_failed_rows(dynamics: str, theta: list[float]) -> None:
    x = SIREpidemic(dynamics).simulate([theta, [0.4, 0.125]], seed=0)
    assert torch.isnan(x[0]).all()
    assert torch.isfinite(x[1]).all()


@pytest.mark.parametrize("dynamics", ["jump", "tau", "chain-binomial", "ode"])
def test_compiling_ahead_of_time_is_done_once(dynamics: str) -> None:
    simulator = SIREpidemic(dynamics)
    assert simulator.prepare() >= 0
    assert simulator.prepare() == 0


def test_a_row_of_a_chain_belongs_to_its_number() -> None:
    rates, initial = np.tile([4e-4, 0.1], (60, 1)), np.tile([995.0, 5.0], (60, 1))
    whole = chain_binomial(rates, initial, 20, 2, 1.0, key=9)
    assert np.array_equal(chain_binomial(rates[:20], initial[:20], 20, 2, 1.0, key=9, first_row=30), whole[30:50])
    assert not np.array_equal(chain_binomial(rates, initial, 20, 2, 1.0, key=8), whole)
    assert len(np.unique(whole[:, -1], axis=0)) > 40


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dynamics": "sde"}, "dynamics: expected one of jump, tau, chain-binomial, ode; got 'sde'"),
        ({"observe": "deaths"}, "observe: expected one of incidence, prevalence; got 'deaths'"),
        ({"population": 0}, "population: expected a positive int; got 0"),
        ({"infected": 2000}, "infected: expected at most the population, 1000; got 2000"),
        ({"days": 1.5}, "days: expected a positive int; got 1.5"),
        ({"steps": 0}, "steps: expected a positive int; got 0"),
        ({"epsilon": 1.0}, r"epsilon: expected a number in \(0, 1\); got 1.0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SIREpidemic(**settings)


def test_a_law_is_given_for_the_jump_process_only() -> None:
    with pytest.raises(ValueError, match="known only for dynamics"):
        SIREpidemic("tau").final_size_distribution([[0.4, 0.1]])
    with pytest.raises(ValueError, match="theta: expected rates that are not negative"):
        SIREpidemic().final_size_distribution([[-0.4, 0.1]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0, 1.0]], [[1.0]], 1, 1, 1.0, 0), r"initial: expected shape \(n, k\), with k at least 2"),
        (([[1.0]], [[1.0, 1.0]], 1, 1, 1.0, 0), r"rates: expected shape \(1, 2\); got \(1, 1\)"),
        (([[1.0, 1.0]], [[1.0, 1.0]], 0, 1, 1.0, 0), "intervals: expected an int in"),
        (([[1.0, 1.0]], [[1.0, 1.0]], 1, 0, 1.0, 0), "steps: expected an int in"),
        (([[1.0, 1.0]], [[1.0, 1.0]], 2**20, 2**20, 1.0, 0), r"steps: expected fewer than 2\*\*32"),
        (([[1.0, 1.0]], [[1.0, 1.0]], 1, 1, 0.0, 0), "width: expected a positive number; got 0.0"),
    ],
)
def test_impossible_chains_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chain_binomial(*arguments)
