"""Cox-Ingersoll-Ross against scipy's non-central chi-squared distribution, its moments and its long run."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from torch import Tensor

from implicit_simulators import CoxIngersollRoss
from implicit_simulators.cox_ingersoll_ross import _log_ive

THETAS = [(0.5, 0.06, 0.15), (2.0, 0.05, 0.6), (1.0, 0.2, 0.3)]  # the second reaches zero


def rows(theta: tuple[float, ...], n: int) -> Tensor:
    return torch.tensor([theta], dtype=torch.float64).repeat(n, 1)


def transition(theta: tuple[float, ...], x: float, time: float) -> Any:
    kappa, mu, sigma = theta
    c = 2 * kappa / (sigma**2 * (1 - math.exp(-kappa * time)))
    return stats.ncx2(4 * kappa * mu / sigma**2, 2 * c * math.exp(-kappa * time) * x, scale=1 / (2 * c))


@pytest.mark.parametrize("theta", THETAS)
def test_draws_have_the_exact_transition(theta: tuple[float, ...]) -> None:
    simulator = CoxIngersollRoss(n_obs=2, step=0.5, scheme="exact")
    x = simulator.simulate(rows(theta, 4000), seed=0)
    assert stats.kstest(x[:, 0].numpy(), transition(theta, 0.06, 0.5).cdf).pvalue > 1e-3
    # two steps are one of twice the length (Chapman and Kolmogorov)
    assert stats.kstest(x[:, 1].numpy(), transition(theta, 0.06, 1.0).cdf).pvalue > 1e-3
    mean, variance = simulator.conditional_moments(rows(theta, 1), 0.06, 1.0)
    law = transition(theta, 0.06, 1.0)
    assert mean.item() == pytest.approx(law.mean(), rel=1e-9)
    assert variance.item() == pytest.approx(law.var(), rel=1e-9)


@pytest.mark.parametrize("theta", THETAS)
def test_in_the_long_run_it_is_gamma(theta: tuple[float, ...]) -> None:
    simulator = CoxIngersollRoss(n_obs=2, step=30.0, scheme="exact")
    x = simulator.simulate(rows(theta, 4000), seed=0)[:, 0]
    law = simulator.stationary(rows(theta, 1))
    assert law.mean.item() == pytest.approx(theta[1])
    assert law.variance.item() == pytest.approx(theta[2] ** 2 * theta[1] / (2 * theta[0]))
    scipys = stats.gamma(law.concentration.item(), scale=1 / law.rate.item())
    assert stats.kstest(x.numpy(), scipys.cdf).pvalue > 1e-3


@pytest.mark.parametrize("theta", THETAS)
def test_the_likelihood_is_that_of_the_chi_squared_distribution(theta: tuple[float, ...]) -> None:
    simulator = CoxIngersollRoss(n_obs=3, step=0.25, scheme="exact")
    x = simulator.simulate(rows(theta, 20), seed=0)
    path = np.concatenate((np.full((20, 1), 0.06), x.numpy()), 1)
    expected = [
        sum(transition(theta, before, 0.25).logpdf(after) for before, after in itertools.pairwise(row)) for row in path
    ]
    np.testing.assert_allclose(simulator.log_likelihood(rows(theta, 20), x), expected, rtol=1e-6, atol=1e-6)


def test_the_likelihood_has_right_derivatives() -> None:
    simulator = CoxIngersollRoss(n_obs=3, step=0.25)
    theta = torch.tensor([*THETAS, (1.0, 0.1, 0.02)], dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[0.05, 0.07, 0.06]], dtype=torch.float64).repeat(4, 1).requires_grad_()
    assert torch.autograd.gradcheck(simulator.log_likelihood, (theta, x))
    small = torch.tensor([[1e-12, 1e-3, 1e-9]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda t: simulator.log_likelihood(t, small), theta[1:2].detach().requires_grad_())


def test_the_score_has_mean_zero() -> None:
    n = 3000
    simulator = CoxIngersollRoss(n_obs=3, step=0.5, scheme="exact")
    theta = rows(THETAS[0], n).requires_grad_()
    x = simulator.simulate(theta.detach(), seed=0)
    (score,) = torch.autograd.grad(simulator.log_likelihood(theta, x).sum(), theta)
    assert (score.mean(0).abs() < 5 * score.std(0) / n**0.5).all()


def test_the_likelihood_integrates_to_one() -> None:
    simulator = CoxIngersollRoss(n_obs=2, step=0.25)
    theta = rows((0.5, 0.06, 0.15), 1)

    def density(y: float) -> float:
        return math.exp(simulator.log_likelihood(theta, torch.tensor([0.07, y], dtype=torch.float64)).item())

    first = transition((0.5, 0.06, 0.15), 0.06, 0.25).pdf(0.07)
    assert integrate.quad(density, 1e-9, 0.4, epsabs=1e-6)[0] == pytest.approx(first, rel=1e-6)


def test_the_likelihood_near_zero_is_the_limit() -> None:
    """Where the Bessel function's argument is tiny its series takes over, without a step; after zero comes a gamma."""
    simulator = CoxIngersollRoss(n_obs=2, step=0.25)
    theta = (2.0, 0.05, 0.6)
    tiny = torch.tensor([[1e-12, 0.05], [1e-10, 0.05], [1e-8, 0.05], [1e-6, 0.05]], dtype=torch.float64)
    ours = simulator.log_likelihood(rows(theta, 4), tiny)
    scipys = [transition(theta, 0.06, 0.25).logpdf(a) + transition(theta, a, 0.25).logpdf(b) for a, b in tiny.tolist()]
    np.testing.assert_allclose(ours, scipys, rtol=1e-6)
    first = simulator.log_likelihood(rows(THETAS[0], 1), torch.tensor([0.0, 0.05]))
    assert torch.isneginf(first).all()  # that rate is never zero
    assert torch.isneginf(simulator.log_likelihood(rows(THETAS[0], 1), torch.tensor([-0.01, 0.05]))).all()


def test_bessel_functions_that_underflow_are_expanded() -> None:
    order, z = np.array([60.0, 200.0, 400.0]), np.array([50.0, 150.0, 300.0])
    exact = np.log(special.ive(order, z))
    assert np.isfinite(exact).all()
    np.testing.assert_allclose(_log_ive(order, z), exact, rtol=1e-12)
    # the power series, whose terms fall fast at a small argument
    order, z = np.array([300.0, 500.0]), np.array([5.0, 20.0])
    assert (special.ive(order, z) == 0).all()
    k = np.arange(80)[:, None]
    terms = (order + 2 * k) * np.log(z / 2) - special.gammaln(k + 1) - special.gammaln(order + k + 1)
    np.testing.assert_allclose(_log_ive(order, z), special.logsumexp(terms, axis=0) - z, rtol=1e-9)


@pytest.mark.parametrize("theta", [THETAS[0], THETAS[2]])
def test_euler_tends_to_the_exact_law(theta: tuple[float, ...]) -> None:
    n = 10_000
    x = CoxIngersollRoss(n_obs=2, step=0.5, substeps=50).simulate(rows(theta, n), seed=0)
    assert stats.kstest(x[:, 1].numpy(), transition(theta, 0.06, 1.0).cdf).pvalue > 1e-3
    mean, variance = CoxIngersollRoss.conditional_moments(rows(theta, 1), 0.06, 1.0)
    # Euler's mean is exact but for a factor (1 - kappa h)^m in place of exp(-kappa t): one percent of the distance
    assert abs(x[:, 1].mean() - mean) < 5 * (variance / n) ** 0.5 + 0.01 * abs(0.06 - theta[1])


def test_euler_never_shows_a_negative_rate() -> None:
    x = CoxIngersollRoss(n_obs=50).simulate(rows((0.3, 0.02, 0.5), 200), seed=0)
    assert (x >= 0).all()
    assert (x == 0).any()


def test_the_start_of_the_path_sees_finite_gradients_at_zero() -> None:
    theta = rows((0.3, 0.02, 0.5), 50).requires_grad_()
    x = CoxIngersollRoss(n_obs=20).simulate(theta, seed=0)
    (gradient,) = torch.autograd.grad(x.sum(), theta)
    assert torch.isfinite(gradient).all()


def test_summaries_see_the_volatility() -> None:
    """The mean squared increment of the root is about sigma^2 step / 4 wherever the rate is."""
    simulator = CoxIngersollRoss(n_obs=400, step=1 / 252, scheme="exact")
    s = simulator.summarize(simulator.simulate(rows((0.5, 0.06, 0.15), 20), seed=0))
    assert s.shape == (20, 5)
    assert s[:, 4].mean().exp().item() == pytest.approx(0.15**2 / 252 / 4, rel=0.05)


def test_outside_of_the_range_nothing_is_drawn_and_nothing_likely() -> None:
    bad = torch.tensor([[-1.0, 0.1, 0.1], [1.0, 0.0, 0.1], [1.0, 0.1, -0.1], [1.0, 0.1, 0.1]])
    for scheme in ("exact", "euler"):
        simulator = CoxIngersollRoss(n_obs=3, scheme=scheme)
        assert simulator.simulate(bad, seed=0).isnan().all(1).tolist() == [True, True, True, False]
        assert torch.isinf(simulator.log_likelihood(bad, torch.full((3,), 0.06))).tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scheme": "milstein"}, "scheme: expected one of euler, exact; got 'milstein'"),
        ({"n_obs": 1}, "n_obs: expected an int of at least 2; got 1"),
        ({"substeps": 0}, "substeps: expected an int of at least 1; got 0"),
        ({"step": -1.0}, "step: expected a positive number; got -1.0"),
        ({"initial": 0.0}, "initial: expected a positive number; got 0.0"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CoxIngersollRoss(**settings)
