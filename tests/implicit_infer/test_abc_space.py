"""The prior in unconstrained space is the same law in other coordinates."""

import math

import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Dirichlet,
    Independent,
    LogNormal,
    MultivariateNormal,
    Normal,
    Uniform,
)

from implicit_infer.abc.space import UnconstrainedPrior
from implicit_simulators import Product, TruncatedNormal
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear


def space(prior):
    simulator = GaussianLinear(dim=2)
    simulator.prior = prior
    return UnconstrainedPrior(simulator)


two = torch.ones(2)
PRIORS = {
    "normal": Independent(Normal(0 * two, two), 1),
    "multivariate normal": MultivariateNormal(0 * two, torch.tensor([[1.0, 0.5], [0.5, 2.0]])),
    "double precision": MultivariateNormal(0 * two.double(), torch.eye(2, dtype=torch.float64)),
    "box": Independent(Uniform(-two, 3 * two), 1),
    "product": Product([LogNormal(0.0, 1.0), TruncatedNormal(0.05, 0.05)]),
}


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
def test_there_and_back_and_inside_the_support(prior):
    some = space(prior)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theta = prior.sample((1000,)).float()
    assert torch.allclose(some.back(some.to(theta)), theta, rtol=1e-5, atol=1e-6)
    far = some.back(10 * some.to(theta)).to(some.dtype)
    # farther out, only rounding to float32 can reach the edge of the support, and log_prob says so
    outside = ~prior.support.check(far)
    assert (some.log_prob(10 * some.to(theta))[outside] == -torch.inf).all()


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
def test_the_density_integrates_to_one(prior):
    some = space(prior)
    grid = torch.linspace(-16, 12, 1200, dtype=torch.float64)
    phi = torch.cartesian_prod(grid, grid)
    cell = float(grid[1] - grid[0]) ** 2
    # the sum over a fine grid of a smooth density: what is missing lies beyond the grid
    assert float(some.log_prob(phi).exp().sum()) * cell == pytest.approx(1, abs=2e-3)


def test_log_normal_is_normal():
    some = space(Product([LogNormal(0.0, 1.0), LogNormal(1.0, 2.0)]))
    phi = torch.tensor([[0.3, -1.0], [2.0, 4.0]], dtype=torch.float64)
    expected = Independent(Normal(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 2.0])), 1).log_prob(phi)
    assert torch.allclose(some.log_prob(phi), expected.double(), rtol=1e-5)


def test_the_edge_of_the_support_is_finite():
    some = space(Product([LogNormal(0.0, 1.0), Uniform(0.0, 1.0)]))
    phi = some.to(torch.tensor([[0.0, 1.0], [1e-45, 0.0]]))
    assert torch.isfinite(phi).all()


def test_rounding_out_of_the_support_has_no_density():
    some = space(Product([LogNormal(0.0, 1.0), LogNormal(0.0, 1.0)]))
    phi = torch.tensor([[-200.0, 0.0], [0.0, 0.0]], dtype=torch.float64)  # exp(-200) is zero in float32
    log_prob = some.log_prob(phi)
    assert log_prob[0] == -torch.inf
    assert log_prob[1] == pytest.approx(-math.log(2 * math.pi))
    assert (some.log_prob(phi[:1]) == -torch.inf).all()


def test_a_simplex():
    simulator = GaussianLinear(dim=3)
    simulator.prior = Dirichlet(torch.ones(3))
    some = UnconstrainedPrior(simulator)
    theta = torch.tensor([[0.2, 0.3, 0.5]])
    assert some.to(theta).shape == (1, 2)
    assert torch.allclose(some.back(some.to(theta)), theta, atol=1e-6)


def test_discrete_priors_and_priors_without_a_density_are_refused():
    with pytest.raises(TypeError, match="expected a distribution with a continuous support; Independent has none"):
        space(Independent(Bernoulli(0.5 * two), 1))

    class DrawsOnly:
        support = PRIORS["box"].support
        sample = PRIORS["box"].sample

    with pytest.raises(TypeError, match="prior: expected a distribution with log_prob; got DrawsOnly"):
        space(DrawsOnly())
