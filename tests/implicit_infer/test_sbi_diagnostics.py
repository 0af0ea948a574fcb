"""A posterior from any method goes through sbi's calibration checks as it is."""

import pytest
import torch

from implicit_infer.abc import SMCABC, RejectionABC
from implicit_infer.games import Training
from implicit_infer.posteriors import (
    FMPE,
    GATSBI,
    NPE,
    NRE,
    Classifier,
    EnsembleSampler,
    Question,
    RatioCorrected,
    SbiFMPE,
    SbiNPE,
)
from implicit_infer.posteriors.density import DensitySettings, Recipe
from implicit_simulators.benchmark import GaussianLinear

# sbi says that so few rows tell little of the calibration, which is not what is tested here
pytestmark = pytest.mark.filterwarnings("ignore:Number of", "ignore:torch.triangular_solve")

METHODS = {
    "rejection-abc": RejectionABC(),
    "smc-abc": SMCABC(particles=50),
    "nre": NRE(hidden=(16,), epochs=3, sampler=EnsembleSampler(walkers=20, warmup=10, thin=2)),
    "gatsbi": GATSBI(hidden=(16,), training=Training(steps=50)),
    "npe": NPE(DensitySettings(hidden=(8,), transforms=1, normal=Recipe(epochs=2), bending=Recipe(epochs=1))),
    "fmpe": FMPE(hidden=(8,), epochs=2, solver_steps=4),
    "corrected": RatioCorrected(
        FMPE(hidden=(8,), epochs=1, solver_steps=4), fits=1, classifier=Classifier(hidden=(8,), epochs=2)
    ),
    "sbi-npe": SbiNPE(hidden=8, transforms=1, epochs=2),
    "sbi-fmpe": SbiFMPE(epochs=2),
}


@pytest.fixture(scope="module", params=list(METHODS.values()), ids=list(METHODS))
def posterior(request):
    question = Question(GaussianLinear(dim=2), torch.zeros(2), budget=500, seed=0, progress=False)
    return request.param.infer(question)


@pytest.fixture(scope="module")
def truths():
    simulator = GaussianLinear(dim=2)
    theta = simulator.sample_prior(6, seed=1)
    return theta, simulator.simulate(theta, seed=1)


def test_simulation_based_calibration(posterior, truths):
    from sbi.diagnostics import run_sbc

    theta, x = truths
    ranks, dap = run_sbc(theta, x, posterior, num_posterior_samples=30, show_progress_bar=False)
    assert ranks.shape == (6, 2)
    assert ((ranks >= 0) & (ranks <= 30)).all()
    assert dap.shape == (6, 2)


def test_tests_of_accuracy_with_random_points(posterior, truths):
    from sbi.diagnostics import run_tarp

    theta, x = truths
    coverage, levels = run_tarp(theta, x, posterior, num_posterior_samples=30, num_bins=3, show_progress_bar=False)
    assert coverage.shape == levels.shape
    assert ((coverage >= 0) & (coverage <= 1 + 1e-6)).all()  # a cumulative sum in float32


def test_shapes_of_draws(posterior):
    assert posterior.sample(seed=0).shape == (2,)
    assert posterior.sample((3, 4), seed=0).shape == (3, 4, 2)
    assert posterior.sample_batched((5,), torch.zeros(3, 2), seed=0).shape == (5, 3, 2)


def test_an_observation_of_another_shape_is_refused(posterior):
    with pytest.raises(ValueError, match="expects shape"):
        posterior.sample((1,), x=torch.zeros(3))
    with pytest.raises(ValueError, match="x: expected shape"):
        posterior.sample_batched((1,), torch.zeros(2, 3))
