"""g-and-k against its definition, the normal distribution inside it, and its own inverse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import Tensor

from implicit_simulators import GAndK, g_and_k
from implicit_simulators.observations.exchange_rates import RETURNS

THETAS = [(3.0, 1.0, 2.0, 0.5), (0.0, 2.0, -5.0, 0.0), (1.0, 0.5, 0.0, 10.0), (5.0, 9.0, 9.0, 3.0)]
CORNERS = st.tuples(st.floats(-5, 5), st.floats(0.05, 10), st.floats(-10, 10), st.floats(0, 10))


def double(theta: Any) -> Tensor:
    return torch.tensor([theta], dtype=torch.float64)


@given(CORNERS, st.floats(-8, 8))
def test_the_quantile_function_is_that_of_the_papers(theta: tuple[float, ...], z: float) -> None:
    a, b, g, k = theta
    skew = 1 + 0.8 * (1 - math.exp(-g * z)) / (1 + math.exp(-g * z))
    expected = a + b * skew * (1 + z * z) ** k * z
    ours = GAndK().quantile(double(theta), torch.tensor([[z]], dtype=torch.float64))
    assert math.isclose(ours.item(), expected, rel_tol=1e-11, abs_tol=1e-11)


@given(CORNERS, st.floats(-8, 8))
def test_the_normal_score_inverts_the_quantile_function(theta: tuple[float, ...], z: float) -> None:
    simulator = GAndK()
    x = simulator.quantile(double(theta), torch.tensor([[z]], dtype=torch.float64))
    found = simulator.normal_score(double(theta), x)
    back = simulator.quantile(double(theta), found)
    # in x, whose last digits are all that is known of z near the location
    assert math.isclose(back.item(), x.item(), rel_tol=1e-12, abs_tol=1e-14)
    assert math.isclose(found.item(), z, rel_tol=1e-9, abs_tol=1e-11 * (1 + abs(theta[0]) / theta[1]))


def test_without_skewness_and_tails_it_is_normal() -> None:
    x = torch.linspace(-9, 15, 50, dtype=torch.float64)
    simulator = GAndK(n_obs=50)
    normal = torch.distributions.Normal(torch.tensor(3.0, dtype=torch.float64), 2.0)
    theta = double((3.0, 2.0, 0.0, 0.0))
    torch.testing.assert_close(simulator.log_density(theta, x)[0], normal.log_prob(x))
    torch.testing.assert_close(simulator.cdf(theta, x)[0], normal.cdf(x))
    torch.testing.assert_close(simulator.log_likelihood(theta, x)[0], normal.log_prob(x).sum())


@pytest.mark.parametrize("theta", THETAS)
def test_draws_have_the_inverted_distribution(theta: tuple[float, ...]) -> None:
    simulator = GAndK(n_obs=5000)
    x = simulator.simulate(double(theta), seed=0)
    uniform = simulator.cdf(double(theta), x)[0]
    assert stats.kstest(uniform.numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("theta", THETAS)
def test_the_density_is_that_of_the_distribution_function(theta: tuple[float, ...]) -> None:
    simulator = GAndK()
    t = double(theta)
    z = torch.linspace(-4, 4, 41, dtype=torch.float64)[None]
    x = simulator.quantile(t, z).requires_grad_()
    (slope,) = torch.autograd.grad(simulator.cdf(t, x).sum(), x)
    torch.testing.assert_close(slope.log(), simulator.log_density(t, x).detach(), rtol=1e-9, atol=1e-9)
    # the same without autograd, as integrals over many pieces
    scores = torch.linspace(-3, 3, 401, dtype=torch.float64)
    edges = simulator.quantile(t, scores[None])[0]
    nodes, weights = (torch.tensor(part) for part in np.polynomial.legendre.leggauss(20))
    half, middle = edges.diff() / 2, (edges[1:] + edges[:-1]) / 2
    points = (middle[:, None] + half[:, None] * nodes).reshape(1, -1)
    mass = (simulator.log_density(t, points).exp().reshape(400, 20) @ weights) * half
    torch.testing.assert_close(mass, torch.special.ndtr(scores).diff(), rtol=1e-6, atol=1e-9)


def test_rows_are_independent_of_how_they_are_sliced(monkeypatch: pytest.MonkeyPatch) -> None:
    simulator = GAndK(n_obs=5)
    theta = torch.tensor(THETAS)
    x = simulator.simulate(theta, seed=0)
    whole, same = simulator.log_likelihood(theta, x), simulator.log_likelihood(theta, x[0])
    monkeypatch.setattr(g_and_k, "SLICE", 15)
    torch.testing.assert_close(simulator.log_likelihood(theta, x), whole)
    torch.testing.assert_close(simulator.log_likelihood(theta, x[0]), same)
    assert simulator.log_likelihood(theta[:0], x[:0]).shape == (0,)


def test_the_density_integrates_to_one() -> None:
    simulator = GAndK()
    theta = double(simulator.reference_theta)

    def density(x: float) -> float:
        return math.exp(simulator.log_density(theta, torch.tensor([x], dtype=torch.float64)).item())

    low, high = simulator.quantile(theta, torch.tensor([[-7.0, 7.0]], dtype=torch.float64))[0].tolist()
    total, _ = integrate.quad(density, low, high, points=[2.0, 3.0, 4.0], limit=200, epsabs=1e-9)
    assert math.isclose(total, 1, abs_tol=1e-8)


def test_the_likelihood_has_two_right_derivatives_in_both_arguments() -> None:
    simulator = GAndK(n_obs=3)
    theta = torch.cat([double(t) for t in ((3.0, 1.0, 2.0, 0.5), (1.0, 2.0, -1.0, 0.2))]).requires_grad_()
    x = torch.tensor([[2.0, 3.5, 9.0], [-3.0, 0.9, 4.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(simulator.log_likelihood, (theta, x))
    assert torch.autograd.gradgradcheck(simulator.log_likelihood, (theta, x))


def test_the_score_has_mean_zero_and_the_variance_of_the_curvature() -> None:
    """Bartlett's first two identities, which an inexact density or simulator would break."""
    simulator = GAndK(n_obs=1)
    n = 20_000
    theta = double(simulator.reference_theta).expand(n, 4).clone().requires_grad_()
    x = simulator.simulate(theta.detach(), seed=0)
    (score,) = torch.autograd.grad(simulator.log_likelihood(theta, x).sum(), theta, create_graph=True)
    curvature = torch.stack([torch.autograd.grad(score[:, i].sum(), theta, retain_graph=True)[0] for i in range(4)], 1)
    score = score.detach()
    assert (score.mean(0).abs() < 5 * score.std(0) / n**0.5).all()  # standard errors
    identity = score[:, :, None] * score[:, None, :] + curvature
    assert (identity.mean(0).abs() < 5 * identity.std(0) / n**0.5).all()


def test_outside_of_the_range_nothing_is_drawn_and_nothing_likely() -> None:
    theta = torch.tensor([[0.0, -1.0, 0.0, 0.0], [0.0, 1.0, 0.0, -0.1], [0.0, 1.0, 0.0, 0.1]], requires_grad=True)
    simulator = GAndK(n_obs=3)
    x = simulator.simulate(theta, seed=0)
    assert x.isnan().all(1).tolist() == [True, True, False]
    log_likelihood = simulator.log_likelihood(theta, x[2].detach())
    assert torch.isinf(log_likelihood).tolist() == [True, True, False]
    (gradient,) = torch.autograd.grad(log_likelihood[2], theta)
    assert torch.isfinite(gradient).all()


def test_robust_summaries_estimate_their_population_values() -> None:
    simulator = GAndK(n_obs=200_000)
    theta = double((3.0, 1.0, 2.0, 0.5))
    x = simulator.simulate(theta, seed=0)
    z = torch.special.ndtri(torch.arange(1, 8, dtype=torch.float64) / 8)
    e1, l1, e3, l2, e5, l3, e7 = simulator.quantile(theta, z[None])[0].tolist()
    expected = [l2, l3 - l1, (l3 + l1 - 2 * l2) / (l3 - l1), (e7 - e5 + e3 - e1) / (l3 - l1)]
    torch.testing.assert_close(simulator.summarize(x)[0], torch.tensor(expected).double(), rtol=0.03, atol=0.01)


def test_the_other_summaries_are_order_statistics() -> None:
    x = torch.tensor([[4.0, 8.0, 0.0, 7.0, 1.0, 6.0, 2.0, 5.0, 3.0]])
    assert GAndK(n_obs=9, summaries="octiles").summarize(x).tolist() == [[1, 2, 3, 4, 5, 6, 7]]
    assert GAndK(n_obs=9, summaries="order").summarize(x).tolist() == [list(range(9))]


@pytest.mark.parametrize("name", RETURNS)
def test_returns_fit_the_simulator_made_for_them(name: str) -> None:
    simulator = GAndK.for_observation(name)
    x = simulator.observation(name)
    assert x.shape == simulator.event_shape == simulator.simulate(simulator.sample_prior(1, seed=0), seed=0)[0].shape
    assert simulator.observations == RETURNS
    # median and quartile range of the data lie well inside of what the prior draws
    drawn = simulator.summarize(simulator.simulate(simulator.sample_prior(500, seed=0), seed=1))
    share = (drawn < simulator.summarize(x[None])).float().mean(0)
    assert ((share > 0.02) & (share < 0.98)).all()


def test_the_canadian_dollar_has_the_tails_of_the_literature() -> None:
    """Prangle's estimates have k about a third and no skewness; the best normal fit is far behind."""
    simulator = GAndK.for_observation("exchange-rates-cd")
    x = simulator.observation("exchange-rates-cd").double()
    fit = simulator.log_likelihood(double((-0.0085, 0.1665, 0.0203, 0.3442)), x)
    normal = simulator.log_likelihood(double((x.mean().item(), x.std().item(), 0.0, 0.0)), x)
    assert fit - normal > 100


def test_another_number_of_draws_has_no_observations() -> None:
    with pytest.raises(ValueError, match=r"observation: exchange-rates-cd has 1866 returns; .* n_obs=1000"):
        GAndK().observation("exchange-rates-cd")
    with pytest.raises(ValueError, match="observation: g-and-k ships none; got 'gold'"):
        GAndK().observation("gold")
    with pytest.raises(ValueError, match=r"name: expected one of exchange-rates-dm, .*; got 'gold'"):
        GAndK.for_observation("gold")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_obs": 0}, "n_obs: expected a positive int; got 0"),
        ({"n_obs": 1.5}, "n_obs: expected a positive int; got 1.5"),
        ({"prior": "flat"}, "prior: expected one of standard, returns; got 'flat'"),
        ({"summaries": "mean"}, "summaries: expected one of robust, octiles, order; got 'mean'"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GAndK(**settings)
