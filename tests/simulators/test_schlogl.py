"""Schlögl's reaction against the exact law of its birth-death process, in time and at rest."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.stats
import torch

from implicit_simulators.engines.jump import jump_process
from implicit_simulators.schlogl import RATES, STOICHIOMETRY, Schlogl, _rates

TRIES = 1e-3
REFERENCE = torch.tensor([Schlogl.reference_theta], dtype=torch.float64)
STATES = 1000
"""Counts that the exact law is computed for; more than 1000 have a probability below 1e-20."""


def birth_and_death(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    c1, c2, c3, c4 = RATES
    return c1 * 1e5 * x * (x - 1) / 2 + c3 * 2e5, c2 * x * (x - 1) * (x - 2) / 6 + c4 * x


def law_at(time: float, initial: int = 250) -> np.ndarray:
    """P(count at ``time``), by the eigenvectors of the generator, which a change of scale makes symmetric."""
    x = np.arange(STATES + 1.0)
    birth, death = birth_and_death(x)
    birth[-1] = 0.0
    values, vectors = scipy.linalg.eigh_tridiagonal(-(birth + death), np.sqrt(birth[:-1] * death[1:]))
    log_scale = np.concatenate(([0.0], np.cumsum(np.log(birth[:-1]) - np.log(death[1:])))) / 2
    scaled = vectors @ (np.exp(values * time) * vectors[initial])
    return np.clip(scaled * np.exp(log_scale - log_scale[initial]), 0, None)


def fit(counts: np.ndarray, law: np.ndarray, cells: int = 40) -> float:
    """P-value of the chi-squared test in cells of about equal probability."""
    edges = np.unique(np.searchsorted(np.cumsum(law), np.linspace(0, 1, cells + 1)[1:-1]))
    observed = np.bincount(np.searchsorted(edges, counts, side="left"), minlength=len(edges) + 1)
    cumulative = np.concatenate(([0.0], np.cumsum(law)[edges], [1.0]))
    return scipy.stats.chisquare(observed, len(counts) * np.diff(cumulative)).pvalue


def test_the_stationary_distribution_is_where_the_process_ends() -> None:
    """After 25 relaxation times of 39,000 units each; and it has the modes that the module names."""
    law = Schlogl().stationary_distribution(REFERENCE)[0].numpy()
    assert law.sum() == pytest.approx(1)
    assert law[STATES:].sum() < 1e-20
    np.testing.assert_allclose(law_at(1e6), law[: STATES + 1], rtol=1e-5, atol=1e-10)
    modes = [x for x in range(1, STATES) if law[x] > max(law[x - 1], law[x + 1])]
    assert modes == [82, 563]
    assert law[:256].sum() == pytest.approx(0.22, abs=0.005)


def test_exact_runs_have_the_exact_law_of_a_time() -> None:
    """From the valley both sides are reached: a law with two modes, at time 4."""
    n = 1000
    law = law_at(4.0)
    assert 0.2 < law[:256].sum() < 0.8
    x = Schlogl(duration=4.0, interval=2.0).simulate(REFERENCE.expand(n, -1), seed=0)
    assert fit(x[:, 2, 0].numpy(), law) > TRIES


def test_what_starts_in_the_stationary_distribution_stays_there() -> None:
    n = 3000
    law = Schlogl().stationary_distribution(REFERENCE)[0].numpy()
    initial = np.searchsorted(np.cumsum(law), np.random.default_rng(0).random(n)).astype(float)
    states, _ = jump_process(_rates, STOICHIOMETRY)(np.tile(RATES, (n, 1)), initial[:, None], [0.0, 1.0], 1, 10**6)
    assert fit(states[:, 1, 0], law) > TRIES
    assert fit(states[:, 1, 0], np.roll(law, 10)) < TRIES  # so that the test can fail


def test_leaps_have_nearly_the_law_of_a_time() -> None:
    """The share of the lower side and the mean on either, within a few per cent."""
    n = 1000
    law = law_at(4.0)
    x = Schlogl("tau", duration=4.0, interval=4.0).simulate(REFERENCE.expand(n, -1), seed=0)[:, 1, 0].numpy()
    low = law[:256].sum()
    assert abs((x < 256).mean() - low) < 5 * math.sqrt(low * (1 - low) / n) + 0.02
    for side in (np.arange(STATES + 1) < 256, np.arange(STATES + 1) >= 256):
        k, p = np.arange(STATES + 1)[side], law[side] / law[side].sum()
        mine = x[side[x.astype(int)]]
        mean, variance = (k * p).sum(), (k**2 * p).sum() - (k * p).sum() ** 2
        assert abs(mine.mean() - mean) < 5 * math.sqrt(variance / len(mine)) + 0.03 * mean


def test_the_rate_equation_is_that_of_scipy() -> None:
    def field(_, z):
        birth, death = birth_and_death(z)
        return birth - death

    simulator = Schlogl("ode", duration=2.0)
    found = scipy.integrate.solve_ivp(field, (0, 2.1), [250.0], t_eval=simulator.event_times, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(simulator.simulate(REFERENCE)[0], torch.tensor(found.y.T), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dynamics", ["sde", "ode"])
def test_gradients_are_those_of_the_path(dynamics: str) -> None:
    simulator = Schlogl(dynamics, duration=1.0)
    jacobian = torch.autograd.functional.jacobian(lambda t: simulator.simulate(t, seed=1)[0], REFERENCE)[:, :, 0]
    for j in range(4):
        step = torch.zeros_like(REFERENCE)
        step[0, j] = 1e-6
        slope = (simulator.simulate(REFERENCE + step, seed=1) - simulator.simulate(REFERENCE - step, seed=1))[0] / 2e-6
        torch.testing.assert_close(jacobian[..., j], slope, rtol=1e-5, atol=1e-4)
        assert slope.abs().max() > 1


def test_no_row_of_the_prior_reaches_the_cap() -> None:
    """The costliest corner: most births, fewest deaths."""
    corner = REFERENCE + math.log(1.25) * torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    x = Schlogl().simulate(corner, seed=0)
    assert torch.isfinite(x).all()
    law = Schlogl().stationary_distribution(corner)[0]
    assert law[-200:].sum() < 1e-12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dynamics": "pde"}, "dynamics: expected one of jump, tau, sde, ode; got 'pde'"),
        ({"initial": 0}, "initial: expected a positive int; got 0"),
        ({"duration": -1.0}, "duration: expected a positive number; got -1.0"),
        ({"duration": 1.0, "interval": 0.3}, "duration: expected a multiple of the interval, 0.3; got 1.0"),
        ({"substeps": 0}, "substeps: expected a positive int; got 0"),
        ({"epsilon": 0.0}, r"epsilon: expected a number in \(0, 1\); got 0.0"),
    ],
)
def test_bad_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schlogl(**settings)
