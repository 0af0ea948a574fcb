"""Contrastive NRE: its loss at known ratios, and posteriors against closed forms."""

import math

import pytest
import torch

from implicit_infer.diagnose import marginal_wasserstein
from implicit_infer.posteriors import NRE, EnsembleSampler, Question
from implicit_infer.posteriors.nre import contrastive_loss
from implicit_simulators.benchmark import GaussianLinear, TwoMoons


def test_one_contrast_at_even_odds_is_the_binary_classifier():
    """K = 1, gamma = 1 is NRE-A: half of the two logistic losses."""
    generator = torch.Generator().manual_seed(0)
    joint, independent = torch.randn(50, generator=generator), torch.randn(50, 1, generator=generator)
    logistic = torch.nn.functional.softplus
    expected = (logistic(-joint).mean() + logistic(independent).mean()) / 2
    torch.testing.assert_close(contrastive_loss(joint, independent, gamma=1.0), expected)


def test_large_odds_are_the_multiclass_loss():
    """gamma to infinity is NRE-B: cross entropy of the softmax over K candidates."""
    generator = torch.Generator().manual_seed(1)
    joint, independent = torch.randn(50, generator=generator), torch.randn(50, 5, generator=generator)
    candidates = torch.cat((joint[:, None], independent[:, :4]), 1)
    expected = torch.nn.functional.cross_entropy(candidates, torch.zeros(50, dtype=torch.long))
    torch.testing.assert_close(contrastive_loss(joint, independent, gamma=1e8), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("contrasts", [1, 4])
@pytest.mark.parametrize("gamma", [0.5, 1.0, 10.0])
def test_loss_is_least_at_the_true_ratio(contrasts, gamma):
    """One-dimensional Gaussians: scaling or shifting the true log-ratio costs, by many standard errors."""
    n, sigma = 40_000, 0.5
    generator = torch.Generator().manual_seed(2)
    theta = torch.randn(n, contrasts + 1, generator=generator)
    x = theta[:, :1] + sigma * torch.randn(n, 1, generator=generator)

    def log_ratio(theta):
        variance = 1 + sigma**2
        likelihood = -0.5 * ((x - theta) / sigma) ** 2 - math.log(sigma)
        return likelihood + 0.5 * x**2 / variance + 0.5 * math.log(variance)

    h = log_ratio(theta)

    def loss(h):
        return contrastive_loss(h[:, 0], h[:, 1:], gamma).item()

    best = loss(h)
    assert all(loss(other) > best for other in (1.3 * h, 0.7 * h, h + 0.5, h - 0.5))


@pytest.mark.parametrize("value", [-100.0, 100.0])
def test_loss_and_gradient_are_finite_far_out(value):
    joint = torch.full((4,), -value, requires_grad=True)
    independent = torch.full((4, 3), value, requires_grad=True)
    contrastive_loss(joint, independent, 1.0).backward()
    assert torch.isfinite(joint.grad).all()
    assert torch.isfinite(independent.grad).all()
    if value > 0:  # wrong and sure of it: the gradient must be alive
        assert (joint.grad < -1e-3).all()


@pytest.mark.parametrize(
    ("n", "m", "epochs"), [(5_000, 1_000, 10), pytest.param(10_000, 2_000, 40, marks=pytest.mark.slow)]
)
def test_gaussian_linear_posterior(n, m, epochs):
    """From n simulations, m draws: mean and covariance of ten parameters within Monte Carlo error of the closed form.

    Least squares on n pairs, the best that n simulations allow in this model, has standard error
    sd sqrt((1 + |x'|^2) / n) in the posterior mean (|x'| the standardised observation) and 1/sqrt(n) of a variance in
    each covariance (sqrt(2/n) in the variances); m draws add sd / sqrt(m) and 1/sqrt(m) (sqrt(2/m)). The bound is 4.5
    of the combined standard errors, which 65 normal figures all keep with probability above 0.999.
    """
    simulator = GaussianLinear()
    observed = simulator.simulate(simulator.sample_prior(1, seed=20), seed=20)[0]
    method = NRE(epochs=epochs, sampler=EnsembleSampler(walkers=200, warmup=300, thin=100))
    posterior = method.infer(Question(simulator, observed, budget=n, seed=5, progress=False))
    draws = posterior.sample((m,), seed=6)
    exact = simulator.posterior(observed)
    sd = exact.variance.sqrt()
    standardised = (observed.square() / 0.2).sum()
    se_mean = ((1 + standardised) / n + 1 / m).sqrt()
    assert (((draws.mean(0) - exact.mean) / sd).abs() < 4.5 * se_mean).all()
    covariance = torch.cov(draws.T) / sd.outer(sd)
    se_covariance = (1 / n + 1 / m) ** 0.5 * (1 + (2**0.5 - 1) * torch.eye(10))
    assert ((covariance - torch.eye(10)).abs() < 4.5 * se_covariance).all()
    assert posterior.simulations == n


def test_two_moons_beats_the_prior_by_far():
    simulator = TwoMoons()
    observed = torch.zeros(2)
    posterior = NRE(epochs=20).infer(Question(simulator, observed, 2000, seed=0, progress=False))
    draws = posterior.sample((500,), seed=1)
    assert simulator.prior.support.check(draws).all()
    distance = marginal_wasserstein(draws, simulator.posterior(observed).sample((1000,)))
    assert distance.mean() < 0.6  # the prior is 1.28 away


def test_potential_is_a_density_up_to_a_constant():
    """On Gaussian linear with d = 2, potential differences follow the exact log density's to within 0.15 nats.

    Seeds 100 to 102 keep 0.04.
    """
    simulator = GaussianLinear(dim=2)
    observed = torch.tensor([0.2, -0.1])
    posterior = NRE(hidden=(32, 32), epochs=8).infer(Question(simulator, observed, 5000, seed=3, progress=False))
    exact = simulator.posterior(observed)
    theta = exact.sample((100,))
    gap = posterior.potential(theta) - exact.log_prob(theta)
    assert gap.std() < 0.15
    assert posterior.potential(theta[0]).shape == ()
    with pytest.raises(NotImplementedError, match="no normalised density"):
        posterior.log_prob(theta)


def test_same_seed_same_posterior():
    simulator = GaussianLinear(dim=2)
    question = Question(simulator, torch.zeros(2), 500, seed=3, progress=False)
    method = NRE(hidden=(16,), epochs=3)
    first, second = (method.infer(question).sample((10,), seed=1) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("rivals", ["prior", "regression"])
def test_either_kind_of_rivals_finds_the_posterior(rivals):
    """Gaussian linear, d = 2, 3,000 simulations: mean within 0.15 and spread within 15 % of the exact posterior's."""
    simulator = GaussianLinear(dim=2)
    observed = torch.tensor([0.4, -0.5])
    method = NRE(hidden=(32,), epochs=15, contrasts=8, rivals=rivals)
    draws = method.infer(Question(simulator, observed, 3000, seed=1, progress=False)).sample((2000,), seed=1)
    exact = simulator.posterior(observed)
    sd = exact.variance.sqrt()
    assert (((draws.mean(0) - exact.mean) / sd).abs() < 0.15).all()
    assert ((draws.std(0) / sd - 1).abs() < 0.15).all()


@pytest.mark.parametrize("setting", [{"contrasts": 0}, {"gamma": 0.0}, {"rivals": "nobody"}])
def test_bad_settings_are_refused(setting):
    with pytest.raises(ValueError, match=f"{next(iter(setting))}: expected"):
        NRE(**setting)
