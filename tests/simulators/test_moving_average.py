"""MA(2) against its covariance, the normal density of that covariance, and the roots of its polynomial."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy import linalg, stats

from implicit_simulators import MovingAverage, Stream, moving_average, unconstrained
from implicit_simulators.moving_average import UniformTriangle

PAIRS = st.tuples(st.floats(-3, 3), st.floats(-2, 2))


def covariance(theta: tuple[float, float], n: int) -> np.ndarray:
    first, second = theta
    column = np.zeros(n)
    column[:3] = 1 + first**2 + second**2, first * (1 + second), second
    return linalg.toeplitz(column)


@pytest.fixture(params=["whole", "along"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to the likelihood."""
    monkeypatch.setattr(moving_average, "WHOLE", {"whole": 10**9, "along": 0}[request.param])


@pytest.mark.usefixtures("way")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PAIRS, st.integers(0, 10**6))
def test_the_likelihood_is_that_of_the_normal_distribution(theta: tuple[float, float], seed: int) -> None:
    simulator = MovingAverage(n_obs=12)
    x = torch.randn(12, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    expected = stats.multivariate_normal(np.zeros(12), covariance(theta, 12)).logpdf(x.numpy())
    ours = simulator.log_likelihood(torch.tensor([theta], dtype=torch.float64), x)
    assert ours.item() == pytest.approx(expected, rel=1e-8)


@pytest.mark.usefixtures("way")
def test_the_likelihood_has_right_derivatives() -> None:
    simulator = MovingAverage(n_obs=5)
    theta = torch.tensor([[0.6, 0.2], [-1.0, 0.5]], dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(simulator.log_likelihood, (theta, x))


@pytest.mark.usefixtures("way")
def test_the_score_has_mean_zero() -> None:
    simulator = MovingAverage(n_obs=20)
    n = 5000
    theta = torch.tensor([[0.6, 0.2]], dtype=torch.float64).repeat(n, 1).requires_grad_()
    x = simulator.simulate(theta.detach(), seed=0)
    (score,) = torch.autograd.grad(simulator.log_likelihood(theta, x).sum(), theta)
    assert (score.mean(0).abs() < 5 * score.std(0) / n**0.5).all()


@pytest.mark.parametrize("theta", [(0.6, 0.2), (-1.5, 0.8), (0.0, -0.9)])
def test_draws_have_the_covariance(theta: tuple[float, float]) -> None:
    n = 50_000
    x = MovingAverage(n_obs=6).simulate(torch.tensor([theta], dtype=torch.float64).repeat(n, 1), seed=0)
    expected = torch.tensor(covariance(theta, 6))
    products = x[:, :, None] * x[:, None, :]
    assert ((products.mean(0) - expected).abs() < 5 * products.std(0) / n**0.5).all()
    assert (x.mean(0).abs() < 5 * x.std(0) / n**0.5).all()


def test_summaries_estimate_the_autocovariances() -> None:
    simulator, n = MovingAverage(), 5000
    theta = torch.tensor([simulator.reference_theta]).repeat(n, 1)
    s = simulator.summarize(simulator.simulate(theta, seed=0))
    expected = simulator.autocovariance(theta)[0, 1:] * torch.tensor([0.99, 0.98])  # the terms there are, by n
    assert ((s.mean(0) - expected).abs() < 5 * s.std(0) / n**0.5).all()


@given(PAIRS)
def test_the_triangle_is_where_no_root_is_inside_of_the_unit_circle(theta: tuple[float, float]) -> None:
    first, second = theta
    assume(abs(second) > 1e-9)  # or there is one root only, and another far away
    smallest = np.abs(np.roots([second, first, 1.0])).min(initial=math.inf)
    assume(abs(smallest - 1) > 1e-6)
    support = UniformTriangle().support
    assert bool(support.check(torch.tensor(theta, dtype=torch.float64))) == bool(smallest > 1)


def test_the_prior_is_uniform_over_the_triangle() -> None:
    assert isinstance(MovingAverage().prior, UniformTriangle)
    prior = UniformTriangle()
    with Stream.of(0).forked():
        theta = prior.sample((40_000,))
    error = (prior.variance / len(theta)).sqrt()
    assert ((theta.mean(0) - prior.mean).abs() < 5 * error).all()
    torch.testing.assert_close(theta.var(0), prior.variance, rtol=0.03, atol=0)
    # the part of the triangle above a line, and beside it, by area
    for part, area in (((theta[:, 1] < 0), 1.0), ((theta[:, 0] > 1), 0.5), ((theta[:, 0] > theta[:, 1]), 1.75)):
        expected = area / 4
        assert abs(part.float().mean() - expected) < 5 * (expected * (1 - expected) / len(theta)) ** 0.5
    assert torch.allclose(prior.log_prob(theta), torch.tensor(-math.log(4)))
    outside = torch.tensor([[0.0, 1.1], [1.6, 0.5], [-1.6, 0.5], [0.0, -1.1]])
    assert torch.isneginf(prior.log_prob(outside)).all()


@given(st.integers(0, 10**6))
def test_the_plane_maps_onto_the_triangle_and_back(seed: int) -> None:
    prior = UniformTriangle()
    transform = unconstrained(prior)
    z = 3 * torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    theta = transform(z)
    assert prior.support.check(theta).all()
    torch.testing.assert_close(transform.inv(theta), z, rtol=1e-6, atol=1e-6)
    jacobian = torch.autograd.functional.jacobian(lambda z: transform(z).sum(0), z).transpose(0, 1)
    torch.testing.assert_close(
        transform.log_abs_det_jacobian(z, theta), torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-7, atol=1e-7
    )


def test_the_corners_have_finite_images() -> None:
    transform = unconstrained(MovingAverage().prior)
    corners = torch.tensor([[-2.0, 1.0], [2.0, 1.0], [0.0, -1.0]])
    assert torch.isfinite(transform.inv(corners)).all()
    assert UniformTriangle().support.check(transform(transform.inv(corners))).all()


@pytest.mark.parametrize("n_obs", [2, 10.5])
def test_bad_settings_are_refused(n_obs: float) -> None:
    with pytest.raises(ValueError, match=f"n_obs: expected an int of at least 3; got {n_obs}"):
        MovingAverage(n_obs)
