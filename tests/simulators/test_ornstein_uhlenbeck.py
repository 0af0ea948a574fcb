"""Ornstein-Uhlenbeck against its normal law, under the exact transition and under Euler's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from implicit_simulators import OrnsteinUhlenbeck

THETA = (1.5, 0.3, 0.8)


def theta(rows: int = 1) -> Tensor:
    return torch.tensor([THETA], dtype=torch.float64).repeat(rows, 1)


def stationary_law(n: int, step: float) -> Any:
    kappa, mu, sigma = THETA
    times = step * np.arange(n)
    covariance = sigma**2 / (2 * kappa) * np.exp(-kappa * np.abs(times[:, None] - times))
    return stats.multivariate_normal(np.full(n, mu), covariance)


def test_the_stationary_likelihood_is_that_of_the_gaussian_process() -> None:
    simulator = OrnsteinUhlenbeck(n_obs=8, step=0.3)
    x = simulator.simulate(theta(5), seed=0)
    expected = stationary_law(8, 0.3).logpdf(x.numpy())
    np.testing.assert_allclose(simulator.log_likelihood(theta(5), x), expected, rtol=1e-9)


def test_a_fixed_start_is_a_condition() -> None:
    """p(x_1, ..., x_n) = p(x_1) p(x_2, ..., x_n | x_1)."""
    simulator = OrnsteinUhlenbeck(n_obs=6, step=0.3)
    x = simulator.simulate(theta(), seed=0)[0]
    rest = OrnsteinUhlenbeck(n_obs=5, step=0.3, initial=x[0].item())
    first = simulator.stationary(theta()).log_prob(x[0])
    whole = simulator.log_likelihood(theta(), x)
    torch.testing.assert_close(whole, first + rest.log_likelihood(theta(), x[1:]))


@pytest.mark.parametrize("scheme", ["exact", "euler"])
def test_draws_have_the_stationary_law(scheme: str) -> None:
    n = 40_000
    simulator = OrnsteinUhlenbeck(n_obs=4, step=0.3, scheme=scheme, substeps=30)
    x = simulator.simulate(theta(n), seed=0).numpy()
    law = stationary_law(4, 0.3)
    # whitened, they are independent standard normal; Euler's bias at 30 substeps is below the resolution
    white = np.linalg.solve(np.linalg.cholesky(law.cov_object.covariance), (x - law.mean).T)
    assert all(stats.kstest(row, "norm").pvalue > 1e-3 for row in white)
    products = white @ white.T / n
    assert (np.abs(products - np.eye(4)) < 5 * 2**0.5 / n**0.5).all()


def test_the_transition_is_exact_over_long_steps() -> None:
    kappa, mu, sigma = THETA
    x = OrnsteinUhlenbeck(n_obs=2, step=1.0, initial=2.0).simulate(theta(20_000), seed=0).numpy()
    spread = sigma * math.sqrt((1 - math.exp(-2 * kappa)) / (2 * kappa))
    assert stats.kstest(x[:, 0], stats.norm(mu + math.exp(-kappa) * (2 - mu), spread).cdf).pvalue > 1e-3
    assert stats.kstest((x[:, 1] - mu - math.exp(-kappa) * (x[:, 0] - mu)) / spread, "norm").pvalue > 1e-3


@pytest.mark.parametrize("initial", [None, 0.5])
@pytest.mark.parametrize("scheme", ["exact", "euler"])
def test_the_score_has_mean_zero(scheme: str, initial: float | None) -> None:
    """Each scheme has its own likelihood; three substeps make Euler's visibly different."""
    n = 20_000
    simulator = OrnsteinUhlenbeck(n_obs=5, step=0.3, initial=initial, scheme=scheme, substeps=3)
    parameters = theta(n).requires_grad_()
    x = simulator.simulate(parameters.detach(), seed=0)
    (score,) = torch.autograd.grad(simulator.log_likelihood(parameters, x).sum(), parameters)
    assert (score.mean(0).abs() < 5 * score.std(0) / n**0.5).all()


def test_the_likelihood_of_the_other_scheme_is_another() -> None:
    """What the test above could not see if the likelihood were always the exact one."""
    n = 20_000
    euler, exact = (OrnsteinUhlenbeck(n_obs=5, step=0.3, scheme=s, substeps=3) for s in ("euler", "exact"))
    parameters = theta(n).requires_grad_()
    x = euler.simulate(parameters.detach(), seed=0)
    (score,) = torch.autograd.grad(exact.log_likelihood(parameters, x).sum(), parameters)
    assert (score.mean(0).abs() > 5 * score.std(0) / n**0.5).any()


def test_the_likelihood_has_right_derivatives() -> None:
    for scheme in ("exact", "euler"):
        simulator = OrnsteinUhlenbeck(n_obs=4, step=0.3, scheme=scheme, substeps=2)
        parameters = theta().requires_grad_()
        x = simulator.simulate(theta(), seed=0).requires_grad_()
        assert torch.autograd.gradcheck(simulator.log_likelihood, (parameters, x))


def test_euler_transitions_tend_to_the_exact_one() -> None:
    exact = torch.stack(OrnsteinUhlenbeck(step=0.3).transition(theta()))
    errors = []
    for substeps in (4, 8):
        euler = torch.stack(OrnsteinUhlenbeck(step=0.3, scheme="euler", substeps=substeps).transition(theta()))
        errors.append((euler - exact).abs())
    assert ((errors[0] / errors[1] > 1.8) & (errors[0] / errors[1] < 2.3)).all()  # of first order


@pytest.mark.parametrize("initial", [None, 0.5])
def test_summaries_are_sufficient(initial: float | None) -> None:
    """The likelihood again, from the summaries alone."""
    n, step = 9, 0.3
    simulator = OrnsteinUhlenbeck(n_obs=n, step=step, initial=initial)
    x = simulator.simulate(theta(), seed=0)
    *first, last, mean, log_variance, log_increments = simulator.summarize(x)[0].tolist()
    kappa, mu, sigma = THETA
    # sums over the path, which begins with x_1 or with the fixed start
    total, square = n * mean, n * (math.exp(log_variance) + mean**2)
    if initial is not None:
        first, total, square = [initial], total + initial, square + initial**2
    steps = n - (initial is None)
    crossed = (2 * square - first[0] ** 2 - last**2 - steps * math.exp(log_increments)) / 2
    a, v = (part.item() for part in simulator.transition(theta()))
    # sum of (x_t - mu - a (x_{t-1} - mu))^2
    after2, before2 = square - first[0] ** 2, square - last**2
    after, before, c = total - first[0], total - last, mu * (1 - a)
    residual = after2 + a**2 * before2 + steps * c**2 - 2 * a * crossed - 2 * c * after + 2 * a * c * before
    log_likelihood = -0.5 * (residual / v + steps * math.log(2 * math.pi * v))
    if initial is None:
        log_likelihood += stats.norm(mu, sigma / math.sqrt(2 * kappa)).logpdf(first[0])
    assert simulator.log_likelihood(theta(), x).item() == pytest.approx(log_likelihood, rel=1e-8)


def test_outside_of_the_range_nothing_is_drawn_and_nothing_likely() -> None:
    bad = torch.tensor([[-1.0, 0.0, 1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 1.0]])
    for scheme in ("exact", "euler"):
        simulator = OrnsteinUhlenbeck(n_obs=3, scheme=scheme)
        assert simulator.simulate(bad, seed=0).isnan().all(1).tolist() == [True, True, False]
        assert torch.isinf(simulator.log_likelihood(bad, torch.zeros(3))).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scheme": "milstein"}, "scheme: expected one of exact, euler; got 'milstein'"),
        ({"n_obs": 1}, "n_obs: expected an int of at least 2; got 1"),
        ({"substeps": 0}, "substeps: expected an int of at least 1; got 0"),
        ({"step": 0.0}, "step: expected a positive number; got 0.0"),
        ({"initial": math.inf}, "initial: expected a finite number or None; got inf"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OrnsteinUhlenbeck(**settings)
