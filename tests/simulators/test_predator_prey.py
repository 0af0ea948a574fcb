"""Predators and prey: each reaction against the law that it has alone, the dynamics against one another."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

from implicit_simulators.predator_prey import PredatorPrey

TRIES = 1e-3
NEVER = -60.0
REFERENCE = torch.tensor([PredatorPrey.reference_theta], dtype=torch.float64)
NAMES = PredatorPrey.parameter_names


def alone(name: str, rate: float, n: int = 10_000) -> torch.Tensor:
    """Counts after one time unit with one reaction, with shape (n, 2)."""
    theta = torch.full((n, 4), NEVER, dtype=torch.float64)
    theta[:, NAMES.index(name)] = math.log(rate)
    return PredatorPrey(duration=1.0, interval=1.0).simulate(theta, seed=0)[:, 1]


@pytest.mark.parametrize(
    ("name", "rate", "species", "law"),
    [
        ("log_predator_birth", 0.004, 0, scipy.stats.nbinom(50, math.exp(-0.4), loc=50)),  # each splits at 0.004 * 100
        ("log_predator_death", 0.5, 0, scipy.stats.binom(50, math.exp(-0.5))),
        ("log_prey_birth", 0.3, 1, scipy.stats.nbinom(100, math.exp(-0.3), loc=100)),
        ("log_predation", 0.01, 1, scipy.stats.binom(100, math.exp(-0.5))),  # each is eaten at 0.01 * 50
    ],
)
def test_each_reaction_has_its_own_law(name: str, rate: float, species: int, law: scipy.stats.rv_discrete) -> None:
    x = alone(name, rate)
    assert (x[:, 1 - species] == (100, 50)[species]).all()
    edges = np.unique(law.ppf(np.linspace(0, 1, 21)[1:-1]))
    observed = np.bincount(np.searchsorted(edges, x[:, species].numpy()), minlength=len(edges) + 1)
    expected = len(x) * np.diff(np.concatenate(([0.0], law.cdf(edges), [1.0])))
    assert scipy.stats.chisquare(observed, expected).pvalue > TRIES


def test_approximate_dynamics_have_nearly_the_moments_of_the_exact() -> None:
    """At time 2: five standard errors, and a bias of 1 % of the mean or 10 % of the spread."""
    n = 4000
    exact, tau, sde = (
        PredatorPrey(kind, duration=2.0, interval=1.0).simulate(REFERENCE.expand(n, -1), seed=1)[:, 2]
        for kind in ("jump", "tau", "sde")
    )
    for x in (tau, sde):
        error = ((x.var(0) + exact.var(0)) / n).sqrt()
        assert ((x.mean(0) - exact.mean(0)).abs() < 5 * error + 0.01 * exact.mean(0)).all()
        assert ((x.std(0) / exact.std(0) - 1).abs() < 5 / n**0.5 + 0.1).all()
    assert (tau == tau.round()).all()


def test_the_rate_equations_are_those_of_scipy() -> None:
    def field(_, z):
        return [0.01 * z[0] * z[1] - 0.5 * z[0], z[1] - 0.01 * z[0] * z[1]]

    simulator = PredatorPrey("ode", duration=10.0)
    found = scipy.integrate.solve_ivp(
        field, (0, 10), [50.0, 100.0], t_eval=np.minimum(simulator.event_times, 10), rtol=1e-10, atol=1e-10
    )
    torch.testing.assert_close(simulator.simulate(REFERENCE)[0], torch.tensor(found.y.T), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dynamics", ["sde", "ode"])
def test_gradients_are_those_of_the_path(dynamics: str) -> None:
    simulator = PredatorPrey(dynamics, duration=2.0, interval=0.5, substeps=5)
    jacobian = torch.autograd.functional.jacobian(lambda t: simulator.simulate(t, seed=1)[0], REFERENCE)[:, :, 0]
    for j in range(4):
        step = torch.zeros_like(REFERENCE)
        step[0, j] = 1e-6
        slope = (simulator.simulate(REFERENCE + step, seed=1) - simulator.simulate(REFERENCE - step, seed=1))[0] / 2e-6
        torch.testing.assert_close(jacobian[..., j], slope, rtol=1e-5, atol=1e-4)
        assert slope.abs().max() > 1


def nine(x: np.ndarray) -> list[float]:
    """The nine summaries of one trajectory, from their definitions."""
    n = len(x)
    z = (x - x.mean(0)) / x.std(0, ddof=1)
    correlations = [sum(z[t, s] * z[t + lag, s] for t in range(n - lag)) / (n - 1) for s in (0, 1) for lag in (1, 2)]
    return [*x.mean(0), *np.log(x.var(0, ddof=1) + 1), *correlations, np.corrcoef(x.T)[0, 1]]


def test_summaries_are_the_nine() -> None:
    simulator = PredatorPrey()
    x = simulator.simulate(REFERENCE.expand(20, -1), seed=2)
    x = x[torch.isfinite(x).flatten(1).all(1)]
    expected = torch.tensor(np.array([nine(row.numpy()) for row in x]))
    torch.testing.assert_close(simulator.summarize(x), expected)
    torch.testing.assert_close(simulator.summarize(x.float()), expected.float(), rtol=1e-5, atol=1e-5)


def test_summaries_of_populations_that_never_change_are_finite() -> None:
    x = torch.cat((torch.zeros(1, 151, 2), torch.full((1, 151, 2), 1e15)))
    x[1, :, 0] = torch.arange(151.0)
    s = PredatorPrey().summarize(x)
    assert torch.isfinite(s).all()
    assert s[0].tolist() == [0.0] * 9


def test_trajectories_look_like_those_of_the_literature() -> None:
    """Cycles of about nine units; with no prey eaten, exploding prey are failed rows."""
    x = PredatorPrey().simulate(REFERENCE.expand(200, -1), seed=3)
    assert (x[:, 0] == torch.tensor([50.0, 100.0])).all()
    assert torch.isnan(x[:, -1, 0]).double().mean() < 0.05
    exploding = torch.tensor([[NEVER, NEVER, math.log(2.0), NEVER]])
    y = PredatorPrey(max_events=1000).simulate(exploding, seed=0)
    assert torch.isfinite(y[0, :5]).all()
    assert torch.isnan(y[0, -1]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dynamics": "pde"}, "dynamics: expected one of jump, tau, sde, ode; got 'pde'"),
        ({"duration": 0.0}, "duration: expected a positive number; got 0.0"),
        ({"duration": 1.0, "interval": 0.3}, "duration: expected a multiple of the interval, 0.3; got 1.0"),
        ({"interval": math.inf}, "interval: expected a positive number; got inf"),
        ({"substeps": 0}, "substeps: expected a positive int; got 0"),
        ({"max_events": 1.5}, "max_events: expected a positive int; got 1.5"),
        ({"epsilon": 1.0}, r"epsilon: expected a number in \(0, 1\); got 1.0"),
    ],
)
def test_bad_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PredatorPrey(**settings)
