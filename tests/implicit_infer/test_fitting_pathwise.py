"""Gradients through the simulator: the maximum likelihood of a normal law, every comparison, the budget, failures."""

from __future__ import annotations

import math

import pytest
import torch

import implicit_infer as ii
from implicit_estimators.comparisons import COMPARISONS
from implicit_infer.fitting.pathwise import Pathwise
from implicit_simulators.poisson_source import PoissonSource
from tests.implicit_infer.location_scale import LocationScale, observations


@pytest.mark.parametrize("comparison", ["energy", "moments"])
def test_it_finds_the_maximum_likelihood_of_a_normal_law(comparison):
    """To within 4 standard errors: of the data, and of the simulations that the average is over, about as many."""
    data = observations(1000)
    fit = ii.fit(LocationScale(), data, Pathwise(comparison), budget=6000, seed=0, progress=False)
    exact = {"location": float(data.mean()), "scale": float(data.std(correction=0))}
    known = {"location": 2 / math.sqrt(1000), "scale": 2 / math.sqrt(2000)}
    for name, error in known.items():
        assert abs(fit.parameters[name] - exact[name]) < 4 * math.sqrt(2) * error
        # no estimator of the two beats the maximum likelihood; these come within a factor of it
        assert 0.6 * error < fit.standard_errors[name] < 2.5 * error
    assert fit.simulations <= 6000
    assert fit.warnings == []
    draws = fit.sample((500,), seed=0)
    assert draws.shape == (500, 2)
    assert bool(LocationScale().prior.support.check(draws).all())


QUICK = (
    *("js", "ml-gan", "wgan-gp", "relativistic-average", "mmd-gan", "feature-matching", "cramer"),
    *("mmd", "energy", "sliced-wasserstein", "sinkhorn", "moments"),
)


@pytest.mark.parametrize(
    "comparison", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in COMPARISONS]
)
def test_every_comparison_moves_every_parameter(comparison):
    method = Pathwise(comparison, critic_steps=1, hidden=(16,), uncertainty_share=0, test_share=0, batch=64)
    fit = ii.fit(LocationScale(), observations(100), method, budget=10 * 64, progress=False)
    assert fit.figures["comparison"] == comparison
    assert torch.isfinite(fit.theta).all()
    first = fit.trace.theta[0]
    assert bool((torch.stack(fit.trace.theta[1:]) != first).any(0).all())


@pytest.mark.slow
def test_a_trained_critic_finds_it_too_and_says_how_sure_it_is():
    """To within 4 standard errors of the data and of as many simulations; the critic adds less than that."""
    data = observations(1000, seed=100)
    fit = ii.fit(LocationScale(), data, "pathwise", "js", budget=15_000, seed=100, progress=False)
    known = {"location": 2 / math.sqrt(1000), "scale": 2 / math.sqrt(2000)}
    for name, exact in (("location", float(data.mean())), ("scale", float(data.std(correction=0)))):
        assert abs(fit.parameters[name] - exact) < 4 * math.sqrt(2) * known[name]
        assert 0.6 < fit.standard_errors[name] / known[name] < 2.5


def test_a_series_is_compared_by_its_windows():
    data = observations(1, length=400)
    method = Pathwise("energy", window=1, simulations_per_step=4, uncertainty_share=0)
    fit = ii.fit(LocationScale(400), data, method, budget=600, seed=0, progress=False)
    assert abs(fit.parameters["location"] - float(data.mean())) < 4 * 2 / math.sqrt(400) * math.sqrt(2)


def test_a_start_and_a_seed_make_a_fit():
    method = Pathwise("moments", test_share=0, uncertainty_share=0)
    fits = [
        ii.fit(LocationScale(), observations(100), method, budget=640, start={"location": 1.0, "scale": 2.0}, seed=seed,
               progress=False)
        for seed in (0, 0, 1)
    ]  # fmt: skip
    assert torch.equal(fits[0].theta, fits[1].theta)
    assert not torch.equal(fits[0].theta, fits[2].theta)
    assert float((fits[0].trace.theta[0] - torch.tensor([1.0, 2.0])).abs().max()) < 0.5


def test_rows_that_fail_are_counted_and_do_not_stop_it():
    class Fails(LocationScale):
        def _simulate(self, theta, stream):
            x = super()._simulate(theta, stream)
            return torch.where(torch.arange(len(x))[:, None] % 8 == 0, x * torch.nan, x)

    fit = ii.fit(Fails(), observations(200), Pathwise("energy", uncertainty_share=0), budget=2000, progress=False)
    assert torch.isfinite(fit.theta).all()
    assert any("simulations failed" in warning for warning in fit.warnings)


def test_refusals():
    with pytest.raises(ValueError, match=r"follows gradients through the simulator, and poisson-source has none"):
        ii.fit(PoissonSource(), [3.0, 4.0], "pathwise")
    with pytest.raises(ValueError, match="budget: expected 854 simulations or more for ten steps; got 100"):
        ii.fit(LocationScale(), observations(10), "pathwise", budget=100)
    with pytest.raises(ValueError, match=r"comparison: .*brings its own"):
        ii.fit(LocationScale(), observations(10), Pathwise("mmd"), "energy")
    for settings, message in (
        ({"learning_rate": 0.0}, "learning_rate: expected a positive number"),
        ({"average": 0.0}, "average: expected a share"),
        ({"uncertainty_share": 0.95}, "uncertainty_share, test_share"),
        ({"comparison": "energy", "penalty": "r1"}, "penalty: 'energy' has none"),
    ):
        with pytest.raises(ValueError, match=message):
            Pathwise(**settings)
