"""NPE: posteriors against closed forms, densities that are densities, and the same from the same seed."""

import os

import pytest
import torch

from implicit_infer.posteriors import NPE, Question
from implicit_infer.posteriors.density.fitting import DensitySettings
from implicit_infer.posteriors.density.training import Recipe
from implicit_simulators.benchmark import GaussianLinear, SLCPDistractors, TwoMoons


def quick(epochs):
    recipe = Recipe(epochs=epochs, learning_rate=3e-3)
    return DensitySettings(hidden=(20,), transforms=2, members=2, normal=recipe, bending=recipe)


@pytest.fixture(scope="module")
def trained():
    simulator = GaussianLinear(dim=2)
    question = Question(simulator, torch.tensor([0.3, -0.2]), 2000, seed=0, progress=False)
    return simulator, NPE(quick(15)).infer(question)


def test_small_gaussian_posterior(trained):
    """Least squares on 2,000 pairs allows 0.03 in the mean and 0.02 in the spread; five times that is granted."""
    simulator, posterior = trained
    exact = simulator.posterior(posterior.observed)
    draws = posterior.sample((4000,), seed=1)
    sd = exact.variance.sqrt()
    assert (((draws.mean(0) - exact.mean) / sd).abs() < 0.15).all()
    assert ((draws.std(0) / sd - 1).abs() < 0.1).all()


def test_log_prob_follows_the_exact_density(trained):
    simulator, posterior = trained
    exact = simulator.posterior(posterior.observed)
    theta = exact.sample((500,))
    gap = posterior.log_prob(theta) - exact.log_prob(theta)
    assert gap.abs().mean() < 0.3  # a flow without fit misses by a nat or more


def test_density_integrates_to_one_on_a_bounded_prior():
    simulator = TwoMoons()
    posterior = NPE(quick(6)).infer(Question(simulator, torch.zeros(2), 1000, seed=0, progress=False))
    axis = torch.linspace(-1, 1, 401)[:-1] + 1 / 400
    grid = torch.cartesian_prod(axis, axis)
    mass = posterior.log_prob(grid).exp().mean() * 4
    assert abs(mass - 1) < 0.02
    assert simulator.prior.support.check(posterior.sample((500,), seed=0)).all()
    assert posterior.log_prob(torch.tensor([[1.5, 0.0]])).item() == -float("inf")


def test_nothing_is_written_and_the_global_state_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = torch.random.get_rng_state()
    NPE(quick(1)).infer(Question(GaussianLinear(dim=2), torch.zeros(2), 100, seed=0, progress=False))
    assert os.listdir(tmp_path) == []
    assert torch.equal(before, torch.random.get_rng_state())


def test_same_seed_same_posterior():
    question = Question(GaussianLinear(dim=2), torch.zeros(2), 100, seed=3, progress=False)
    method = NPE(quick(2))
    first, second = (method.infer(question).sample((10,), seed=1) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_summaries_that_say_nothing_are_left_out_and_said():
    simulator = SLCPDistractors()
    posterior = NPE(quick(1)).infer(Question(simulator, torch.zeros(100), 600, seed=0, progress=False))
    assert "left out" in posterior.figures["reduction"]
    # the linear part still sees all: only the network's eyes are on few
    x = torch.zeros(1, 100)
    members = posterior.ensemble.template.view
    assert members.width < 20
    assert posterior.view.given(x).shape == (1, 100)


def test_an_embedding_is_trained_with_the_density():
    simulator = GaussianLinear(dim=2)
    method = NPE(quick(2), embedding={"name": "mlp", "outputs": 3})
    posterior = method.infer(Question(simulator, torch.zeros(2), 200, seed=0, progress=False))
    assert posterior.view.width > 2
    assert torch.isfinite(posterior.log_prob(torch.zeros(1, 2))).all()
