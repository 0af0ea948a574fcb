"""Kernels are their formulas, and whichever moves the particles, the weights make up for it."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from implicit_infer.abc.kernels import KERNELS, NEIGHBOURS, kernel_factor
from implicit_infer.abc.population import Population, joined


def population(n, p=2, seed=0, weighted=True):
    generator = torch.Generator().manual_seed(seed)
    phi = torch.randn((n, p), generator=generator, dtype=torch.float64)
    log_weights = torch.randn(n, generator=generator, dtype=torch.float64) * weighted
    return joined([Population(phi, log_weights, torch.rand(n, generator=generator), phi.float())])


def covariance_of(factor):
    return factor @ factor.transpose(-1, -2)


def test_component_wise_is_the_diagonal_of_twice():
    now = population(50)
    found, twice = (covariance_of(kernel_factor(now, 1.0, kernel)) for kernel in ("component-wise", "twice"))
    assert torch.allclose(found, twice.diagonal().diag())


def test_local_is_the_second_moment_of_the_nearest_about_each():
    now = population(40)
    found = covariance_of(kernel_factor(now, 1.0, "local"))
    _, covariance = now.covariance()
    weights = now.log_weights.exp()
    for j in (0, 7, 39):
        moves = now.phi - now.phi[j]
        metric = torch.einsum("ka,ab,kb->k", moves, covariance.inverse(), moves)
        near = metric.argsort()[: round(NEIGHBOURS * 40)]
        expected = torch.einsum("k,ka,kb->ab", weights[near], moves[near], moves[near]) / weights[near].sum()
        assert torch.allclose(found[j], expected)


def test_optimal_local_averages_to_optimal():
    now = population(40)
    own, common = (covariance_of(kernel_factor(now, 0.4, kernel)) for kernel in ("optimal-local", "optimal"))
    assert torch.allclose(torch.einsum("j,jab->ab", now.log_weights.exp(), own), common)


@pytest.mark.parametrize("pairs", [7, 2**21])
def test_the_mixture_of_own_kernels_is_its_formula(pairs, monkeypatch):
    monkeypatch.setattr("implicit_infer.abc.population.PAIRS", pairs)
    now = population(30)
    now = Population(now.phi + 1000, now.log_weights, now.distances, now.features)
    factor, at = kernel_factor(now, 1.0, "local"), 1000 + 3 * population(20, seed=1).phi
    kernels = MultivariateNormal(now.phi, scale_tril=factor)
    expected = torch.logsumexp(now.log_weights + kernels.log_prob(at[:, None]), dim=1)
    assert torch.allclose(now.log_mixture(at, factor), expected, rtol=1e-7)


@pytest.mark.parametrize("kernel", KERNELS)
def test_weights_make_up_for_the_kernel(kernel):
    """Moved and weighted, particles of a standard normal law are draws of it again: first and second moments within
    four standard errors at the effective sample size."""
    n = 2000
    now = population(n, weighted=False)
    factor = kernel_factor(now, 0.5, kernel)
    phi = now.propose(n, factor, torch.Generator().manual_seed(1))
    log_weights = Normal(0.0, 1.0).log_prob(phi).sum(1) - now.log_mixture(phi, factor)
    moved = joined([Population(phi, log_weights, now.distances, now.features)])
    mean, covariance = moved.covariance()
    assert moved.ess > n / 4
    # a normal law's fourth moment makes the variance's standard error sqrt(2 / ess); weights add to it: 5, not 4
    assert mean.abs().max() < 5 / math.sqrt(moved.ess)
    assert (covariance - torch.eye(2)).abs().max() < 5 * math.sqrt(2 / moved.ess)


@pytest.mark.parametrize("kernel", KERNELS)
def test_flat_populations_move_and_collapsed_ones_do_not(kernel):
    now = population(50)
    flat = Population(now.phi[:, :1].expand(-1, 2), now.log_weights, now.distances, now.features)
    factor = kernel_factor(flat, 0.5, kernel)
    assert torch.isfinite(flat.log_mixture(flat.propose(10, factor, torch.Generator()), factor)).all()
    assert kernel_factor(now.take(torch.zeros(5, dtype=torch.long)), 1.0, kernel) is None
