"""Flow matching: its path and solver against closed forms, a density that is one, posteriors against exact ones."""

import math

import pytest
import torch

from implicit_infer.posteriors import Question
from implicit_infer.posteriors.flow_matching import (
    FMPE,
    FMPEPosterior,
    VectorField,
    divergence,
    matching_loss,
    runge_kutta,
)
from implicit_simulators.benchmark import GaussianLinear, TwoMoons


class NormalField:
    """The exact field of N(m, c^2) in each coordinate, on the path with a standard deviation at its end."""

    def __init__(self, mean, scale, sigma_min):
        self.mean, self.scale, self.sigma_min = mean, scale, sigma_min

    def __call__(self, v, t, s):
        # E[v1 - (1 - sigma) v0 | v_t] for v1 ~ N(m, c^2), v0 ~ N(0, 1), v_t = a v0 + t v1
        rest = 1 - self.sigma_min
        a = (1 - rest * t)[:, None]
        t = t[:, None]
        gain = (t * self.scale**2 - rest * a) / (t**2 * self.scale**2 + a**2)
        return self.mean + gain * (v - t * self.mean)


@pytest.fixture(scope="module")
def trained():
    simulator = GaussianLinear(dim=2)
    question = Question(simulator, torch.tensor([0.3, -0.2]), 1000, seed=0, progress=False)
    return simulator, FMPE(hidden=(32, 32), epochs=12, solver_steps=12).infer(question)


def test_an_untrained_field_is_the_one_of_a_standard_normal():
    v = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    t, s = torch.linspace(0, 1, 50), torch.zeros(50, 2)
    torch.testing.assert_close(VectorField(3, 2, (8,), 0.1, seed=0)(v, t, s), NormalField(0.0, 1.0, 0.1)(v, t, s))


def test_the_exact_field_has_the_least_loss():
    """Of 40,000 lines to N(1.5, 0.6^2): less than with a wrong mean or scale, by more than four standard errors."""
    random = torch.Generator().manual_seed(1)
    v1 = 1.5 + 0.6 * torch.randn(40_000, 1, generator=random)
    losses = [
        matching_loss(NormalField(mean, scale, 1e-4), v1, v1[:, :0], 1.0, torch.Generator().manual_seed(2))
        for mean, scale in ((1.5, 0.6), (1.3, 0.6), (1.5, 0.8))
    ]
    # both fields see the same lines: the difference of two squares of order 1 has an error below 2 / sqrt(40,000)
    assert losses[0] + 0.01 < min(losses[1:])


def test_the_times_follow_the_power_law():
    """The mean of t under (1 + alpha) t^alpha is (1 + alpha) / (2 + alpha); four standard errors of 20,000 draws."""
    seen = []

    class Recorder:
        sigma_min = 0.0

        def __call__(self, v, t, s):
            seen.append(t)
            return v

    for alpha in (-0.5, 0.0, 4.0):
        v = torch.zeros(20_000, 1)
        matching_loss(Recorder(), v, v, alpha, torch.Generator().manual_seed(0))
        assert abs(seen[-1].mean() - (1 + alpha) / (2 + alpha)) < 4 * seen[-1].std() / 20_000**0.5


def test_runge_kutta_is_of_fourth_order():
    errors = []
    for steps in (5, 10, 20):
        times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        y = runge_kutta(lambda y, t: y * t.cos()[:, None], torch.ones(1, 1, dtype=torch.float64), times)
        errors.append(abs(float(y) - math.exp(math.sin(1.0))))
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.3)
    assert errors[1] / errors[2] == pytest.approx(16, rel=0.3)


def test_divergence_is_the_trace():
    matrix = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    value, trace = divergence(lambda v: v.sin() @ matrix.T, torch.zeros(3, 4))
    torch.testing.assert_close(trace, matrix.trace().expand(3))
    torch.testing.assert_close(value, torch.zeros(3, 4))


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (2.0, 0.1), (-1.0, 3.0)])
def test_the_flow_of_a_normal_law_has_its_draws_and_density(trained, mean, scale):
    """With the exact field noise z goes to m + c z, and the density is the normal one, within the solver's error."""
    _, posterior = trained
    exact = FMPEPosterior(
        posterior.simulator,
        posterior.observed,
        coordinates=posterior.coordinates,
        field=NormalField(mean, scale, 0.0),
        solver_steps=24,
        method="fmpe",
        simulations=0,
    )
    z = torch.randn(100, 2, generator=torch.Generator().manual_seed(3))
    v, s = mean + scale * z, torch.zeros(100, 2)
    torch.testing.assert_close(exact.carry(z, s), v, rtol=0, atol=5e-3 * scale)
    density = torch.distributions.Normal(mean, scale).log_prob(v).sum(1)
    torch.testing.assert_close(exact.log_density(v, s), density, rtol=0, atol=0.02)


def test_small_gaussian_posterior(trained):
    """Training starts at the regression: of 1,000 pairs within 0.05 of mean and spread, and thrice that is granted."""
    simulator, posterior = trained
    exact = simulator.posterior(posterior.observed)
    draws = posterior.sample((4000,), seed=1)
    sd = exact.variance.sqrt()
    assert (((draws.mean(0) - exact.mean) / sd).abs() < 0.15).all()
    assert ((draws.std(0) / sd - 1).abs() < 0.15).all()
    theta = exact.mean + sd * torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    assert (posterior.log_prob(theta) - exact.log_prob(theta)).abs().mean() < 0.2


def test_density_integrates_to_one_on_a_bounded_prior():
    simulator = TwoMoons()
    question = Question(simulator, torch.zeros(2), 500, seed=0, progress=False)
    posterior = FMPE(hidden=(32, 32), epochs=10).infer(question)
    axis = torch.linspace(-1, 1, 101)[:-1] + 1 / 100
    mass = posterior.log_prob(torch.cartesian_prod(axis, axis)).exp().mean() * 4
    assert abs(mass - 1) < 0.02
    assert simulator.prior.support.check(posterior.sample((500,), seed=0)).all()
    assert posterior.log_prob(torch.tensor([[1.5, 0.0]])).item() == -float("inf")


def test_the_solver_has_converged(trained):
    """Four times as many steps move no draw by more than a hundredth of a standard deviation."""
    _, posterior = trained
    z = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    s = torch.randn(200, 2, generator=torch.Generator().manual_seed(1))
    finer = torch.sin(torch.linspace(0, math.pi / 2, 49))
    fine = runge_kutta(lambda y, t: posterior.field(y, t, s), z, finer)
    assert (posterior.carry(z, s) - fine).abs().max() < 0.01


def test_same_seed_same_posterior(trained):
    _, posterior = trained
    draws = [posterior.sample_batched((5,), torch.zeros(3, 2), seed=4) for _ in range(2)]
    torch.testing.assert_close(draws[0], draws[1], rtol=0, atol=0)


@pytest.mark.parametrize("settings", [{"alpha": -1.0}, {"sigma_min": 1.0}, {"solver_steps": 0}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(ValueError, match="alpha, sigma_min, solver_steps"):
        FMPE(**settings)
