"""Scores against closed forms, and the posteriors they define against grids."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Independent, Normal

from implicit_infer.abc.pseudo_marginal import ChainSettings
from implicit_infer.abc.scoring_rule import ScoringRuleBayes, matching_weight
from implicit_infer.abc.scoring_rules import EnergyScore, KernelScore
from implicit_infer.posteriors.method import Question
from implicit_simulators import Simulator
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear
from implicit_simulators.streams import Stream

STANDARD = Normal(torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64))


class Location(Simulator):
    """Independent normal points of unit variance about an unknown mean."""

    name = "location"
    parameter_names = ("mean",)

    def __init__(self, points: int = 1) -> None:
        self.points = points
        self.event_shape = torch.Size([points])
        self.prior = Independent(Normal(torch.zeros(1), 3 * torch.ones(1)), 1)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        return theta + torch.randn(len(theta), self.points, generator=stream.torch())


def energy(away: Tensor) -> Tensor:
    """The energy score of N(0, 1) at a point: twice a folded normal's mean, less the mean of one of variance 2."""
    folded = 2 * STANDARD.log_prob(away).exp() + away * (2 * STANDARD.cdf(away) - 1)
    return 2 * folded - 2 / math.sqrt(math.pi)


def kernel(away: Tensor, bandwidth: float) -> Tensor:
    """The kernel score of N(0, 1) at a point."""
    s = bandwidth**2
    among = math.sqrt(s / (s + 2))
    return among - 2 * math.sqrt(s / (s + 1)) * torch.exp(-0.5 * away**2 / (s + 1))


@pytest.mark.parametrize(
    ("rule", "exact"), [(EnergyScore(), energy), (KernelScore(0.8), lambda away: kernel(away, 0.8))]
)
def test_estimates_are_unbiased(rule, exact) -> None:
    draws = torch.randn(20_000, 4, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    observed = torch.tensor([[0.3], [-2.0]], dtype=torch.float64)
    values = rule(draws, observed)
    error = float(values.std()) / math.sqrt(len(values))
    assert abs(float(values.mean()) - float(exact(observed).sum())) < 4 * error


@pytest.mark.parametrize("rule", [EnergyScore(), EnergyScore(0.5), KernelScore(1.0)], ids=repr)
@given(st.integers(0, 10**6))
@settings(max_examples=10)
def test_a_score_is_lowest_at_the_law_of_the_data(rule, seed: int) -> None:
    """Its expectation falls short of any other law's by a distance between the two; a shift of one deviation is many
    standard errors for so many points."""
    random = torch.Generator().manual_seed(seed)
    data, own, other = torch.randn(3, 300, 2, generator=random, dtype=torch.float64)
    scores = rule(torch.stack((own, other + torch.tensor([1.0, 0.0]), 2 * other)), data)
    assert scores.argmin() == 0


def test_failed_draws_do_not_count() -> None:
    draws = torch.randn(1, 10, 2, generator=torch.Generator().manual_seed(0))
    broken = torch.cat((draws, torch.full((1, 5, 2), torch.nan)), 1)
    assert torch.allclose(EnergyScore()(broken, torch.zeros(1, 2)), EnergyScore()(draws, torch.zeros(1, 2)))
    assert EnergyScore()(broken[:, 9:], torch.zeros(1, 2)).tolist() == [math.inf]


def test_the_bandwidth_is_the_median_distance() -> None:
    """The distance of two standard normal numbers has median 0.954."""
    draws = torch.randn(20, 300, 1, generator=torch.Generator().manual_seed(0))
    fitted = KernelScore().fitted(draws)
    assert fitted.bandwidth == pytest.approx(0.954, abs=0.03)
    assert KernelScore(2.0).fitted(draws) == KernelScore(2.0)


@pytest.mark.parametrize("points", [1, 4])
def test_the_posterior_is_the_scores(points: int) -> None:
    """Many draws, so that the noise of the score, of variance w^2 / m times a few, widens nothing that can be seen."""
    simulator = Location(points)
    observed = torch.tensor([1.0, 2.5, 0.5, 1.5])[:points]
    # the method divides by the robust scale of its pilot: w is per unit of that, known here by the prior predictive
    method = ScoringRuleBayes(weight=2.0, replicates=200 // points)
    posterior = method.infer(Question(simulator, observed, 120_000 // points, 100, progress=False))
    scale = math.sqrt(10)
    grid = torch.linspace(-10, 10, 2001, dtype=torch.float64)
    score = sum(energy(grid - y) for y in observed.double()) / scale
    weights = (-2.0 * score - 0.5 * (grid / 3) ** 2).softmax(0)
    mean = float(weights @ grid)
    sd = math.sqrt(float(weights @ (grid - mean) ** 2))
    particles, ess = posterior.particles(), posterior.figures["ess"]
    found = float(particles.weights @ particles.theta[:, 0].double())
    spread = math.sqrt(float(particles.weights @ (particles.theta[:, 0].double() - found) ** 2))
    assert ess > 60
    # the pilot's scale is that of some sixty parameters: within a tenth, which moves the width by half of that
    assert abs(found - mean) < (4 / math.sqrt(ess) + 0.05) * sd
    assert abs(math.log(spread / sd)) < 4 / math.sqrt(2 * ess) + 0.1


def test_the_weight_makes_differences_alike() -> None:
    """Where the reference is a multiple of the score, the multiple is the weight: of a kernel so wide that the score is
    the squared distance over the bandwidth's square, the normal log-likelihood is half of the squared distance."""
    theta = torch.linspace(-3, 3, 30, dtype=torch.float64)
    draws = theta[:, None, None] + torch.randn(
        30, 400, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    weight = matching_weight(KernelScore(100.0), draws, torch.zeros(1, 1))
    assert weight == pytest.approx(100.0**2 / 2, rel=0.15)


def test_an_outlier_does_not_decide_a_bounded_score() -> None:
    simulator = Location(10)
    clean = torch.full((10,), 1.0) + 0.5 * torch.linspace(-1, 1, 10)
    outlying = torch.cat((clean[:9], torch.tensor([100.0])))
    method = ScoringRuleBayes(KernelScore(), weight=10.0, replicates=20)
    posterior = method.infer(Question(simulator, outlying, 15_000, 100, progress=False))
    particles = posterior.particles()
    assert abs(float(particles.weights @ particles.theta[:, 0].double()) - 1) < 1


def test_the_default_is_near_the_exact_posterior() -> None:
    """It need not be equal; centred where the exact one is, and of a width within a factor of two."""
    simulator = GaussianLinear(2)
    observed = torch.tensor([0.4, -0.2])
    exact = simulator.posterior(observed)
    method = ScoringRuleBayes(chains=ChainSettings(groups=2))
    posterior = method.infer(Question(simulator, observed, 20_000, 100, progress=False))
    particles = posterior.particles()
    mean = particles.weights @ particles.theta.double()
    sd = (particles.weights @ (particles.theta.double() - mean) ** 2).sqrt()
    assert ((mean - exact.mean).abs() < 0.7 * exact.stddev).all()
    assert ((sd / exact.stddev).log().abs() < math.log(2)).all()
    assert posterior.simulations <= 20_000
    assert posterior.figures["weight"] > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EnergyScore(2.0), "power: expected a number in"),
        (lambda: KernelScore(0.0), "bandwidth: expected a positive number"),
        (lambda: ScoringRuleBayes(weight=0.0), "weight: expected a positive number"),
        (lambda: ScoringRuleBayes(replicates=1), "replicates: expected an int of at least 2"),
        (lambda: KernelScore()(torch.zeros(1, 3, 1), torch.zeros(1, 1)), "bandwidth: expected a number"),
        (
            lambda: ScoringRuleBayes().infer(Question(Location(), torch.zeros(1), 300, 0, progress=False)),
            "budget: expected at least 400",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()
