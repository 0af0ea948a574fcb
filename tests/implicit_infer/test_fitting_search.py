"""Plain searches: they find what a discrepancy says is there, within the budget, in bounds, and refuse a critic."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Uniform

import implicit_infer as ii
from implicit_infer.fitting.discrepancy import discrepancy, untrained
from implicit_infer.fitting.question import FitQuestion
from implicit_infer.fitting.search import CMAES, NelderMead
from implicit_simulators import Simulator, Stream

METHODS = (CMAES(), NelderMead())


class Bounded(Simulator):
    """Draws of N(mean, scale^2), with parameters in a box."""

    name = "bounded"
    parameter_names = ("mean", "scale")

    def __init__(self, event: int = 1) -> None:
        self.event_shape = torch.Size([event])
        box = Uniform(torch.tensor([-5.0, 0.1]), torch.tensor([5.0, 4.0]), validate_args=False)
        self.prior = Independent(box, 1)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        noise = torch.randn((len(theta), *self.event_shape), generator=stream.torch())
        return theta[:, :1] + theta[:, 1:] * noise

    def summarize(self, x: Tensor) -> Tensor:
        return torch.stack((x.mean(1), x.std(1)), 1) if x.shape[1] > 1 else x


def question(budget: int, seed: int, m: int = 100) -> FitQuestion:
    data = 1 + 2 * torch.randn(m, 1, generator=torch.Generator().manual_seed(seed))
    return FitQuestion(Bounded(), data, budget, seed, progress=False)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_finds_mean_and_scale(method: Any) -> None:
    """By chance, evaluations of 10 draws differ as means 2 / sqrt(10) = .6 apart do; the luckiest may be as far off."""
    fit = method.fit(question(3000, 100))
    assert (fit.theta - torch.tensor([1.0, 2.0])).abs().max() < 1.2
    assert fit.simulations <= 3000
    assert fit.covariance is None
    assert fit.trace.simulations == sorted(fit.trace.simulations)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_errors_have_no_side(method: Any) -> None:
    """The mean error over seeds is within four of its standard errors."""
    errors = torch.stack([method.fit(question(400, seed)).theta - question(10, seed).data.mean() for seed in range(6)])
    error = errors[:, 0]
    assert abs(float(error.mean())) < 4 * float(error.std()) / math.sqrt(6) + 0.05


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("budget", [97, 501])
def test_budget_is_never_exceeded_and_seeds_repeat(method: Any, budget: int) -> None:
    first, again = method.fit(question(budget, 101)), method.fit(question(budget, 101))
    assert first.simulations <= budget
    assert torch.equal(first.theta, again.theta)


def test_one_observation_is_held_against_its_summaries() -> None:
    data = 1 + 2 * torch.randn(1, 200, generator=torch.Generator().manual_seed(7))
    asked = FitQuestion(Bounded(200), data, 3000, 102, progress=False)
    fit = CMAES().fit(asked)
    exact = torch.stack((data.mean(), data.std()))
    # mean and scale of 200 draws have errors of .14 and .1, of which a mean over ten draws leaves a third
    assert (fit.theta - exact).abs().max() < 0.3


def test_windows_of_a_series_are_compared() -> None:
    data = 1 + 2 * torch.randn(1, 200, generator=torch.Generator().manual_seed(7))
    asked = FitQuestion(Bounded(200), data, 800, 103, progress=False)
    fit = CMAES(comparison="energy", window=1, draws=2).fit(asked)
    assert (fit.theta - torch.tensor([1.0, 2.0])).abs().max() < 0.8


def test_a_start_is_where_the_search_begins() -> None:
    asked = question(200, 104)
    asked.start = torch.tensor([3.0, 1.0])
    fit = NelderMead(draws=20).fit(asked)
    assert torch.allclose(fit.trace.theta[0], asked.start, atol=1e-4)


@pytest.mark.parametrize("name", untrained())
def test_untrained_comparisons_are_least_at_the_truth(name: str) -> None:
    asked = question(20_000, 105)
    value = discrepancy(asked, name)
    near, far = (value(asked.simulate(torch.tensor([theta]).repeat(200, 1))) for theta in ([1.0, 2.0], [3.0, 1.0]))
    assert near < far


def test_most_draws_must_succeed() -> None:
    asked = question(100, 106)
    value = discrepancy(asked, "energy")
    draws = torch.full((10, 1), torch.nan)
    assert value(draws) == math.inf
    draws[:6] = 1.0
    assert math.isfinite(value(draws))


def test_the_verb_leads_here_with_its_comparison() -> None:
    fit = ii.fit(Bounded(), question(10, 107).data, method="nelder-mead", comparison="mmd", budget=300, progress=False)
    assert fit.method == "nelder-mead"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CMAES(comparison="wgan-gp"), "comparison: expected one with nothing to train .*; got 'wgan-gp'"),
        (lambda: NelderMead(draws=1), "draws: expected an int of at least 2 or None; got 1"),
        (lambda: CMAES(population=3), "population: expected an int of at least 4 or None; got 3"),
        (lambda: CMAES(draws=60).fit(question(100, 0)), "budget: expected two evaluations of 60 draws"),
    ],
)
def test_bad_arguments(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
