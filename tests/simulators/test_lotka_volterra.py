"""Lotka-Volterra: the solution against SciPy, what it conserves, its likelihood, and its noisy versions' limit."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch.distributions import LogNormal

from implicit_simulators import LotkaVolterra

THETA = torch.tensor([[0.55, 0.028, 0.80, 0.024, 34.0, 5.9, 0.29, 0.29], [0.9, 0.05, 0.7, 0.02, 20.0, 6.0, 0.4, 0.25]])


def scipy_solution(theta):
    a, b, c, d, u, v = theta[:6].double().tolist()
    found = solve_ivp(
        lambda t, z: [a - b * np.exp(z[1]), -c + d * np.exp(z[0])],
        (0, 20),
        np.log([u, v]),
        t_eval=np.arange(21),
        rtol=1e-10,
        atol=1e-10,
        method="LSODA",
    )
    return torch.tensor(found.y.T)


def test_solution_agrees_with_scipy():
    ours = LotkaVolterra()._ode(THETA.double())
    for row, theta in zip(ours, THETA, strict=True):
        torch.testing.assert_close(row, scipy_solution(theta), rtol=0, atol=1e-5)


def test_solution_is_good_enough_all_over_the_prior():
    """The error that the class promises: below 0.05 in log population for 99 of 100 draws from the prior."""
    simulator = LotkaVolterra()
    theta = simulator.sample_prior(300, seed=1)
    reference = LotkaVolterra(substeps=200)._ode(theta.double())
    error = (simulator._ode(theta.double()) - reference).abs().amax((1, 2))
    assert (error < 0.05).double().mean() > 0.985  # 300 draws of which 99 % hold: 0.985 is under it by 0.9 sd
    assert torch.isfinite(simulator.simulate(theta, seed=0)).all()


def test_the_constant_of_motion_is_kept():
    alpha, beta, gamma, delta = THETA[:, :4].double().T[:, :, None]
    z = LotkaVolterra()._ode(THETA.double())
    u, v = z[..., 0], z[..., 1]
    motion = delta * u.exp() - gamma * u + beta * v.exp() - alpha * v
    torch.testing.assert_close(motion, motion[:, :1].expand_as(motion), rtol=1e-6, atol=0)


def test_errors_are_log_normal_with_the_given_spread():
    simulator = LotkaVolterra()
    n = 4000
    theta = THETA[:1].expand(n, -1)
    errors = simulator.simulate(theta, seed=3).log() - simulator._ode(THETA[:1])
    sigma = THETA[0, 6:8]
    assert (errors.mean((0, 1)).abs() < 4.5 * sigma / (n * 21) ** 0.5).all()
    assert ((errors.std((0, 1)) / sigma - 1).abs() < 4.5 / (2 * n * 21) ** 0.5).all()


def test_log_likelihood_is_that_of_the_definition():
    simulator = LotkaVolterra()
    x = simulator.observation("hudson-bay")
    expected = LogNormal(simulator._ode(THETA), THETA[:, None, 6:8]).log_prob(x).sum((1, 2))
    torch.testing.assert_close(simulator.log_likelihood(THETA, x), expected, rtol=1e-4, atol=1e-3)


def test_compiled_gradient_is_that_of_autograd():
    simulator = LotkaVolterra()
    x = simulator.observation("hudson-bay").double()
    theta = THETA.double().requires_grad_()
    simulator.log_likelihood(theta, x).sum().backward()
    again = THETA.double().requires_grad_()
    LogNormal(simulator._ode(again), again[:, None, 6:8]).log_prob(x).sum().backward()
    torch.testing.assert_close(theta.grad, again.grad, rtol=1e-8, atol=1e-8)


def test_simulations_pass_gradients_to_theta():
    simulator = LotkaVolterra()
    theta = THETA[:1].double().requires_grad_()
    simulator.simulate(theta, seed=0).log().sum().backward()
    h = 1e-5
    for j in range(8):
        step = torch.zeros_like(THETA[:1]).double()
        step[0, j] = h
        up, down = (simulator.simulate(THETA[:1].double() + s * step, seed=0).log().sum() for s in (1, -1))
        numeric = (up - down) / (2 * h)
        torch.testing.assert_close(theta.grad[0, j], numeric, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dynamics", ["sde", "jump"])
def test_large_systems_follow_the_ode(dynamics):
    """Noise falls as 1 / sqrt(Omega): at Omega = 5,000 log populations of two years are within 0.05 of the ODE's."""
    simulator = LotkaVolterra(dynamics, system_size=5_000.0, max_events=10_000_000)
    theta = THETA[:1].clone()
    theta[:, 6:8] = 1e-6  # no measurement error
    x = simulator.simulate(theta, seed=0)
    torch.testing.assert_close(x[0, :3].log(), LotkaVolterra()._ode(THETA[:1])[0, :3], rtol=0, atol=0.05)


def test_sde_and_jump_process_have_the_same_moments():
    """After one year from 340 hares and 59 lynxes (Omega = 10) means and spreads agree within 5 standard errors."""
    n = 2000
    theta = THETA[:1].expand(n, -1).clone()
    theta[:, 4:6] = theta[:, 4:6].mul(10).round().div(10)
    theta[:, 6:8] = 1e-6
    sde, jump = (LotkaVolterra(kind).simulate(theta, seed=2)[:, 1] for kind in ("sde", "jump"))
    se = ((sde.var(0) + jump.var(0)) / n).sqrt()
    assert ((sde.mean(0) - jump.mean(0)).abs() < 5 * se).all()
    assert ((sde.std(0) / jump.std(0) - 1).abs() < 5 / n**0.5).all()


def test_leaps_have_nearly_the_moments_of_the_jump_process():
    """After one year at Omega = 200: 5 standard errors, and a bias of 1 % of the mean or 5 % of the spread."""
    n = 400
    theta = THETA[:1].expand(n, -1).clone()
    theta[:, 6:8] = 1e-6
    tau, jump = (
        LotkaVolterra(kind, system_size=200.0, max_events=2_000_000).simulate(theta, seed=2)[:, 1]
        for kind in ("tau", "jump")
    )
    se = ((tau.var(0) + jump.var(0)) / n).sqrt()
    assert ((tau.mean(0) - jump.mean(0)).abs() < 5 * se + 0.01 * jump.mean(0)).all()
    assert ((tau.std(0) / jump.std(0) - 1).abs() < 5 / n**0.5 + 0.05).all()


def test_settings_tell_what_matters_for_the_dynamics():
    """Stores are opened by them: those of one dynamics must not change when another gains a setting."""
    settings = {kind: LotkaVolterra(kind).settings() for kind in ("ode", "sde", "jump", "tau")}
    assert settings == {
        "ode": {"dynamics": "ode", "substeps": 25},
        "sde": {"dynamics": "sde", "system_size": 10.0, "substeps": 100},
        "jump": {"dynamics": "jump", "system_size": 10.0, "max_events": 200_000},
        "tau": {"dynamics": "tau", "system_size": 10.0, "max_events": 200_000, "epsilon": 0.03},
    }


def test_a_jump_process_that_explodes_is_a_failed_simulation():
    simulator = LotkaVolterra("jump", max_events=100)
    assert torch.isnan(simulator.simulate(THETA, seed=0)[:, -1]).all()


def test_summaries_find_the_rates_of_a_noiseless_cycle():
    """Integral matching on exact data: the slope in time is 20 alpha to within the error of a year's trapezoids."""
    simulator = LotkaVolterra()
    s = simulator.summarize(simulator._ode(THETA[:1]).exp())
    assert s.shape == (1, 52)
    hare = s[0, 42:47]
    assert abs(hare[1] / 20 - 0.55) < 0.1
    assert hare[3] < -1.5  # hardly any residual


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e30])
def test_summaries_are_finite_for_extreme_pelts(value):
    assert torch.isfinite(LotkaVolterra().summarize(torch.full((2, 21, 2), value))).all()


def test_observation_is_the_companys_record():
    x = LotkaVolterra().observation("hudson-bay")
    assert x.shape == (21, 2)
    assert x[0].tolist() == [30.0, 4.0]
    assert x[-1].tolist() == pytest.approx([24.7, 8.6])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"dynamics": "pde"}, "dynamics: expected one of ode, sde, jump"),
        ({"substeps": 0}, "substeps: expected"),
        ({"epsilon": 0}, "epsilon: expected"),
    ],
)
def test_bad_settings_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        LotkaVolterra(**settings)


def test_likelihood_of_a_noisy_population_is_refused():
    with pytest.raises(ValueError, match="known only for dynamics"):
        LotkaVolterra("jump").log_likelihood(THETA, torch.ones(21, 2))
