"""Smoothed draws differ, and have the law of the particles: moments exactly, shape as far as few particles tell."""

import math

import pytest
import torch

from implicit_infer.abc import RejectionABC
from implicit_infer.abc.smoothing import smoothed
from implicit_infer.posteriors.method import Question
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draw(phi, log_weights, n, seed=5):
    return smoothed(phi, log_weights, n, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("d", [1, 3, 10])
def test_moments_are_those_of_the_weighted_particles(d):
    phi, log_weights = normal(400, d) @ (torch.eye(d, dtype=torch.float64) + 0.5 * normal(d, d, seed=1)), normal(400)
    weights = log_weights.softmax(0)
    mean = weights @ phi
    covariance = ((phi - mean) * weights[:, None]).T @ (phi - mean)
    draws = draw(phi, log_weights, 20_000)
    sd = covariance.diagonal().sqrt()
    assert len(draws.unique(dim=0)) == 20_000
    assert ((draws.mean(0) - mean).abs() < 5 * sd / math.sqrt(20_000)).all()
    # tails may be heavier than normal: a kurtosis of at most 6 gives the variance a relative error of sqrt(5 / n)
    error = 5 * math.sqrt(5 / 20_000) * torch.outer(sd, sd)
    assert ((torch.atleast_2d(draws.T.cov()) - covariance).abs() < error).all()


def test_normal_particles_give_normal_draws():
    """Radii squared of ten-dimensional normal draws have mean 10 and variance 20, whatever the particles' own do."""
    phi = normal(1000, 10)
    draws = draw(phi, torch.zeros(1000), 10_000)
    radii = torch.linalg.solve_triangular(torch.linalg.cholesky(phi.T.cov()), (draws - phi.mean(0)).T, upper=False)
    # 1,000 particles have the variance of radii to a relative error of about sqrt(8 / 1000), twice that is allowed;
    # noise that is not drawn in towards the neighbours would give more than twice 20
    assert float(radii.square().sum(0).var()) == pytest.approx(20, rel=0.35)


def test_modes_stay_apart_and_rings_stay_thin():
    modes = torch.cat([normal(200, 2) * 0.1 - 3, normal(200, 2, seed=1) * 0.1 + 3])
    draws = draw(modes, torch.zeros(400), 5000)
    assert float((draws.sum(1).abs() < 4).double().mean()) == 0
    angle = 2 * math.pi * torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ring = torch.stack([angle.cos(), angle.sin()], 1) * (1 + 0.02 * normal(1000, 1))
    radius = torch.linalg.vector_norm(draw(ring, torch.zeros(1000), 5000), dim=1)
    # a neighbourhood of 20 of 1,000 spans 0.13 of an arc, whose sagitta is below 0.001; Silverman's width would be 0.2
    assert float(radius.std()) < 0.035


def test_draws_do_not_depend_on_how_they_are_computed(monkeypatch):
    phi = normal(100, 2)
    whole = draw(phi, torch.zeros(100), 50)
    monkeypatch.setattr("implicit_infer.abc.smoothing.PAIRS", 1)
    assert torch.allclose(draw(phi, torch.zeros(100), 50), whole)


def test_particles_without_weight_and_too_few_to_smooth():
    phi = normal(100, 2)
    log_weights = torch.zeros(100)
    log_weights[50:] = -torch.inf
    phi[50:] = 1e6
    assert float(draw(phi, log_weights, 1000).abs().max()) < 10
    few = normal(6, 2)
    assert {tuple(row) for row in draw(few, torch.zeros(6), 50).tolist()} <= {tuple(row) for row in few.tolist()}
    flat = torch.cat([normal(50, 1), torch.ones(50, 1)], 1)
    assert (draw(flat, torch.zeros(50), 20)[:, 1] == 1).all()


def test_rejection_draws_as_many_distinct_ones_as_are_asked_for():
    question = Question(GaussianLinear(dim=2), torch.tensor([0.4, -0.2]), 2000, 0, progress=False)
    posterior = RejectionABC(keep=1000, adjust="linear", smooth=True).infer(question)
    draws = posterior.sample((3000,), seed=0)
    assert len(draws.unique(dim=0)) == 3000
    assert posterior.warnings == []
    exact = GaussianLinear(dim=2).posterior(torch.tensor([0.4, -0.2]))
    # a thousand simulations make it, of effective size about 800: five standard errors
    assert ((draws.mean(0) - exact.mean).abs() < 5 * exact.stddev / math.sqrt(800)).all()
    assert ((draws.std(0) / exact.stddev - 1).abs() < 5 / math.sqrt(2 * 800)).all()
    assert torch.equal(draws, posterior.sample((3000,), seed=0))
