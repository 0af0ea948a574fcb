"""The Gaussian process against the normal law it is, and the search and its posterior against what is known exactly."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Exponential, Independent, MultivariateNormal, Uniform

import implicit_infer as ii
from implicit_infer.abc.bolfi import BOLFI, Inputs, Search
from implicit_infer.abc.bolfi_process import WIDE, GaussianProcess
from implicit_infer.abc.space import UnconstrainedPrior
from implicit_infer.posteriors.method import Question
from implicit_infer.simulate import simulate
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear

SIMULATOR = GaussianLinear(2)
OBSERVED = torch.tensor([0.4, -0.2])
QUICK = BOLFI(batch=8)


class Counting(GaussianLinear):
    simulated = 0

    def _simulate(self, theta, stream):
        self.simulated += len(theta)
        return super()._simulate(theta, stream)


class Broken(GaussianLinear):
    """Fails where the first parameter is positive."""

    def _simulate(self, theta, stream):
        x = super()._simulate(theta, stream)
        return torch.where(theta[:, :1] > 0, torch.nan, x)


def ask(budget: int = 80, simulator: Any = SIMULATOR, observed: Tensor = OBSERVED, **more: Any) -> Question:
    return Question(simulator, observed, budget, 100, progress=False, **more)


@given(st.integers(1, 3), st.integers(0, 10**6))
@settings(max_examples=10)
def test_the_process_is_the_normal_law_it_says(d: int, seed: int) -> None:
    """Mean, variance and marginal likelihood against those of one joint normal law, written out."""
    random = torch.Generator().manual_seed(seed)
    z = torch.randn(12, d, generator=random, dtype=torch.float64)
    y = 3 + 2 * torch.randn(8, generator=random, dtype=torch.float64)
    log_parameters = 0.3 * torch.randn(d + 2, generator=random, dtype=torch.float64)
    process = GaussianProcess(z[:8], y, log_parameters)
    length, (signal, noise) = log_parameters[:d].exp(), log_parameters[d:].exp()
    basis = torch.cat((torch.ones(12, 1, dtype=torch.float64), z, z**2), 1)
    apart = ((z[:, None] - z) / length).square().sum(2)
    prior = signal**2 * torch.exp(-0.5 * apart) + WIDE**2 * basis @ basis.T
    seen = prior[:8, :8] + (noise**2 + 1e-8) * torch.eye(8, dtype=torch.float64)
    standard = (y - y.mean()) / y.std()
    gain = torch.linalg.solve(seen, prior[:8, 8:]).T
    mean, variance = process.predict(z[8:])
    assert torch.allclose(mean, y.mean() + y.std() * gain @ standard, rtol=1e-5, atol=1e-5)
    expected = y.var() * (prior[8:, 8:] - gain @ prior[:8, 8:]).diagonal()
    assert torch.allclose(variance, expected, rtol=1e-3, atol=1e-5)
    law = MultivariateNormal(torch.zeros(8, dtype=torch.float64), seen)
    away = (log_parameters - process.prior_mean) / process.prior_scale
    constant = 0.5 * 8 * math.log(2 * math.pi)
    found = float(process.log_posterior(log_parameters))
    assert found == pytest.approx(float(law.log_prob(standard)) + constant - 0.5 * float(away.square().sum()), rel=1e-5)


def test_it_learns_a_function_and_its_noise() -> None:
    random = torch.Generator().manual_seed(0)
    z = 4 * torch.rand(120, 1, generator=random, dtype=torch.float64) - 2
    y = 10 * torch.sin(2 * z[:, 0]) + torch.randn(120, generator=random, dtype=torch.float64)
    process = GaussianProcess(z, y).fit()
    assert float(process.noise) == pytest.approx(1.0, rel=0.25)  # 120 values tell a deviation to 6.5 %
    at = torch.linspace(-1.9, 1.9, 40, dtype=torch.float64)[:, None]
    mean, variance = process.predict(at)
    z_scores = (mean - 10 * torch.sin(2 * at[:, 0])) / variance.sqrt()
    assert z_scores.abs().max() < 4
    assert variance.sqrt().max() < 1


def test_a_normal_posterior() -> None:
    """A process of 80 values: within a deviation, and of a width within a factor of 1.5; three other seeds were."""
    posterior = QUICK.infer(ask())
    exact = SIMULATOR.posterior(OBSERVED)
    draws = posterior.sample((1000,), seed=0)
    assert ((draws.mean(0) - exact.mean).abs() < exact.stddev).all()
    assert ((draws.std(0) / exact.stddev).log().abs() < math.log(1.5)).all()
    assert len(draws.unique(dim=0)) > 900
    # the density is the one that was sampled: correlated with the exact one at its own draws
    value = posterior.potential(draws[:200])
    assert float(torch.stack((value, exact.log_prob(draws[:200]))).corrcoef()[0, 1]) > 0.7


def test_the_search_goes_where_the_discrepancy_is_small() -> None:
    simulator = GaussianLinear(2, noise_variance=0.01)
    simulator.prior = Independent(Uniform(-2 * torch.ones(2), 2 * torch.ones(2)), 1)
    search = Search(BOLFI(initial=10, batch=5), ask(60, simulator))
    theta = search.prior.back(search.phi)
    near = ((theta - OBSERVED).norm(dim=1) < 0.6).float()
    # a share of 0.07 of the square is as near: of 30, 2 with a deviation of 1.4
    assert float(near[:10].mean()) <= 0.3
    assert float(near[-30:].mean()) > 0.25
    assert (theta.abs() <= 2).all()


def test_bounded_parameters_are_seen_as_they_are_and_others_unbounded() -> None:
    for law, natural in ((Uniform(-torch.ones(2), torch.ones(2)), True), (Exponential(torch.ones(2)), False)):
        simulator = GaussianLinear(2)
        simulator.prior = Independent(law, 1)
        prior = UnconstrainedPrior(simulator)
        phi = prior.to(simulator.sample_prior(500, 0))
        inputs = Inputs(prior, phi)
        assert inputs.natural.tolist() == [natural, natural]
        seen = inputs(phi)
        assert torch.allclose(seen.mean(0), torch.zeros(2, dtype=torch.float64), atol=1e-9)
        assert torch.allclose(seen.std(0), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize(("budget", "evaluations", "spent"), [(23, 500, 23), (100, 17, 17)])
def test_the_budget_is_exact(budget: int, evaluations: int, spent: int) -> None:
    simulator = Counting(2)
    posterior = BOLFI(evaluations=evaluations, batch=5).infer(ask(budget, simulator))
    assert simulator.simulated == posterior.simulations == posterior.figures["evaluations"] == spent
    assert any("were spent" in warning for warning in posterior.warnings) is (spent < budget)


def test_a_bank_begins_it() -> None:
    simulator = Counting(2)
    bank = simulate(SIMULATOR, 50, seed=1, progress=False)
    posterior = BOLFI(batch=5, initial=10).infer(ask(20, simulator, bank=bank))
    assert simulator.simulated == 10
    assert posterior.simulations == 20


def test_failures_turn_the_search_away() -> None:
    search = Search(BOLFI(batch=5, initial=20), ask(60, Broken(2), torch.tensor([-0.3, 0.0])))
    lost = ~torch.isfinite(search.discrepancies)
    assert search.failed == int(lost.sum()) > 0
    assert lost[-20:].double().mean() < 0.3 < lost[:20].double().mean()


def test_it_is_repeatable_saved_and_run_again_for_another_observation(tmp_path) -> None:
    method = BOLFI(batch=10, initial=20)
    posterior = method.infer(ask(40))
    draws = posterior.sample((50,), seed=3)
    assert torch.equal(method.infer(ask(40)).sample((50,), seed=3), draws)
    posterior.save(tmp_path / "p")
    assert torch.equal(ii.load_posterior(tmp_path / "p", SIMULATOR).sample((50,), seed=3), draws)
    other = torch.tensor([-0.5, 0.5])
    moved = posterior.sample((200,), x=other, seed=0)
    assert (moved.mean(0) * other.sign() > 0).all()
    assert posterior.simulations == 80
    with pytest.raises(ValueError, match="x: a BOLFI posterior has a density at the observation"):
        posterior.potential(draws, other)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BOLFI(evaluations=5), "evaluations: expected an int of at least 10"),
        (lambda: BOLFI(initial=2), "initial: expected an int of at least 5"),
        (lambda: BOLFI(batch=0), "batch: expected a positive int"),
        (lambda: BOLFI(epsilon=1.0), "epsilon: expected a number in"),
        (lambda: BOLFI(explore=0.0), "explore: expected a number in"),
        (lambda: BOLFI(step=-1.0), "step: expected a non-negative number"),
        (lambda: BOLFI(threshold=0.0), "threshold: expected a positive number"),
        (lambda: QUICK.infer(ask(5)), "budget: expected at least 10 simulations; got 5"),
    ],
)
def test_what_cannot_be_is_refused(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()
