"""Runge-Kutta steps: their order, their gradients, and exact sensitivities beside finite differences."""

import itertools
import math

import numba
import numpy as np
import pytest
import torch

from implicit_simulators.engines.ode import rk4, rk4_sensitivities


def oscillator(z):
    return torch.stack((z[:, 1], -z[:, 0]), 1)


def test_an_oscillator_returns_after_one_period():
    start = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    times = torch.tensor([0.0, math.pi, 2 * math.pi], dtype=torch.float64)
    states = rk4(oscillator, start, times, substeps=200)
    assert states.shape == (2, 3, 2)
    torch.testing.assert_close(states[:, 1], -start, rtol=0, atol=1e-7)
    torch.testing.assert_close(states[:, 2], start, rtol=0, atol=1e-7)


def test_halving_the_step_divides_the_error_by_sixteen():
    start, times = torch.tensor([[1.0]], dtype=torch.float64), torch.tensor([0.0, 2.0], dtype=torch.float64)
    errors = [abs(rk4(lambda z: -z, start, times, n)[0, 1, 0].item() - math.exp(-2)) for n in (8, 16, 32)]
    for coarse, fine in itertools.pairwise(errors):
        assert 14 < coarse / fine < 19


def test_gradients_match_the_closed_form():
    rate = torch.tensor([0.3, 0.7], dtype=torch.float64, requires_grad=True)
    start = torch.ones(2, 1, dtype=torch.float64)
    end = rk4(lambda z: -rate[:, None] * z, start, torch.tensor([0.0, 2.0], dtype=torch.float64), 100)[:, 1, 0]
    end.sum().backward()
    torch.testing.assert_close(rate.grad, -2 * torch.exp(-2 * rate.detach()), rtol=1e-7, atol=0)


def test_rows_do_not_see_one_another():
    start, times = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0.0, 1.0])
    together = rk4(oscillator, start, times, 10)
    torch.testing.assert_close(rk4(oscillator, start[2:3], times, 10)[0], together[2], rtol=0, atol=0)


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="substeps: expected a positive int; got 0"):
        rk4(oscillator, torch.zeros(1, 2), torch.tensor([0.0, 1.0]), 0)


@pytest.fixture(scope="module")
def logistic():
    """dz/dt = a z (1 - z / b): one state, two parameters."""

    @numba.njit
    def field(z, p, dz, jz, jp):
        dz[0] = p[0] * z[0] * (1 - z[0] / p[1])
        jz[0, 0] = p[0] * (1 - 2 * z[0] / p[1])
        jp[0, 0] = z[0] * (1 - z[0] / p[1])
        jp[0, 1] = p[0] * z[0] ** 2 / p[1] ** 2

    return rk4_sensitivities(field, k=1, m=2)


def test_sensitivities_are_the_derivative_of_the_discrete_solution(logistic):
    """Against central differences of the compiled solution itself: agreement to 1e-6, whatever the step."""
    p, z0, times = np.array([[1.2, 3.0], [0.4, 5.0]]), np.array([[0.5], [2.0]]), np.array([0.0, 0.7, 1.5])
    z, s = logistic(p, z0, times, 3)
    assert z.shape == (2, 3, 1)
    assert s.shape == (2, 3, 1, 3)
    h = 1e-6
    for j in range(3):
        up_p, down_p, up_z, down_z = p.copy(), p.copy(), z0.copy(), z0.copy()
        if j < 2:
            up_p[:, j] += h
            down_p[:, j] -= h
        else:
            up_z += h
            down_z -= h
        numeric = (logistic(up_p, up_z, times, 3)[0] - logistic(down_p, down_z, times, 3)[0]) / (2 * h)
        np.testing.assert_allclose(s[..., j], numeric, rtol=1e-6, atol=1e-8)


def test_compiled_and_torch_solutions_agree(logistic):
    p, z0 = torch.tensor([[1.2, 3.0]], dtype=torch.float64), torch.tensor([[0.5]], dtype=torch.float64)
    times = torch.tensor([0.0, 1.0, 4.0], dtype=torch.float64)
    ours = rk4(lambda z: p[:, :1] * z * (1 - z / p[:, 1:]), z0, times, 20)
    compiled, _ = logistic(p.numpy(), z0.numpy(), times.numpy(), 20)
    np.testing.assert_allclose(compiled, ours.numpy(), rtol=1e-12)
