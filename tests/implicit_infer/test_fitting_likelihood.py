"""Fits by an estimated likelihood on a normal mean, where the maximum, its error and its intervals are known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Independent, Normal, Uniform

import implicit_infer as ii
from implicit_infer.fitting.likelihood_fit import LikelihoodFit, chi_squared
from implicit_infer.fitting.quadratic import Quadratic
from implicit_infer.fitting.question import FitQuestion
from implicit_infer.fitting.ratio_likelihood import NARROWING, RatioLikelihood, _Bank, _Round, effective
from implicit_infer.fitting.space import Space
from implicit_infer.fitting.surface import Range, Surface
from implicit_infer.fitting.synthetic_likelihood import (
    SyntheticLikelihood,
    shrunk_covariance,
    synthetic_log_likelihood,
)
from implicit_simulators import Simulator, Stream


class NormalMean(Simulator):
    """Draws of N(mean, 1) in each column, independent."""

    name = "normal-mean"

    def __init__(self, d: int = 1, bounded: bool = False) -> None:
        self.parameter_names = tuple(f"mean_{i}" for i in range(d))
        self.event_shape = torch.Size([d])
        wide = Uniform(-5 * torch.ones(d), 5 * torch.ones(d), validate_args=False)
        self.prior = Independent(wide if bounded else Normal(torch.zeros(d), 3 * torch.ones(d)), 1)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        return theta + torch.randn(theta.shape, generator=stream.torch())


def question(d: int, m: int, budget: int, seed: int, truth: float = 1.0, bounded: bool = False) -> FitQuestion:
    simulator = NormalMean(d, bounded)
    random = torch.Generator().manual_seed(10**6 + seed)
    data = truth + torch.randn(m, d, generator=random)
    return FitQuestion(simulator, data, budget, seed, progress=False)


QUICK = RatioLikelihood(rounds=2, members=2, features=4, hidden=(16,), steps=100, test_share=0.0)


def exact_surface(d: int, m: int) -> tuple[Surface, Tensor]:
    """The surface of the exact likelihood of a normal mean with bounded prior, and the mean of the data."""
    asked = question(d, m, 10, 100, bounded=True)
    space = Space.of(asked.simulator)

    def log_likelihood(v: Tensor) -> Tensor:
        return -0.5 * (asked.data.double() - space.theta(v)[:, None]).square().sum((1, 2))

    start = space.free(asked.data.mean(0)[None]).double()
    around = start + 0.5 * torch.randn(500, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Surface(space, log_likelihood, Range.of(around), around[:2]), asked.data.mean(0)


@pytest.mark.parametrize("d", [1, 2])
def test_the_exact_likelihood_gives_exact_maximum_error_and_interval(d: int) -> None:
    """Of m normal draws: the mean, 1/sqrt(m), and mean -+ 1.96/sqrt(m), to the tolerance of the search."""
    surface, mean = exact_surface(d, 50)
    assert torch.allclose(surface.theta.float(), mean, atol=1e-4)
    assert torch.allclose(surface.covariance.float(), torch.eye(d) / 50, atol=1e-4)
    low, high, is_open = surface.interval(0, chi_squared(0.95, 1))
    half = 1.959964 / math.sqrt(50)
    assert (low, high) == (
        pytest.approx(float(mean[0]) - half, abs=2e-3),
        pytest.approx(float(mean[0]) + half, abs=2e-3),
    )
    assert not is_open
    away = mean + 0.3
    assert float(surface.deviance(away[None])) == pytest.approx(50 * d * 0.09, rel=1e-3)


def test_noise_of_the_simulations_widens_intervals() -> None:
    surface, _ = exact_surface(1, 50)
    noisy = Surface(surface.space, surface.log_likelihood, surface.range, surface.v[None], surface.inverse)
    assert noisy.inflation == pytest.approx(2.0)
    assert torch.allclose(noisy.covariance, 2 * surface.covariance)
    assert noisy.inflation_of(0) == pytest.approx(2.0)


def test_what_was_not_learned_is_infinitely_unlikely() -> None:
    surface, _ = exact_surface(2, 50)
    assert torch.isinf(surface.deviance(torch.tensor([[4.9, -4.9], [6.0, 0.0]]))).all()


@pytest.fixture(scope="module")
def ratio_fit() -> LikelihoodFit:
    return RatioLikelihood(rounds=2, steps=300, features=4, test_share=0.0).fit(question(2, 100, 3000, 101))


def test_ratio_finds_the_mean_and_its_error(ratio_fit: LikelihoodFit) -> None:
    """Within four of the errors that the fit itself says its simulations have; the spread within a quarter."""
    exact = ratio_fit.data.mean(0)
    noise = ratio_fit.surface.noise.diagonal().sqrt() * ratio_fit.surface.jacobian.diagonal().abs()
    assert ((ratio_fit.theta - exact).abs() < 4 * noise + 0.02).all()
    assert float(noise.max()) < 0.1  # the error of the data
    data_share = (ratio_fit.surface.jacobian @ ratio_fit.surface.inverse @ ratio_fit.surface.jacobian.T).diagonal()
    # the calibrating slope has a standard error of about a tenth with 3,000 simulations
    assert torch.allclose(data_share.sqrt(), torch.full((2,), 0.1, dtype=torch.float64), rtol=0.25)
    assert ratio_fit.standard_errors is not None
    assert ratio_fit.simulations <= 3000


def test_ratio_has_wilks_intervals_and_profiles(ratio_fit: LikelihoodFit) -> None:
    region = ratio_fit.confidence_region(0.95)
    exact = ratio_fit.data.mean(0)
    for place, (name, (low, high)) in enumerate(region.intervals.items()):
        half = 1.96 * math.sqrt(0.01 * ratio_fit.surface.inflation_of(place))
        assert low < float(exact[place]) < high
        assert (high - low) / 2 == pytest.approx(half, rel=0.25), name
    assert region.open == ()
    assert region.contains(torch.stack((ratio_fit.theta, ratio_fit.theta + 0.6))).tolist() == [True, False]
    profile = ratio_fit.profile("mean_0", points=3, level=0.95)
    assert profile.theta.shape == (3, 2)
    assert float(profile.deviance[1]) < 0.2
    ends = chi_squared(0.95, 1) * ratio_fit.surface.inflation_of(0)
    assert profile.deviance[[0, -1]].tolist() == pytest.approx([ends, ends], rel=0.05)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=20), st.floats(-100, 100))
def test_effective_weights_are_at_most_all_and_know_no_unit(values: list[float], shift: float) -> None:
    weights = torch.tensor(values, dtype=torch.float64)
    assert 1 - 1e-9 <= effective(weights) <= len(weights) + 1e-9
    assert effective(weights + shift) == pytest.approx(effective(weights))


def test_a_round_keeps_a_share_of_the_range_before_it() -> None:
    """20,000 normal draws tell their mean to 0.007, a prior of 3 asks for a range of 400 times less: not at once."""
    asked = question(1, 20_000, 600, 110)
    space = Space.of(asked.simulator)
    v = space.free(asked.simulator.sample_prior(300, 0)).double()
    bank = _Bank(asked, space)
    bank.add(v)
    learned = _Round(QUICK, bank, v, 1, 2)
    narrower = learned.propose(300, 0.1)
    # a normal law of which a tenth is left in weight is about a tenth as wide, and its draws are a finite sample
    assert float(narrower.std()) > 0.4 * NARROWING * float(v.std())
    assert float(narrower.std()) < 0.5 * float(v.std())


def test_rounds_follow_the_parameters_unless_told() -> None:
    short = RatioLikelihood(members=2, features=2, hidden=(8,), steps=8, test_share=0.0)
    assert short.fit(question(2, 30, 400, 111)).figures["rounds"] == 4


@pytest.mark.slow
def test_ratio_intervals_cover() -> None:
    """Of 24 intervals at 90 %, fewer than 17 would hold the truth with probability 4e-3 if the level were right."""
    covered, errors = 0, []
    for seed in range(200, 224):
        fit = RatioLikelihood(steps=500, features=4, test_share=0.0).fit(question(1, 30, 2000, seed))
        ((low, high),) = fit.confidence_region(0.9).intervals.values()
        covered += low <= 1.0 <= high
        errors.append(float(fit.theta) - 1.0)
    total = torch.tensor(errors)
    assert covered >= 17
    # neither side is preferred: the mean error is within four of its standard errors
    assert abs(float(total.mean())) < 4 * float(total.std()) / math.sqrt(len(errors))
    # and they are not much larger than those of the data, 1/sqrt(30)
    assert float(total.square().mean().sqrt()) < 1.5 / math.sqrt(30)


def test_ratio_counts_every_point_of_one_simulation() -> None:
    """A simulation of ten independent draws is as good as ten simulations of one: the error is 1/sqrt(10 m)."""

    class Ten(NormalMean):
        points = 10

        def __init__(self) -> None:
            super().__init__(1)
            self.event_shape = torch.Size([10])

        def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
            return theta + torch.randn(len(theta), 10, generator=stream.torch())

    data = 1 + torch.randn(4, 10, generator=torch.Generator().manual_seed(5))
    fit = replace(QUICK, steps=200).fit(FitQuestion(Ten(), data, 300, 102, progress=False))
    own = float((fit.surface.jacobian.square() * fit.surface.inverse).sqrt())
    # less than a half of the 0.5 of four draws; 400 simulations leave the calibrating slope an error of a fifth
    assert own == pytest.approx(1 / math.sqrt(40), rel=0.5)
    assert abs(float(fit.theta) - float(data.mean())) < 0.2


@pytest.mark.parametrize(
    "method",
    [RatioLikelihood(2, members=2, features=2, hidden=(8,), steps=10), SyntheticLikelihood(test_share=0.2)],
    ids=lambda method: method.name,
)
def test_budget_is_never_exceeded_and_seeds_repeat(method: Any) -> None:
    first, again = (method.fit(question(1, 20, 333, 103)) for _ in range(2))
    assert 300 < first.simulations <= 333
    assert torch.equal(first.theta, again.theta)
    assert first.trace.simulations[-1] <= 333


def test_synthetic_likelihood_is_exact_for_a_normal_law() -> None:
    """The mean within four of the errors that its simulations are said to have, that of the data within a fifth."""
    for seed in (104, 105):
        fit = SyntheticLikelihood(test_share=0.0).fit(question(2, 20, 8000, seed))
        jacobian, surface = fit.surface.jacobian, fit.surface
        noise = (jacobian @ surface.noise @ jacobian.T).diagonal().sqrt()
        assert ((fit.theta - fit.data.mean(0)).abs() < 4 * noise + 0.005).all()
        share = (jacobian @ surface.inverse @ jacobian.T).diagonal().sqrt()
        assert torch.allclose(share, torch.full((2,), 1 / math.sqrt(20), dtype=torch.float64), rtol=0.2)
        low, high = fit.confidence_region(0.95).intervals["mean_0"]
        assert (high - low) / 2 == pytest.approx(1.96 / math.sqrt(20), rel=0.25)


def test_synthetic_log_likelihood_with_many_replicates_is_the_normal_one() -> None:
    random = torch.Generator().manual_seed(3)
    root = torch.tensor([[1.0, 0.0], [0.7, 0.5]], dtype=torch.float64)
    rows = torch.randn(200_000, 2, generator=random, dtype=torch.float64) @ root.T
    observed = torch.tensor([[0.3, -0.2], [1.0, 0.4]], dtype=torch.float64)
    exact = torch.distributions.MultivariateNormal(torch.zeros(2, dtype=torch.float64), scale_tril=root)
    # the mean has an error of 1/sqrt(200,000) of a deviation in each direction
    assert float(synthetic_log_likelihood(rows, observed)) == pytest.approx(
        float(exact.log_prob(observed).sum()), abs=0.05
    )
    assert synthetic_log_likelihood(torch.full((10, 2), torch.nan), observed) == -torch.inf


@settings(max_examples=25, deadline=None)
@given(n=st.integers(3, 30), k=st.integers(1, 8), seed=st.integers(0, 10**6))
def test_shrunk_covariances_are_positive_definite(n: int, k: int, seed: int) -> None:
    rows = torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rows[:, 0] = 2.0 if seed % 3 == 0 else rows[:, 0]
    found = shrunk_covariance(rows)
    assert torch.linalg.eigvalsh(found / found.diagonal().sqrt().outer(found.diagonal().sqrt())).min() > 0
    plain = torch.cov(rows.T).reshape(k, k)
    assert torch.allclose(found.diagonal(), plain.diagonal(), rtol=1e-6, atol=1e-9)
    assert (found.abs() <= plain.abs() + 1e-8).all()


def test_shrinkage_vanishes_with_many_rows() -> None:
    random = torch.Generator().manual_seed(7)
    root = torch.tensor([[1.0, 0.0], [0.8, 0.6]], dtype=torch.float64)
    rows = torch.randn(20_000, 2, generator=random, dtype=torch.float64) @ root.T
    # the share is about the variance of a product of two columns over the square of its mean, 2.6 / 20,000 = 1e-4
    assert torch.allclose(shrunk_covariance(rows), torch.cov(rows.T), rtol=4e-4)


@settings(max_examples=15, deadline=None)
@given(d=st.integers(1, 3), seed=st.integers(0, 10**6))
def test_a_quadratic_without_noise_is_found_exactly(d: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    root = 2 * torch.eye(d, dtype=torch.float64) + 0.5 * torch.randn(d, d, generator=random, dtype=torch.float64)
    curvature = root @ root.T + torch.eye(d, dtype=torch.float64)
    best = 0.3 * torch.rand(d, generator=random, dtype=torch.float64)
    v = torch.randn(60, d, generator=random, dtype=torch.float64)
    values = 7 - 0.5 * (((v - best) @ curvature) * (v - best)).sum(1)
    region = torch.eye(d, dtype=torch.float64)
    found = Quadratic.fit(v, values, torch.zeros(d, dtype=torch.float64), region)
    assert torch.allclose(found.centre, best, atol=1e-4)
    assert torch.allclose(found.curvature, curvature, rtol=1e-3, atol=1e-3)
    assert torch.allclose(found(v), values, atol=1e-3)
    assert not found.bent


def test_the_noise_of_a_quadratic_is_that_of_its_maximum() -> None:
    """Over 80 repetitions the maximum scatters as each fit says that it does: within three errors of a deviation."""
    random = torch.Generator().manual_seed(8)
    found, said = [], []
    for _ in range(80):
        v = torch.randn(80, 1, generator=random, dtype=torch.float64)
        values = -2 * v[:, 0].square() + 0.5 * torch.randn(80, generator=random, dtype=torch.float64)
        made = Quadratic.fit(v, values, torch.zeros(1, dtype=torch.float64), torch.eye(1, dtype=torch.float64), 1000.0)
        found.append(float(made.centre))
        said.append(float(made.noise))
    assert float(torch.tensor(found).std()) == pytest.approx(math.sqrt(sum(said) / 80), rel=3 / math.sqrt(160))


def test_flat_likelihoods_are_said_to_be_flat() -> None:
    class Deaf(NormalMean):
        def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
            return super()._simulate(0 * theta, stream)

    asked = FitQuestion(
        Deaf(1), torch.randn(20, 1, generator=torch.Generator().manual_seed(9)), 600, 106, progress=False
    )
    fit = QUICK.fit(asked)
    assert any("flat in 1 of 1 directions" in warning for warning in fit.warnings)
    assert fit.standard_errors is not None
    assert fit.standard_errors["mean_0"] > 2  # the prior's is 3


def test_the_verb_leads_here() -> None:
    data = torch.ones(10, 1) + torch.randn(10, 1, generator=torch.Generator().manual_seed(2))
    fit = ii.fit(NormalMean(), data, method="synthetic-likelihood", budget=500, progress=False)
    assert isinstance(fit, LikelihoodFit)
    assert fit.method == "synthetic-likelihood"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RatioLikelihood(members=1), "members: expected an int of at least 2; got 1"),
        (lambda: RatioLikelihood(width=0.0), "width, learning_rate: expected positive numbers"),
        (lambda: SyntheticLikelihood(replicates=2), "replicates: expected an int of at least 3 or None; got 2"),
        (lambda: SyntheticLikelihood(rounds=0), "rounds: expected a positive int; got 0"),
        (lambda: QUICK.fit(question(1, 10, 40, 0)), "budget: expected at least 80 simulations"),
        (lambda: SyntheticLikelihood().fit(question(1, 10, 20, 0)), "budget: expected at least"),
        (lambda: chi_squared(1.0, 1), r"level: expected a number inside \(0, 1\); got 1.0"),
    ],
)
def test_bad_arguments(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_profiles_have_names_and_points(ratio_fit: LikelihoodFit) -> None:
    with pytest.raises(ValueError, match="name: expected one of mean_0, mean_1; got 'mean'"):
        ratio_fit.profile("mean")
    with pytest.raises(ValueError, match="points: expected an int of at least 3; got 2"):
        ratio_fit.profile("mean_0", points=2)
