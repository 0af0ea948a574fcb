"""FitzHugh-Nagumo: the splitting against SciPy, plain loops and Euler's method; the summaries as R defines them."""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.signal
import scipy.stats
import torch
from scipy.integrate import quad_vec

from implicit_simulators import Stream, fitzhugh_nagumo
from implicit_simulators.engines.sde import euler_maruyama
from implicit_simulators.engines.step_noise import draw_noise
from implicit_simulators.fitzhugh_nagumo import FitzHughNagumo

THETA = torch.tensor([[0.1, 1.5, 0.8, 0.3], [0.45, 0.02, 5.0, 0.9], [0.01, 6.0, 0.5, 1.0]], dtype=torch.float64)
"""The published one; one whose linear part does not oscillate; and a stiff one."""


def test_linear_part_is_solved_exactly():
    h = 0.02
    solution, root = FitzHughNagumo(duration=0.08, step=h)._linear(THETA)
    for row, (epsilon, gamma, _, sigma) in enumerate(THETA.tolist()):
        a = np.array([[0, -1 / epsilon], [gamma, -1]])
        np.testing.assert_allclose(solution[:, :, row], scipy.linalg.expm(a * h), rtol=1e-10, atol=1e-13)

        def integrand(s, a=a, sigma=sigma):
            column = scipy.linalg.expm(a * s) @ np.array([0, sigma])
            return np.outer(column, column)

        covariance = quad_vec(integrand, 0, h, epsabs=1e-14)[0]
        np.testing.assert_allclose(root[row] @ root[row].T, covariance, rtol=1e-8, atol=1e-15)


def test_path_is_the_strang_splitting():
    simulator = FitzHughNagumo(duration=0.2, interval=0.04, step=0.02)
    stream = Stream.of(5)
    ours = simulator._simulate(THETA, stream).numpy()
    solution, root = simulator._linear(THETA)
    noise = draw_noise(("normal", "normal"), 3, 10, stream.key)
    for row, (epsilon, _, beta, _) in enumerate(THETA.tolist()):
        state = np.zeros(2)

        def rest(state, h, epsilon=epsilon, beta=beta):
            decay = math.exp(-2 * h / epsilon)
            return np.array([state[0] / math.sqrt(decay + state[0] ** 2 * (1 - decay)), state[1] + beta * h])

        for t in range(10):
            state = rest(state, 0.01)
            state = solution[:, :, row].numpy() @ state + root[row].numpy() @ noise[row, t]
            state = rest(state, 0.01)
            if t % 2:
                np.testing.assert_allclose(ours[row, t // 2], state[0], rtol=1e-9, atol=1e-12)


def test_nonlinear_part_is_its_own_solution():
    """The flow of dV = (V - V^3) / eps, against many small steps."""
    decay = math.exp(-0.05 / 0.1)
    # with a linear part that does nothing, the two halves of a step of 0.05 are one flow
    v, u = fitzhugh_nagumo._split(0.3, 0.1, 1, 0, 0, 1, 0, 0, 0, decay, 1 - decay, 0.5 * 0.05 * 0.8, 0, 0)
    x = 0.3
    for _ in range(20_000):
        middle = x + 0.5 * (0.05 / 20_000) * (x - x**3) / 0.1
        x += (0.05 / 20_000) * (middle - middle**3) / 0.1
    assert float(v) == pytest.approx(x, rel=1e-7)
    assert float(u) == pytest.approx(0.1 + 0.8 * 0.05)


def test_voltages_are_those_of_eulers_method_in_small_steps():
    n = 2000
    epsilon, gamma, beta, sigma = THETA[0].tolist()

    def drift(z):
        v, u = z.unbind(1)
        return torch.stack(((v - v**3 - u) / epsilon, gamma * v - u + beta), 1)

    def diffusion(z):
        return torch.stack((torch.zeros_like(z[:, 0]), torch.full_like(z[:, 0], sigma)), 1)

    times = torch.tensor([0.0, 1.2])
    euler = euler_maruyama(drift, diffusion, torch.zeros(n, 2), times, 1000, torch.Generator().manual_seed(0))[:, 1, 0]
    ours = FitzHughNagumo(duration=1.2, interval=1.2).simulate(THETA[:1].float().expand(n, -1), seed=1)[:, 0]
    assert scipy.stats.ks_2samp(ours.numpy(), euler.numpy()).pvalue > 1e-3
    assert euler.std() > 0.05  # or it would be no test


def test_density_is_that_of_normal_kernels():
    simulator = FitzHughNagumo(duration=40.0)
    x = simulator.simulate(THETA[:1], seed=0)
    ours = simulator.summarize(x)[0, :1000].numpy()
    v, grid = x[0].numpy(), np.linspace(-5, 5, 1000)
    spread = min(v.std(ddof=1), np.subtract(*np.quantile(v, [0.75, 0.25])) / 1.34)
    kernel = scipy.stats.norm(v, 0.9 * spread * len(v) ** -0.2)
    expected = np.mean([kernel.pdf(place) for place in grid], axis=1) * (grid[1] - grid[0])
    assert ours.sum() == pytest.approx(1, abs=1e-6)
    assert np.abs(ours - expected).sum() < 5e-3


def test_spectrum_is_the_smoothed_periodogram():
    """Detrended, tapered by a tenth at each end, smoothed by Daniell's modified kernel: each done the long way."""
    count, span = 250, 6
    x = np.random.default_rng(0).standard_normal((1, count)).cumsum(1)
    ours = fitzhugh_nagumo._spectrum(torch.tensor(x), span)[0].numpy()
    series = scipy.signal.detrend(x[0])
    fade = count // 10
    ramp = 0.5 * (1 - np.cos(np.pi * np.arange(1, 2 * fade, 2) / (2 * fade)))
    series[:fade] *= ramp
    series[count - fade :] *= ramp[::-1]
    power = np.abs(np.fft.fft(series)) ** 2 / count
    power[0] = (power[1] + power[-1]) / 2
    weights = np.array([0.5, 1, 1, 1, 1, 1, 0.5]) / 6
    smooth = [sum(w * power[(k + j - 3) % count] for j, w in enumerate(weights)) for k in range(1, count // 2 + 1)]
    np.testing.assert_allclose(ours, np.array(smooth) / (1 - 5 / 8 * 0.2) / count, rtol=1e-9)


def test_summaries_of_a_constant_are_finite():
    s = FitzHughNagumo(duration=8.0).summarize(torch.full((2, 100), 0.3))
    assert s.shape == (2, 1050)
    assert torch.isfinite(s).all()


def test_parameters_out_of_range_are_failures_of_their_row_alone():
    simulator = FitzHughNagumo(duration=0.8)
    theta = THETA.clone()
    theta[1, 0] = -0.1
    x = simulator.simulate(theta, seed=0)
    assert torch.isnan(x[1]).all()
    assert torch.equal(x[[0, 2]], simulator.simulate(THETA, seed=0)[[0, 2]])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"step": 0.0}, "step: expected a positive number"),
        ({"interval": 0.03}, "interval: expected a positive multiple of step, 0.02; got 0.03"),
        ({"duration": 0.01}, "duration: expected a positive multiple of interval"),
    ],
)
def test_bad_settings_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        FitzHughNagumo(**settings)
