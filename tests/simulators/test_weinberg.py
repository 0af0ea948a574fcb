"""Weinberg: the density against quadrature, the cosines against the density, and their derivatives."""

from functools import cache

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.integrate import quad

from implicit_simulators.weinberg import Weinberg

THETA = torch.tensor([[42.0, 0.9], [45.0, 1.0], [49.0, 0.6], [50.0, 1.5], [40.0, 1.5]], dtype=torch.float64)
"""Backward, even, forward; and two whose parabola is negative at one end."""


@cache
def density(row):
    energy, fermi = THETA[row].tolist()
    a = 2 * np.tanh((2 * energy - 90) / 90 * 10) * fermi

    def height(c):
        return max(0.0, 1 + c**2 + a * c)

    # in pieces, so that the corner where the density starts is found
    mass = sum(quad(height, low, low + 0.05)[0] for low in np.arange(-1, 0.999, 0.05))
    return lambda c: height(c) / mass


def test_two_parabolas_are_negative_at_an_end():
    assert (Weinberg().asymmetry(THETA).abs() > 2).tolist() == [False, False, False, True, True]


@pytest.mark.parametrize("row", range(len(THETA)))
def test_likelihood_is_the_density(row):
    c = torch.linspace(-1, 1, 101, dtype=torch.float64)
    ours = Weinberg().log_likelihood(THETA[row : row + 1].expand(101, -1), c[:, None]).exp()
    np.testing.assert_allclose(ours, [density(row)(v) for v in c.tolist()], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("row", range(len(THETA)))
def test_cosines_have_the_density(row):
    n = 4000
    x = Weinberg().simulate(THETA[row : row + 1].float().expand(n, -1), seed=row)[:, 0]
    grid = np.linspace(-1, 1, 4001)
    heights = np.array([density(row)(c) for c in grid])
    cdf = np.concatenate(([0], np.cumsum((heights[1:] + heights[:-1]) / 2) * (grid[1] - grid[0])))
    assert scipy.stats.kstest(x.double().numpy(), lambda c: np.interp(c, grid, cdf)).pvalue > 1e-3


def test_mean_is_the_integral():
    simulator = Weinberg()
    mean = simulator.mean(THETA)
    for row in range(len(THETA)):
        first = sum(quad(lambda c, row=row: c * density(row)(c), low, low + 0.1)[0] for low in np.arange(-1, 0.95, 0.1))
        assert float(mean[row]) == pytest.approx(first, abs=1e-6)
    torch.testing.assert_close(mean[:3], simulator.asymmetry(THETA)[:3] / 4)


@pytest.mark.parametrize("row", range(len(THETA)))
def test_cosines_are_smooth_in_theta(row):
    """Also where the asymmetry changes its sign, and where the density starts inside of the interval."""
    simulator = Weinberg(events=20)
    theta = THETA[row : row + 1]
    slope = torch.autograd.functional.jacobian(lambda t: simulator.simulate(t, seed=1), theta)[0, :, 0]
    for j in range(2):
        step = torch.zeros_like(theta)
        step[0, j] = 1e-6
        ahead, behind = (simulator.simulate(theta + s * step, seed=1)[0] for s in (1, -1))
        torch.testing.assert_close(slope[:, j], (ahead - behind) / 2e-6, rtol=1e-5, atol=1e-7)


def test_simulations_do_not_depend_on_whether_a_gradient_is_wanted():
    simulator = Weinberg(events=50)
    theta = THETA.clone().requires_grad_()
    assert torch.equal(simulator.simulate(theta, seed=0).detach(), simulator.simulate(THETA, seed=0))


def test_impossible_cosines_have_no_likelihood():
    simulator = Weinberg(events=2)
    theta = THETA[3:4].clone().requires_grad_()
    impossible = simulator.log_likelihood(theta, torch.tensor([0.5, -0.9], dtype=torch.float64))
    assert impossible.item() == -torch.inf
    assert simulator.log_likelihood(theta, torch.tensor([0.5, 1.2])).item() == -torch.inf
    (slope,) = torch.autograd.grad(simulator.log_likelihood(theta, torch.tensor([0.5, 0.1])).sum(), theta)
    assert torch.isfinite(slope).all()


def test_many_events_tell_the_asymmetry():
    """The mean of the cosines is a / 4, within 5 standard errors."""
    x = Weinberg(events=10_000).simulate(THETA[:1], seed=0)[0]
    assert abs(x.mean() - Weinberg().asymmetry(THETA)[0] / 4) < 5 * x.std() / 100


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="events: expected a positive int; got 0"):
        Weinberg(events=0)
