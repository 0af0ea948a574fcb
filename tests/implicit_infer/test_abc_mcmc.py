"""ABC-MCMC against a closed form; its figures say how far the chains can be trusted."""

import math

import pytest
import torch
from torch.distributions import Independent, Uniform

from implicit_infer.abc import ABCMCMC
from implicit_infer.abc.distances import robust_scale
from implicit_infer.abc.mcmc import ChainsRun
from implicit_infer.posteriors.method import Question
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear

SIMULATOR = GaussianLinear(dim=2)
OBSERVED = torch.tensor([0.4, -0.2])


class Counting(GaussianLinear):
    simulated = 0

    def _simulate(self, theta, stream):
        self.simulated += len(theta)
        return super()._simulate(theta, stream)


def ask(budget=5000, simulator=SIMULATOR, observed=OBSERVED, seed=100, **options):
    return Question(simulator, observed, budget, seed, progress=False, **options)


@pytest.fixture(scope="module")
def long():
    run = ChainsRun(ABCMCMC(chains=200, quantile=0.03), ask(40_000))
    run.all_generations()
    return run


def test_mean_and_variance_within_what_the_tolerance_allows(long):
    """As for SMC: a radius r moves the mean by at most r / 2 and adds at most (r / 2)² to the variance. The standard
    error is that of the effective sample size which autocorrelation leaves."""
    exact = SIMULATOR.posterior(OBSERVED)
    scale = float(robust_scale(SIMULATOR.simulate(SIMULATOR.sample_prior(50_000, 9), 9)).max())
    radius = 1.1 * scale * long.tolerance
    assert radius / 2 < 0.4 * float(exact.stddev.max())
    particles, ess = long.particles(), long.figures()["ess"]
    assert 100 < ess < len(particles)
    theta, weights = particles.theta.double(), particles.weights
    mean = weights @ theta
    variance = weights @ (theta - mean) ** 2
    assert ((mean - exact.mean).abs() <= radius / 2 + 4 * exact.stddev / math.sqrt(ess)).all()
    slack = 4 * exact.variance * math.sqrt(2 / ess)
    assert (variance >= exact.variance - slack).all()
    assert (variance <= exact.variance + (radius / 2) ** 2 + slack).all()


def test_states_count_as_often_as_chains_stayed(long):
    """The weighted states are the walk itself: same mean, state by state."""
    path = long._path()
    assert path.shape == (long.figures()["steps"], 200, 2)
    mean, covariance = long.population.covariance()
    assert torch.allclose(mean, path.mean((0, 1)))
    assert torch.allclose(covariance, path.reshape(-1, 2).T.cov(correction=0))
    assert (long.population.distances <= long.tolerance).all()


def test_chains_walk_on_from_where_they_were(long):
    """Segments join: a chain that does not move keeps its place, so most steps repeat the one before."""
    path = long._path()
    stays = (path[1:] == path[:-1]).all(2).double().mean()
    rates = long.figures()["paths"]["acceptance"][-len(long.places) :]
    assert float(stays) == pytest.approx(1 - sum(rates) / len(rates), abs=0.02)


def test_a_bounded_prior_shapes_the_posterior():
    """Prior uniform on (0, 1), noise as wide as that: without the prior's ratio the edges would be wrong."""
    simulator = GaussianLinear(dim=1, noise_variance=0.25)
    simulator.prior = Independent(Uniform(torch.zeros(1), torch.ones(1)), 1)
    posterior = ABCMCMC(chains=60, quantile=0.1).infer(ask(12_000, simulator, torch.tensor([-0.3])))
    grid = torch.linspace(0, 1, 2001, dtype=torch.float64)
    density = torch.exp(-0.5 * (grid + 0.3) ** 2 / 0.25)
    density = density / density.sum()
    mean = float(density @ grid)
    sd = math.sqrt(float(density @ (grid - mean) ** 2))
    particles = posterior.particles()
    assert ((particles.theta >= 0) & (particles.theta <= 1)).all()
    found = float(particles.weights @ particles.theta[:, 0].double())
    # x moves the mean by Var(theta | x) / noise variance for each unit; scale of x is below 0.7
    radius = 0.7 * posterior.figures["tolerance"]
    assert abs(found - mean) < sd**2 / 0.25 * radius * 1.2 + 4 * sd / math.sqrt(posterior.figures["ess"])


def test_the_budget_is_never_exceeded_and_little_is_left():
    simulator = Counting(dim=2)
    simulator.block = 7
    posterior = ABCMCMC(chains=30).infer(ask(1234, simulator))
    assert simulator.simulated == posterior.simulations == sum(posterior.figures["paths"]["simulations"])
    assert 1234 - 30 < posterior.simulations <= 1234


def test_a_tolerance_may_be_given():
    posterior = ABCMCMC(chains=50, tolerance=0.7).infer(ask(2000))
    assert posterior.figures["tolerance"] == 0.7
    with pytest.raises(ValueError, match="tolerance: none of 500 simulations of the pilot is within 1e-06"):
        ABCMCMC(tolerance=1e-6).infer(ask(2000))


def test_chains_that_cannot_mix_are_told():
    warnings = ABCMCMC(chains=100, quantile=0.004).infer(ask(4000)).warnings
    assert any(word.startswith("the chains disagree (R-hat") for word in warnings)
    assert any("chains never moved" in word for word in warnings)
    assert any(word.startswith("the chains are worth") for word in warnings)


def test_seeds_repeat():
    one, two, other = (ABCMCMC(chains=20).infer(ask(400, seed=seed)).particles() for seed in (100, 100, 101))
    assert torch.equal(one.theta, two.theta)
    assert not torch.equal(one.theta, other.theta)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chains": 1}, "chains: expected an int of at least 2; got 1"),
        ({"pilot": 1.0}, r"pilot: expected a number in \(0, 1\); got 1.0"),
        ({"warmup": 1.0}, r"warmup: expected a number in \[0, 1\); got 1.0"),
        ({"tolerance": -1.0}, "tolerance: expected a non-negative number or None; got -1.0"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        ABCMCMC(**options)
