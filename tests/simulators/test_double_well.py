"""Double well: the stationary law and the times of crossing against quadrature, and the paths against the law."""

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import ive

from implicit_simulators.double_well import DoubleWell


@settings(max_examples=25, deadline=None)
@given(st.floats(0.5, 2), st.floats(0.5, 1.5), st.floats(0.3, 1))
def test_stationary_density_integrates_to_one(alpha, gamma, sigma):
    """And its integral over the potential is Bessel's: Z = pi gamma / 2 exp(-s) (I_-1/4(s) + I_1/4(s))."""
    theta = torch.tensor([[alpha, gamma, sigma]], dtype=torch.float64)
    x = torch.linspace(-4, 4, 4001, dtype=torch.float64)
    density = DoubleWell().stationary_log_density(theta, x[None])[0].exp()
    assert float(density.sum() * 8 / 4000) == pytest.approx(1, abs=1e-9)
    s = alpha * gamma**4 / (4 * sigma**2)
    z = np.pi * gamma / 2 * (ive(-0.25, s) + ive(0.25, s))
    assert float(density[2000]) == pytest.approx(np.exp(-alpha * gamma**4 / (2 * sigma**2)) / z, rel=1e-9)


def test_paths_have_the_stationary_law_in_the_long_run():
    n = 3000
    simulator = DoubleWell(points=1, interval=15.0, substeps=1000)
    theta = torch.tensor([[1.0, 0.8, 0.9]])
    x = simulator.simulate(theta.expand(n, -1), seed=1)[:, 0].double().numpy()
    grid = np.linspace(-4, 4, 4001)
    density = simulator.stationary_log_density(theta.double(), torch.tensor(grid)[None])[0].exp().numpy()
    cdf = np.cumsum(density) * (grid[1] - grid[0])
    assert scipy.stats.kstest(x, lambda v: np.interp(v, grid, cdf)).pvalue > 1e-3


def test_mean_passage_time_is_the_double_integral():
    theta = torch.tensor([[1.0, 1.0, 0.5], [2.0, 0.7, 0.9], [0.5, 1.5, 0.6]], dtype=torch.float64)
    ours = DoubleWell().mean_passage_time(theta)
    for time, (alpha, gamma, sigma) in zip(ours.tolist(), theta.tolist(), strict=True):

        def weight(x, sign, alpha=alpha, gamma=gamma, sigma=sigma):
            return np.exp(sign * 2 * alpha / 4 * (x**2 - gamma**2) ** 2 / sigma**2)

        def inner(y, weight=weight, gamma=gamma):
            return weight(y, 1) * quad(weight, -gamma - 4, y, args=(-1,), epsabs=1e-13)[0]

        assert time == pytest.approx(2 / sigma**2 * quad(inner, -gamma, gamma)[0], rel=1e-6)


def test_kramers_rate_is_the_limit_of_weak_noise():
    theta = torch.tensor([[1.0, 1.0, sigma] for sigma in (0.5, 0.3, 0.2)], dtype=torch.float64)
    simulator = DoubleWell()
    ratio = simulator.kramers_rate(theta) * simulator.mean_passage_time(theta)
    assert abs(ratio[-1] - 1) < 0.05
    assert (ratio - 1).abs().diff().max() < 0  # nearer and nearer


def test_particles_cross_as_often_as_the_passage_time_says():
    """Of particles that start in the left well, the mean on the right at t is (1 - exp(-2 t / T)) / 2, roughly."""
    n = 2000
    theta = torch.tensor([[1.0, 1.0, 0.6]])
    simulator = DoubleWell(points=1, interval=6.0, substeps=300)
    passage = float(simulator.mean_passage_time(theta))
    right = (simulator.simulate(theta.expand(n, -1), seed=3)[:, 0] > 0).float().mean()
    assert abs(right - 0.5 * (1 - np.exp(-2 * 6.0 / passage))) < 5 * 0.5 / n**0.5 + 0.02


def test_steps_have_the_drift_and_the_noise():
    """One small step from the well, where the force is zero: mean -gamma, standard deviation sigma sqrt(h)."""
    n = 5000
    x = DoubleWell(points=1, interval=1e-3, substeps=1).simulate(torch.tensor([[1.0, 1.2, 0.7]]).expand(n, -1), seed=0)
    assert abs(x.mean() + 1.2) < 5 * 0.7 * 1e-3**0.5 / n**0.5
    assert abs(x.std() / (0.7 * 1e-3**0.5) - 1) < 5 / (2 * n) ** 0.5


def test_summaries_of_a_known_path():
    x = torch.tensor([[-1.0, 1.0, 1.0, -1.0]], dtype=torch.float64)
    s = DoubleWell(points=4).summarize(x)[0]
    expected = [0.0, 1.0, 1.0, np.log(8 / 3), -1 / 4, 2.0]
    np.testing.assert_allclose(s, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"points": 0}, "points: expected a positive int; got 0"),
        ({"substeps": 1.5}, "substeps: expected a positive int"),
        ({"interval": float("inf")}, "interval: expected a positive number"),
    ],
)
def test_bad_settings_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        DoubleWell(**settings)
