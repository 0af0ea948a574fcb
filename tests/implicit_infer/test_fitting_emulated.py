"""Fits on an emulator: near the data's own estimate, within the budget, and honest about what they rest on."""

from __future__ import annotations

import pytest
import torch

import implicit_infer as ii
from implicit_infer.fitting.emulated import EmulatedFit
from implicit_infer.fitting.pathwise import Pathwise
from implicit_infer.games import Training
from implicit_simulators.benchmark import GaussianLinear

QUICK = EmulatedFit(
    emulation=ii.fitting.ScoredEmulation(training=Training(40, 1e-3), hidden=(32,)),
    pathwise=Pathwise(comparison="energy", simulations_per_step=128, uncertainty_share=0.0, batch=128),
    emulated=6000,
)


def test_a_normal_mean_is_fitted() -> None:
    """The mean of 200 observations is the estimate; 500 simulations of a round leave the emulator's mean an error of
    (0.1 / 400)^0.5 = 0.016, and averaged iterates of 128 draws a little more: tested at 0.1."""
    simulator = GaussianLinear(2, prior_variance=1.0)
    data = simulator.simulate(torch.tensor([[0.5, -0.3]]).expand(200, 2), seed=9)
    fit = ii.fit(simulator, data, QUICK, budget=1100, seed=0, progress=False)
    assert fit.simulations <= 1100
    assert (fit.theta - data.mean(0)).abs().max() < 0.1
    assert len(fit.trace.theta) == 2
    assert fit.figures["emulation"] == "energy"
    assert 0 <= fit.figures["p_value"] <= 1


def test_too_small_a_budget_is_refused() -> None:
    simulator = GaussianLinear(2)
    with pytest.raises(ValueError, match="budget: expected at least 50 simulations for each of 2 rounds; got 45"):
        ii.fit(simulator, torch.zeros(50, 2), QUICK, budget=100, progress=False)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="rounds: expected"):
        EmulatedFit(rounds=0)
    with pytest.raises(ValueError, match="method: expected one of flow, gan, energy"):
        EmulatedFit(emulation="spline")
