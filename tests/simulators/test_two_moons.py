"""Two moons: simulations against the likelihood, and posterior draws against the likelihood on a grid."""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch
from torch import Tensor

from implicit_simulators.benchmark import TwoMoons
from implicit_simulators.streams import Stream

SIMULATOR = TwoMoons()


def cells(low: Tensor, high: Tensor, count: int) -> Tensor:
    """Midpoints of a grid of count x count cells, with shape (count, count, 2), in double precision."""
    axes = [
        a + (b - a) * (torch.arange(count, dtype=torch.float64) + 0.5) / count for a, b in zip(low, high, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


def chi_squared(points: Tensor, low: Tensor, high: Tensor, probability: Tensor, coarse: int) -> float:
    """P-value of points against the probabilities of a fine grid of cells, pooled to coarse x coarse."""
    fine = len(probability)
    pooled = probability.reshape(coarse, fine // coarse, coarse, fine // coarse).sum((1, 3)).flatten()
    at = ((points - low) / (high - low) * coarse).long().clamp(0, coarse - 1)
    observed = torch.bincount(at[:, 0] * coarse + at[:, 1], minlength=coarse**2).double()
    expected = pooled * len(points)
    usual = expected > 20
    assert usual.sum() > 30
    rest = (len(points) - expected[usual].sum()).clamp_min(1e-9)
    observed = torch.cat((observed[usual], observed[~usual].sum()[None]))
    expected = torch.cat((expected[usual], rest[None]))
    if rest < 20:  # too few for the approximation, and their number is nearly certain
        observed, expected = observed[:-1], expected[:-1] * observed[:-1].sum() / expected[:-1].sum()
    return scipy.stats.chisquare(
        observed.numpy(), expected.numpy() * observed.sum().item() / expected.sum().item()
    ).pvalue


@pytest.mark.parametrize("theta", [(0.3, 0.4), (-0.8, 0.9), (-0.5, -0.2)])
def test_simulations_follow_the_likelihood(theta: tuple[float, float]) -> None:
    at = torch.tensor([theta])
    with torch.no_grad():
        x = SIMULATOR.simulate(at.repeat(40_000, 1), seed=0).double()
    # a box that holds the crescent, whose points lie within 0.1 + 8 standard deviations of its centre
    v1, v2 = sum(theta) / math.sqrt(2), (theta[1] - theta[0]) / math.sqrt(2)
    centre = torch.tensor([-abs(v1) + 0.25, v2], dtype=torch.float64)
    low, high = centre - 0.19, centre + 0.19
    grid = cells(low, high, 1200)
    # constant theta: evaluated for all x at once
    density = SIMULATOR.log_likelihood(at.double(), grid.reshape(-1, 2)).exp().reshape(1200, 1200)
    probability = density * (0.38 / 1200) ** 2
    assert abs(probability.sum() - 1) < 1e-3
    assert chi_squared(x, low, high, probability, 60) > 1e-3


# the posterior at the middle, near the edge where the square cuts it, and where it is cut off at m_1 = 0
OBSERVED = [(0.0, 0.0), (-0.6, 0.1), (0.1, 0.9), (0.33, 0.02), (-1.07, 0.0), (0.25, -1.4)]


@pytest.mark.parametrize("observed", OBSERVED)
def test_posterior_draws_follow_the_likelihood_on_the_square(observed: tuple[float, float]) -> None:
    x = torch.tensor(observed)
    posterior = SIMULATOR.posterior(x)
    with Stream.of(0).forked():
        theta = posterior.sample((20_000,))
    assert (theta.abs() <= 1).all()
    low, high = -torch.ones(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    grid = cells(low, high, 2000)
    density = SIMULATOR.log_likelihood(grid.reshape(-1, 2), x.double()).exp().reshape(2000, 2000)
    probability = density / density.sum()
    assert chi_squared(theta.double(), low, high, probability, 200) > 1e-3


@pytest.mark.parametrize("observed", OBSERVED)
def test_posterior_density_is_normalised(observed: tuple[float, float]) -> None:
    posterior = SIMULATOR.posterior(torch.tensor(observed))
    grid = cells(-torch.ones(2), torch.ones(2), 2000)
    total = posterior.log_prob(grid.reshape(-1, 2)).exp().sum() * (2 / 2000) ** 2
    # of the grid: its cells are a tenth of the crescent's width, and those on the square's edge are counted whole
    assert abs(total - 1) < 0.015


@pytest.mark.parametrize("observed", OBSERVED)
def test_the_probability_of_acceptance_is_that_of_simulations(observed: tuple[float, float]) -> None:
    """Noise from the simulator itself at theta = 0, whose image is the origin."""
    n, x = 200_000, torch.tensor(observed)
    m = x - SIMULATOR.simulate(torch.zeros(n, 2), seed=0)
    part = ((m[:, 0] <= 0) & (m.abs().sum(1) <= math.sqrt(2))).double().mean().item()
    known = SIMULATOR.posterior(x).acceptance
    assert abs(part - known) <= 4 * math.sqrt(known * (1 - known) / n) + 1e-9


def test_posterior_density_is_likelihood_times_prior() -> None:
    x = torch.tensor([-0.6, 0.1])
    posterior = SIMULATOR.posterior(x)
    with Stream.of(0).forked():
        theta = posterior.sample((50,))
    ratio = posterior.log_prob(theta) - SIMULATOR.log_likelihood(theta, x)
    torch.testing.assert_close(ratio, ratio[0].expand(50))
    assert posterior.log_prob(torch.tensor([[1.2, 0.0]])).isneginf().all()


def test_posterior_has_two_modes_of_equal_mass() -> None:
    with Stream.of(0).forked():
        theta = SIMULATOR.posterior(torch.tensor([0.0, 0.0])).sample((10_000,))
    assert abs((theta.sum(1) > 0).float().mean() - 0.5) < 4 * 0.5 / 100


def test_posterior_keeps_the_shapes_of_torch() -> None:
    posterior = SIMULATOR.posterior([[0.0, 0.0]])
    assert posterior.sample().shape == (2,)
    assert posterior.sample((3, 4)).shape == (3, 4, 2)
    assert posterior.sample((0,)).shape == (0, 2)
    assert posterior.log_prob(torch.zeros(3, 4, 2)).shape == (3, 4)


@pytest.mark.parametrize("observed", [(3.0, 0.0), (0.6, 0.0)])
def test_an_observation_from_nowhere_is_refused(observed: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="observed: expected a point that two moons can make"):
        SIMULATOR.posterior(observed)
