"""NLE and its rounds: posteriors against closed forms, points that add, and parameters of any law."""

from dataclasses import replace

import pytest
import torch

import implicit_infer as ii
from implicit_infer.posteriors import EnsembleSampler, Question
from implicit_infer.posteriors.auto import Auto, log_scores
from implicit_infer.posteriors.density.fitting import DensitySettings
from implicit_infer.posteriors.density.training import Recipe
from implicit_infer.posteriors.nle import NLE
from implicit_infer.posteriors.npe import NPE
from implicit_infer.posteriors.sequential import SNLE, TSNPE, shares
from implicit_simulators.benchmark import SLCP, GaussianLinear, GaussianLinearUniform, TwoMoons

NORMAL = DensitySettings(flow="none", hidden=(16,), members=2, normal=Recipe(epochs=12, learning_rate=5e-3))
FAST = NLE(NORMAL, walkers=200, sampler=EnsembleSampler(warmup=10, thin=5))


def question(simulator, observed, budget=1000, seed=0):
    return Question(simulator, torch.as_tensor(observed), budget, seed=seed, progress=False)


@pytest.fixture(scope="module")
def gaussian():
    return FAST.infer(question(GaussianLinear(dim=2), [0.3, -0.2]))


def test_gaussian_posterior(gaussian):
    """Least squares on 1,000 pairs allows .045 sd in the mean and .03 in the spread; four times that is granted."""
    exact = gaussian.simulator.posterior(gaussian.observed)
    draws = gaussian.sample((2000,), seed=1)
    sd = exact.variance.sqrt()
    assert (((draws.mean(0) - exact.mean) / sd).abs() < 0.18).all()
    assert ((draws.std(0) / sd - 1).abs() < 0.12).all()
    assert not gaussian.figures["bent"]


def test_potential_follows_the_exact_density(gaussian):
    exact = gaussian.simulator.posterior(gaussian.observed)
    theta = exact.mean + exact.variance.sqrt() * torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    gap = gaussian.potential(theta) - exact.log_prob(theta)
    assert (gap - gap.mean()).abs().mean() < 0.3


def test_batches_of_observations_are_each_their_own(gaussian):
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    draws = gaussian.sample_batched((500,), x, seed=0)
    means = [gaussian.simulator.posterior(one).mean for one in x]
    for i, mean in enumerate(means):
        assert ((draws[:, i].mean(0) - mean).abs() < 0.15).all()


def test_points_add(gaussian):
    """The log-likelihood of a simulation is the sum over its points."""
    posterior = FAST.infer(question(SLCP(), [0.0] * 8, budget=200))
    x = torch.randn(8, generator=torch.Generator().manual_seed(0))
    maps, likelihood = posterior.likelihood.observables, posterior.likelihood
    u = maps.transform.inv(posterior.simulator.sample_prior(5, seed=1))[None]
    raw = maps.rows(x[None])
    parts = sum(likelihood(u, raw[None, i : i + 1]) for i in range(4))
    torch.testing.assert_close(likelihood(u, raw[None]), parts, rtol=1e-4, atol=1e-4)
    shuffled = x.reshape(4, 2)[[2, 0, 3, 1]].reshape(8)
    theta = posterior.simulator.sample_prior(5, seed=1)
    torch.testing.assert_close(posterior.potential(theta, x), posterior.potential(theta, shuffled))


def test_no_mass_outside_the_prior():
    simulator = GaussianLinearUniform()
    posterior = FAST.infer(question(simulator, [0.99, -0.99] * 5, budget=500))
    draws = posterior.sample((500,), seed=0)
    assert simulator.prior.support.check(draws).all()
    assert posterior.potential(torch.full((1, 10), 1.2)).item() == -float("inf")


def test_same_seed_same_draws():
    first, second = (
        FAST.infer(question(GaussianLinear(dim=2), [0.0, 0.0], 100)).sample((5,), seed=1) for _ in range(2)
    )
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_shares_add_up():
    assert sum(shares(1001, (0.4, 0.3, 0.3))) == 1001
    with pytest.raises(ValueError, match="rounds"):
        shares(100, (0.5, 0.0))
    with pytest.raises(ValueError, match="budget"):
        shares(3, (0.5, 0.5))


def test_rounds_of_a_likelihood_spend_the_budget_where_the_posterior_is():
    """A narrow likelihood: later rounds see it closely, and the posterior is exact to the same bounds as in one."""
    simulator = GaussianLinear(dim=2)
    posterior = SNLE(FAST, rounds=(0.5, 0.5)).infer(question(simulator, [0.3, -0.2], budget=1000))
    assert posterior.simulations == 1000
    assert posterior.figures["rounds"] == 2
    exact = simulator.posterior(posterior.observed)
    draws = posterior.sample((2000,), seed=1)
    assert (((draws.mean(0) - exact.mean) / exact.variance.sqrt()).abs() < 0.18).all()


def test_truncated_rounds_stay_in_the_region():
    simulator = TwoMoons()
    method = TSNPE(NPE(NORMAL), rounds=(0.5, 0.5))
    posterior = method.infer(question(simulator, [0.0, 0.0], budget=800))
    draws = posterior.sample((500,), seed=0)
    assert posterior.simulations == 800
    assert len(posterior.regions) == 1
    u = posterior.coordinates.transform.inv(draws)
    # float32 there and back moves draws at the region's edge
    assert posterior.regions[0].holds(u).float().mean() > 0.99
    assert posterior.figures["trained_on"] < 800


def test_the_log_scores_are_those_of_the_posterior():
    """Where both densities are right, both scores are the exact posterior's, up to what 500 simulations teach."""
    simulator = GaussianLinear(dim=2)
    runs = ii.simulate(simulator, 600, seed=0, progress=False)
    asked = question(simulator, [0.3, -0.2], budget=500)
    asked = replace(asked, bank=runs.first(500))
    density, likelihood = NPE(NORMAL).infer(asked), FAST.infer(asked)
    theta, x = runs.theta[500:], runs.x[500:]
    scores = log_scores(density, likelihood, theta, x, seed=0)
    exact = torch.stack([simulator.posterior(one).log_prob(at).sum() for one, at in zip(x, theta, strict=True)])
    for found in scores:
        # the worst of a hundred is in a far tail, where small errors of the variance are many nats
        assert float((found - exact).abs().median()) < 0.15


def test_auto_takes_the_lower_score_and_simulates_no_more_than_it_may():
    """Both are right where all is normal: whichever is taken, its posterior is."""
    simulated = []

    class Counted(GaussianLinear):
        def _simulate(self, theta, stream):
            simulated.append(len(theta))
            return super()._simulate(theta, stream)

    simulator = Counted(dim=2)
    method = Auto(NPE(NORMAL), FAST, rounds=(0.6, 0.4))
    posterior = method.infer(question(simulator, [0.3, -0.2], budget=800))
    assert posterior.simulations == sum(simulated) == 800
    scores = posterior.figures["scores"]
    assert set(scores) == {"npe", "nle"}
    sure = posterior.figures["advantage_of_npe"] > 2 * posterior.figures["standard_error"]
    assert posterior.figures["chosen"] == ("npe" if sure else "nle")
    exact = simulator.posterior(posterior.observed)
    draws = posterior.sample((2000,), seed=1)
    assert (((draws.mean(0) - exact.mean) / exact.variance.sqrt()).abs() < 0.2).all()
