"""Chains on estimated likelihoods against exact posteriors, within an exact budget."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Independent, Uniform

from implicit_infer.abc.pseudo_marginal import ChainSettings, _rise
from implicit_infer.abc.synthetic import BSL, NormalEstimate, Optimal, SemiBSL, UnbiasedBSL
from implicit_infer.posteriors.method import Question
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear
from implicit_simulators.moving_average import MovingAverage

SIMULATOR = GaussianLinear(2)
OBSERVED = torch.tensor([0.4, -0.2])


class Counting(GaussianLinear):
    simulated = 0

    def _simulate(self, theta, stream):
        self.simulated += len(theta)
        return super()._simulate(theta, stream)


class Broken(GaussianLinear):
    """Fails more often the larger the first parameter is."""

    def _simulate(self, theta, stream):
        x = super()._simulate(theta, stream)
        lost = torch.rand(len(theta), generator=stream.torch()) < torch.sigmoid(4 * theta[:, 0])
        return torch.where(lost[:, None], torch.nan, x)


class Whole(MovingAverage):
    """All data as summaries: normal, so that the synthetic likelihood is the exact one but for its noise."""

    def summarize(self, x: Tensor) -> Tensor:
        return x


def ask(budget: int = 20_000, simulator: Any = SIMULATOR, observed: Tensor = OBSERVED, seed: int = 100, **more: Any):
    return Question(simulator, observed, budget, seed, progress=False, **more)


def moments(posterior) -> tuple[Tensor, Tensor]:
    particles = posterior.particles()
    mean = particles.weights @ particles.theta.double()
    return mean, (particles.weights @ (particles.theta.double() - mean) ** 2).sqrt()


def check(posterior, mean: Tensor, sd: Tensor, slack: float = 0.0) -> None:
    """Within four standard errors of so many independent draws, and ``slack`` deviations that the method may err."""
    found, spread = moments(posterior)
    ess = posterior.figures["ess"]
    assert ess > 40
    assert ((found - mean).abs() < (4 / math.sqrt(ess) + slack) * sd).all()
    assert ((spread / sd).log().abs() < 4 / math.sqrt(2 * ess) + slack).all()


@pytest.mark.parametrize(
    "method",
    [
        BSL(),
        UnbiasedBSL(),
        UnbiasedBSL(replicates=7),
        BSL(estimate=NormalEstimate(Optimal()), whiten=True),
        BSL(chains=ChainSettings(groups=2)),
    ],
    ids=["plug-in", "unbiased", "few replicates", "whitened", "groups"],
)
def test_a_normal_posterior(method) -> None:
    exact = SIMULATOR.posterior(OBSERVED)
    check(method.infer(ask()), exact.mean, exact.stddev)


def test_a_kernel_widens_the_posterior_by_its_bandwidth() -> None:
    """Silverman's bandwidth of 50 is 0.41 noise deviations, which adds 0.17 to the noise's variance, 1: the posterior's
    deviation, of noise and prior of the same size, grows by 4 %."""
    exact = SIMULATOR.posterior(OBSERVED)
    check(SemiBSL().infer(ask(40_000)), exact.mean, exact.stddev, slack=0.08)


def test_ma2_of_the_whole_series() -> None:
    simulator = Whole(8)
    observed = simulator.simulate(torch.tensor([[0.6, 0.2]]), seed=103)[0]
    grid = torch.cartesian_prod(torch.linspace(-2, 2, 161), torch.linspace(-1, 1, 81))
    log_density = simulator.log_likelihood(grid, observed) + simulator.prior.log_prob(grid)
    weights = log_density.double().softmax(0)
    mean = weights @ grid.double()
    sd = (weights @ (grid.double() - mean) ** 2).sqrt()
    posterior = UnbiasedBSL(replicates=40).infer(ask(60_000, simulator, observed))
    check(posterior, mean, sd)
    assert torch.isfinite(simulator.prior.log_prob(posterior.sample((1000,), seed=0))).all()


def test_a_bounded_prior_shapes_the_posterior() -> None:
    simulator = GaussianLinear(dim=1, noise_variance=0.25)
    simulator.prior = Independent(Uniform(torch.zeros(1), torch.ones(1)), 1)
    grid = torch.linspace(0, 1, 2001, dtype=torch.float64)
    density = torch.exp(-0.5 * (grid + 0.3) ** 2 / 0.25)
    weights = density / density.sum()
    mean = weights @ grid
    posterior = UnbiasedBSL().infer(ask(20_000, simulator, torch.tensor([-0.3])))
    check(posterior, mean[None], (weights @ (grid - mean) ** 2).sqrt()[None])
    theta = posterior.particles().theta
    assert ((theta >= 0) & (theta <= 1)).all()


def test_failures_count_against_where_they_happen() -> None:
    r"""P(success) is 1 - sigmoid(4 theta_1), which multiplies the likelihood."""
    simulator = Broken(2)
    exact = SIMULATOR.posterior(OBSERVED)
    grid = torch.linspace(-1.5, 1.5, 3001, dtype=torch.float64)
    log = -0.5 * ((grid - exact.mean[0]) / exact.stddev[0]) ** 2 + torch.nn.functional.logsigmoid(-4 * grid)
    mean = float(log.softmax(0) @ grid)
    posterior = BSL(replicates=40).infer(ask(40_000, simulator))
    found, _ = moments(posterior)
    error = float(exact.stddev[0]) / math.sqrt(posterior.figures["ess"])
    assert abs(float(found[0]) - mean) < 4 * error
    assert abs(mean - float(exact.mean[0])) > 4 * error
    assert posterior.figures["failed"] > 0
    assert any("simulations failed" in warning for warning in posterior.warnings)


@settings(max_examples=6)
@given(
    st.integers(1500, 3000),
    st.integers(7, 20),
    st.sampled_from([1, 2]),
    st.sampled_from([30, 1000]),
    st.booleans(),
    st.integers(0, 2**20),
)
def test_the_budget_is_never_passed(budget, replicates, groups, block, whiten, seed) -> None:
    simulator = Counting(dim=2)
    simulator.block = block
    method = BSL(replicates=replicates, whiten=whiten, chains=ChainSettings(chains=6, groups=groups))
    posterior = method.infer(ask(budget, simulator, seed=seed))
    figures = posterior.figures
    assert simulator.simulated == posterior.simulations <= budget
    # less than a step of all chains is left
    assert posterior.simulations > budget - 6 * figures["replicates"]
    assert torch.isfinite(posterior.particles().weights).all()
    assert 0 <= figures["acceptance"] <= 1


def test_another_observation_is_another_run() -> None:
    posterior = BSL().infer(ask(8000))
    before = posterior.simulations
    other = torch.tensor([-0.5, 0.5])
    draws = posterior.sample((200,), x=other, seed=0)
    exact = SIMULATOR.posterior(other)
    assert ((draws.mean(0) - exact.mean).abs() < exact.stddev).all()
    assert before < posterior.simulations <= 2 * 8000


def test_a_posterior_is_saved(tmp_path) -> None:
    import implicit_infer as ii

    posterior = SemiBSL().infer(ask(8000))
    posterior.save(tmp_path / "p")
    loaded = ii.load_posterior(tmp_path / "p", SIMULATOR)
    assert torch.equal(loaded.sample((20,), seed=0), posterior.sample((20,), seed=0))


def test_noise_is_said() -> None:
    simulator = GaussianLinear(12)
    posterior = BSL(replicates=15).infer(ask(15_000, simulator, torch.full((12,), 0.1)))
    assert posterior.figures["log_likelihood_noise"] > 3
    assert any("scatter" in warning for warning in posterior.warnings)


@pytest.mark.parametrize(
    ("method", "budget", "message"),
    [
        (BSL(), 500, "budget: expected at least 1600 simulations for 10 chains with 20 replicates"),
        (UnbiasedBSL(replicates=5), 20_000, "replicates: expected at least 6 for 2 summaries; got 5"),
    ],
)
def test_too_little_is_refused(method, budget, message) -> None:
    with pytest.raises(ValueError, match=message):
        method.infer(ask(budget))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BSL(replicates=2), "replicates: expected an int of at least 3"),
        (lambda: ChainSettings(chains=1), "chains: expected"),
        (lambda: ChainSettings(start=0.6), "start, anneal: expected"),
        (lambda: ChainSettings(groups=0), "groups: expected"),
    ],
)
def test_settings_out_of_range_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@given(st.integers(0, 10**6), st.floats(1.5, 40))
@settings(max_examples=20)
def test_a_rise_keeps_what_it_shall(seed: int, ess: float) -> None:
    value = 50 * torch.randn(50, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    power = _rise(value, 1.0, ess)
    weight = (power * value).softmax(0)
    worth = 1 / float(weight.square().sum())
    assert worth == pytest.approx(ess, rel=1e-3) or (power == 1.0 and worth >= ess)
