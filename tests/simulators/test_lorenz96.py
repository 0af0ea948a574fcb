"""Lorenz-96: the path and the statistics against plain loops, the symmetry of the circle, and SciPy without noise."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from implicit_simulators import Stream
from implicit_simulators.engines.noise import row_normal
from implicit_simulators.lorenz96 import INITIAL, Lorenz96

THETA = torch.tensor([[2.0, 0.8, 1.7, 0.4], [1.5, 0.1, 2.2, 0.9]], dtype=torch.float64)


def field(x, eta, theta_1, theta_2):
    count = len(x)
    return np.array(
        [
            -x[(k - 1) % count] * (x[(k - 2) % count] - x[(k + 1) % count])
            - x[k]
            + 10
            - (theta_1 + theta_2 * x[k])
            + eta[k]
            for k in range(count)
        ]
    )


def test_path_is_that_of_the_papers():
    simulator = Lorenz96(variables=5, duration=0.2)
    stream = Stream.of(7)
    ours = simulator._simulate(THETA, stream).numpy()
    noise = row_normal((2, 6, 5), stream.torch(), torch.float64).numpy()
    for row, (theta_1, theta_2, sigma, phi) in enumerate(THETA.tolist()):
        x, eta, h = np.array(INITIAL[:5]), np.zeros(5), 1 / 30
        for step in range(6):
            eta = phi * eta + sigma * (1 - phi**2) ** 0.5 * noise[row, step]
            k1 = h * field(x, eta, theta_1, theta_2)
            k2 = h * field(x + k1 / 2, eta, theta_1, theta_2)
            k3 = h * field(x + k2 / 2, eta, theta_1, theta_2)
            k4 = h * field(x + k3, eta, theta_1, theta_2)
            x = x + (k1 + 2 * k2 + 2 * k3 + k4) / 6
            np.testing.assert_allclose(ours[row, step], x, rtol=1e-10)


def test_without_noise_it_solves_the_equations():
    theta = THETA[:1].clone()
    theta[0, 2] = 0.0
    x = Lorenz96(variables=8, duration=0.5).simulate(theta, seed=0)[0, -1]
    start = INITIAL[:8]
    found = solve_ivp(lambda t, x: field(x, np.zeros(8), 2.0, 0.8), (0, 0.5), start, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(x, found.y[:, -1], atol=2e-3)


def test_the_circle_has_no_beginning():
    """Turning the start turns the result: the public code, whose last variable sees the wrong neighbour, fails this."""
    theta = THETA[:1].clone()
    theta[0, 2] = 0.0
    start = np.array(INITIAL)
    plain, turned = (Lorenz96(duration=1.0, initial=i).simulate(theta, seed=0)[0] for i in (start, np.roll(start, 7)))
    torch.testing.assert_close(plain.roll(7, 1), turned, rtol=0, atol=1e-9)


def test_noise_is_independent_around_the_circle():
    """A first short step: x moves by h eta, with variance h^2 sigma^2 (1 - phi^2), and neighbours are uncorrelated."""
    n = 4000
    simulator = Lorenz96(variables=6, duration=1 / 30)
    theta = THETA[:1].expand(n, -1)
    still = theta[:1].clone()
    still[0, 2] = 0.0
    moved = (simulator.simulate(theta, seed=2) - simulator.simulate(still, seed=2))[:, 0]
    covariance = torch.cov(moved.T) / (1.7**2 * (1 - 0.4**2) / 30**2)
    # the rest of the step damps and mixes by less than a fifth
    assert (covariance.diagonal() - 1).abs().max() < 0.3
    assert (covariance - covariance.diagonal().diag()).abs().max() < 0.35
    assert covariance.diagonal().mean() == pytest.approx(1.0, abs=0.15)


def covariance(a, b):
    return np.mean(a * b) - np.mean(a) * np.mean(b)


def test_summaries_are_hakkarainens():
    x = Lorenz96(duration=1.0).simulate(THETA, seed=1)
    ours = Lorenz96(duration=1.0).summarize(x)
    for row, path in zip(ours.numpy(), x.numpy(), strict=True):
        totals = np.zeros(6)
        for k in range(40):
            own, other = path[:, k], path[:, (k + 1) % 40]
            totals += [
                own.mean(),
                own.var(),
                covariance(own[1:], own[:-1]),
                covariance(own, other),
                covariance(own[1:], other[:-1]),
                covariance(other[1:], own[:-1]),
            ]
        np.testing.assert_allclose(row, totals / 40, rtol=1e-9)


def test_the_small_version():
    simulator = Lorenz96(variables=8, duration=1.5)
    x = simulator.simulate(simulator.sample_prior(200, seed=0), seed=0)
    assert x.shape == (200, 45, 8)
    assert torch.isfinite(x).all()
    assert simulator.settings() == {"variables": 8, "duration": 1.5, "initial": None}
    assert len(Lorenz96(variables=4, initial=[1.0, 2.0, 3.0, 4.0]).settings()["initial"]) == 4


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"variables": 3}, "variables: expected an int of at least 4"),
        ({"variables": 50}, "initial: expected a state for more than 40"),
        ({"duration": 0.01}, "duration: expected a positive multiple of 1/30"),
        ({"duration": 0.0}, "duration: expected a positive multiple"),
        ({"initial": [1.0]}, "initial: expected 40 finite numbers"),
    ],
)
def test_bad_settings_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        Lorenz96(**settings)
