"""The maps of neural posteriors are inverse to one another, and their Jacobians are what autograd says."""

import pytest
import torch

from implicit_infer.posteriors.coordinates import Coordinates
from implicit_simulators import LotkaVolterra
from implicit_simulators.benchmark import GaussianLinear, TwoMoons

SIMULATORS = {"gaussian-linear": GaussianLinear, "two-moons": TwoMoons, "lotka-volterra": LotkaVolterra}


@pytest.fixture(params=list(SIMULATORS.values()), ids=list(SIMULATORS))
def fitted(request):
    simulator = request.param()
    theta = simulator.sample_prior(500, seed=0)
    x = simulator.simulate(theta, seed=0)
    return simulator, Coordinates(simulator, theta, x), theta, x


def test_free_and_bound_are_inverse(fitted):
    _, coordinates, theta, x = fitted
    s = coordinates.summaries(x)
    u = coordinates.transform.inv(theta)
    torch.testing.assert_close(coordinates.bound(coordinates.free(u, s), s), u, rtol=1e-3, atol=1e-3)


def test_residuals_are_uncorrelated_with_unit_variance(fitted):
    _, coordinates, theta, x = fitted
    v = coordinates.free(coordinates.transform.inv(theta), coordinates.summaries(x))
    torch.testing.assert_close(v.T @ v / len(v), torch.eye(v.shape[1]), rtol=0, atol=1e-2)


def test_log_det_is_that_of_autograd(fitted):
    _, coordinates, theta, x = fitted
    row, s = theta[3], coordinates.summaries(x[3:4])
    jacobian = torch.autograd.functional.jacobian(
        lambda t: coordinates.free(coordinates.transform.inv(t[None]), s)[0], row
    )
    expected = torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(coordinates.log_det(row[None])[0], expected, rtol=1e-3, atol=1e-3)


def test_any_real_vector_lands_inside_the_prior(fitted):
    simulator, coordinates, _, _ = fitted
    u = torch.randn(200, simulator.dim, generator=torch.Generator().manual_seed(1)) * 2
    assert simulator.prior.support.check(coordinates.transform(u)).all()


def test_log_normal_is_the_regressions_density(fitted):
    _, coordinates, theta, x = fitted
    s, u = coordinates.summaries(x), coordinates.transform.inv(theta)
    covariance = coordinates.spread @ coordinates.spread.T
    mean = s @ coordinates.slope.T + coordinates.intercept
    expected = torch.distributions.MultivariateNormal(mean, covariance).log_prob(u)
    torch.testing.assert_close(coordinates.log_normal(u, s), expected, rtol=1e-3, atol=1e-2)


def test_regression_finds_the_gaussian_posterior():
    """n = 20,000: slope 1/2 and residual variance 1/20, each within 5 standard errors of least squares."""
    simulator = GaussianLinear(dim=2)
    n = 20_000
    theta = simulator.sample_prior(n, seed=3)
    x = simulator.simulate(theta, seed=3)
    coordinates = Coordinates(simulator, theta, x)
    slope = coordinates.slope / coordinates.standardise.scale
    se = (0.05 / (0.2 * n)) ** 0.5
    torch.testing.assert_close(slope, 0.5 * torch.eye(2), rtol=0, atol=5 * se)
    variance = (coordinates.spread @ coordinates.spread.T).diagonal()
    torch.testing.assert_close(variance, torch.full((2,), 0.05), rtol=5 * (2 / n) ** 0.5, atol=0)


def test_heavy_tails_are_squashed():
    simulator = GaussianLinear(dim=2)
    theta = simulator.sample_prior(1000, seed=0)
    x = simulator.simulate(theta, seed=0)
    x[0] = 1e6
    coordinates = Coordinates(simulator, theta, x)
    assert coordinates.standardise.squash
    assert coordinates.summaries(x).abs().max() < 25


def test_too_few_simulations_are_refused():
    simulator = GaussianLinear(dim=2)
    with pytest.raises(ValueError, match="at least 2 simulations"):
        Coordinates(simulator, torch.zeros(1, 2), torch.zeros(1, 2))


@pytest.mark.parametrize("heavy", [False, True])
def test_chunks_give_the_coordinates_of_the_whole(heavy):
    simulator = GaussianLinear(dim=3)
    theta = simulator.sample_prior(2000, 0)
    x = simulator.simulate(theta, seed=1) + 100.0
    if heavy:
        x[7, 0] *= 1e4
    whole = Coordinates(simulator, theta, x)
    parts = Coordinates.of_chunks(simulator, lambda: zip(theta.split(300), x.split(300), strict=True))
    assert whole.standardise.squash == parts.standardise.squash == heavy
    for name, value in whole.state_dict().items():
        assert torch.allclose(parts.state_dict()[name], value, rtol=1e-4, atol=1e-5), name
    assert torch.allclose(whole.explained, parts.explained, atol=1e-6)
