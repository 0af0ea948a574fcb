"""Local surrogates: a known minimum is found, simulations are used again, and never more are made than were allowed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import implicit_infer as ii
from implicit_infer.fitting.local_surrogate import LocalSurrogate
from implicit_infer.fitting.neighbourhood import Neighbourhood
from implicit_infer.fitting.objective import ExpectedLoss
from implicit_infer.games import Training
from implicit_simulators import FunctionSimulator, Rosenbrock
from implicit_simulators.benchmark import GaussianLinear

FEW = ii.fitting.ScoredEmulation(
    training=Training(30, 3e-3, betas=(0.9, 0.999), schedule="constant", average=0.8, marks=1), hidden=(32,)
)
QUICK = LocalSurrogate(emulation=FEW, simulations=150, half_width=0.3, draws=500)


def shifted(theta: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return theta.detach() + 0.3 * torch.randn(theta.shape, generator=generator)


BOX = FunctionSimulator(shifted, prior=([-2.0, -2.0], [2.0, 2.0]), event_shape=(2,))


def bowl(x: torch.Tensor) -> torch.Tensor:
    """Its mean is least, 0.18, at (0.6, -0.4)."""
    return ((x - torch.tensor([0.6, -0.4], device=x.device)) ** 2).sum(1)


def test_the_minimum_of_a_quadratic_is_found():
    """The loss has a standard deviation of 0.25 or less near the minimum, and a box of half-width 0.5 in theta, so that
    450 simulations tell its slope to 0.25 x 3^0.5 / (0.5 x 450^0.5) = 0.04, and the minimum (curvature 2) to 0.02 in
    each direction; six of these, and the last step's overshoot."""
    fit = ii.minimise(BOX, bowl, 3000, QUICK, start=(-1.0, 1.0), seed=0, progress=False)
    assert fit.simulations <= 3000
    assert (fit.theta - torch.tensor([0.6, -0.4])).norm() < 0.2
    assert fit.figures["objective"] == pytest.approx(0.18, abs=0.1)
    assert fit.parameters == dict(zip(BOX.parameter_names, fit.theta.tolist(), strict=True))


def test_adam_as_published_goes_down_in_a_box_of_fixed_size():
    method = replace(QUICK, step="adam", learning_rate=0.15)
    fit = ii.minimise(BOX, bowl, 1500, method, start=(-1.0, 1.0), seed=0, progress=False)
    assert bowl(fit.theta[None]) < 0.5 * bowl(torch.tensor([[-1.0, 1.0]]))
    assert set(fit.trace.figures["half_width"]) == {0.3}


def test_one_seed_one_search_and_never_more_than_the_budget():
    calls = []

    class Counted(Rosenbrock):
        def _simulate(self, theta, stream):
            calls.append(len(theta))
            return super()._simulate(theta, stream)

    problem = Counted(2)
    method = replace(QUICK, simulations=70)
    fits = [ii.minimise(problem, problem.loss, 299, method, seed=seed, progress=False) for seed in (5, 5, 6)]
    assert torch.equal(fits[0].theta, fits[1].theta)
    assert not torch.equal(fits[0].theta, fits[2].theta)
    assert sum(calls) == sum(fit.simulations for fit in fits) == 3 * 280


def test_simulations_of_the_neighbourhood_are_used_again():
    buffer = Neighbourhood()
    places = torch.tensor([[0.0, 0.0], [0.5, 0.5], [0.9, 0.0]])
    buffer.add(places, places, torch.tensor([[1.0], [2.0], [3.0]]))
    buffer.add(places[:1], places[:1], torch.tensor([[4.0]]))
    buffer.add(places[:1], places[:1], torch.tensor([[torch.nan]]))
    _, _, x = buffer.near(torch.tensor([0.1, 0.1]), 0.5)
    assert x[:, 0].tolist() == [1.0, 2.0, 4.0]
    assert buffer.failed == 1


def test_a_surrogate_learns_from_what_earlier_rounds_left(monkeypatch):
    counts = []
    train = type(FEW).train

    def counting(self, network, rows, **rest):
        counts.append(len(rows.v))
        return train(self, network, rows, **rest)

    monkeypatch.setattr(type(FEW), "train", counting)
    ii.minimise(BOX, bowl, 450, replace(QUICK, step="adam", learning_rate=1e-4), seed=0, progress=False)
    assert counts[0] == 150
    assert counts[0] < counts[1] < counts[2] <= 450


def test_data_are_fitted_by_a_comparison():
    """The mean of 200 observations has an error of (0.1 / 200)^0.5 = 0.022; the search adds about twice that."""
    simulator = GaussianLinear(2, prior_variance=1.0)
    data = simulator.simulate(torch.tensor([[0.5, -0.3]]).expand(200, 2), seed=9)
    fit = ii.fit(simulator, data, replace(QUICK, draws=300, test_share=0.1), budget=1500, seed=0, progress=False)
    assert fit.simulations <= 1500
    assert (fit.theta - data.mean(0)).abs().max() < 0.2
    assert fit.figures["comparison"] == "energy"
    assert "p_value" in fit.figures


def test_where_noise_hides_the_slope_the_box_grows():
    """A loss that is noise has no slope to follow: no round may make the box so small that none could be seen."""
    fit = ii.minimise(BOX, lambda x: 0.0 * x.sum(1) + x[:, 0] - x[:, 0].detach(), 1200, QUICK, seed=0, progress=False)
    widths = fit.trace.figures["half_width"]
    assert widths == sorted(widths)


def test_one_observation_is_held_against_its_simulator():
    """One draw of N(theta, 0.3^2): the score is least where theta is the draw, and the search adds its noise."""
    observed = torch.tensor([[0.8, -0.5]])
    fit = ii.fit(BOX, observed, replace(QUICK, draws=300, test_share=0.1), budget=1500, seed=0, progress=False)
    assert (fit.theta - observed[0]).abs().max() < 0.3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"comparison": "gan"}, "comparison: expected one with nothing to train"),
        ({"half_width": 0.0}, "half_width, learning_rate: expected positive numbers"),
        ({"step": "newton"}, "step: expected 'trust-region' or 'adam'; got 'newton'"),
        ({"draws": 3}, "draws, simulations: expected at least 20 and 4"),
        ({"emulation": "nothing"}, "method: expected one of flow, gan, energy"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LocalSurrogate(**settings)


def test_bad_questions_are_refused():
    with pytest.raises(ValueError, match="budget: expected at least 450 simulations to search with"):
        ii.minimise(BOX, bowl, 300, QUICK, progress=False)
    with pytest.raises(ValueError, match=r"objective: expected a loss for each draw, with shape \(7,\); got \(\)"):
        ExpectedLoss(lambda x: x.sum())(torch.zeros(7, 2))
    with pytest.raises(TypeError, match="loss: expected a function of draws; got int"):
        ii.minimise(BOX, 3, progress=False)
