"""Ricker: the recursion and the statistics against scalar references, and what is known of the stationary mean."""

import json

import numpy as np
import pytest
import torch

from implicit_simulators.ricker import Ricker, process

THETA = torch.tensor([[3.8, 0.3, 10.0], [4.9, 0.6, 14.0], [3.0, 0.0, 5.0]], dtype=torch.float64)


def means(theta, steps, key=0, initial=1.0):
    """Expected counts and the noise behind them."""
    start = np.full((len(theta), 1), np.log(initial))
    model = process(counts=False)
    return model(theta.numpy(), start, steps, key, dtype=np.float64)[:, :, 0], model.noise_of(len(theta), steps, key)


def test_recursion_is_the_papers():
    ours, noise = means(THETA, 10)
    for row, (log_r, sigma, phi) in enumerate(THETA.tolist()):
        population, path = 1.0, []
        for e in noise[row, :, 0].tolist():
            population = np.exp(log_r) * population * np.exp(-population + sigma * e)
            path.append(phi * population)
        # errors of rounding grow by chaos, about six-fold in a step of the second row
        np.testing.assert_allclose(ours[row], path, rtol=1e-8)


def test_what_burns_in_is_not_seen():
    seen = Ricker(steps=7, burn_in=5).simulate(THETA, seed=1)
    assert torch.equal(seen.isnan(), torch.zeros_like(seen, dtype=torch.bool))
    longer = Ricker(steps=12, burn_in=0).simulate(THETA[:, [0, 1, 2]] * torch.tensor([1.0, 1.0, 1e6]), seed=1)
    burnt = Ricker(steps=7, burn_in=5).simulate(THETA * torch.tensor([1.0, 1.0, 1e6]), seed=1)
    # counts of millions show their means, which are those of the same years
    torch.testing.assert_close(burnt, longer[:, 5:], rtol=0.05, atol=100.0)


def test_a_crashed_population_comes_back():
    """After 300 the population is e**-290: zero in float32, and alive in its logarithm."""
    path, _ = means(torch.tensor([[3.0, 0.0, 5.0]]), 120, initial=300.0)
    assert path[0, 0] < 1e-100
    assert path[0, -5:].max() > 1.0


def test_mean_count_is_phi_log_r():
    """In the long run E[log N_t+1 - log N_t] = log r - E[N] = 0; rows are independent, their means have a variance."""
    n = 4000
    x = Ricker().simulate(THETA[:1].float().expand(n, -1), seed=1).mean(1)
    assert abs(x.mean() - 38.0) < 5 * x.std() / n**0.5


def test_counts_are_poisson_given_the_population():
    """Without noise the population is known: means and variances of counts are both phi N, within 5 standard errors."""
    n = 4000
    theta = torch.tensor([[3.5, 0.0, 8.0]])
    simulator = Ricker(steps=10, burn_in=3)
    expected = torch.from_numpy(means(theta.double(), 13)[0][0, 3:])
    x = simulator.simulate(theta.expand(n, -1), seed=2).double()
    assert ((x.mean(0) - expected).abs() <= 5 * (expected / n).sqrt() + 5e-3).all()
    large = expected > 1
    fourth = expected + 3 * expected**2  # the Poisson law's fourth central moment
    assert ((x.var(0) - expected).abs() <= 5 * ((fourth - expected**2) / n).sqrt())[large].all()
    assert large.sum() >= 3


def wood(y, reference):
    """The thirteen statistics of one series, each as a person would write it."""
    steps = len(y)
    centred = y - y.mean()
    covariances = [sum(centred[t] * centred[t + lag] for t in range(steps - lag)) / (steps - lag) for lag in range(6)]
    z, d = np.sort(np.diff(reference)), np.sort(np.diff(y))
    z, d = z - z.mean(), d - d.mean()
    cubic = np.linalg.lstsq(np.stack((z, z**2, z**3), 1), d, rcond=None)[0]
    q = y**0.3
    auto = np.linalg.lstsq(np.stack((q[:-1], q[:-1] ** 2), 1), q[1:], rcond=None)[0]
    return [*covariances, *cubic, *auto, y.mean(), (y == 0).sum()]


def test_summaries_are_woods():
    observed = Ricker().simulate(THETA[:1], seed=5)[0]
    simulator = Ricker(observed=observed)
    x = simulator.simulate(THETA, seed=6)
    ours = simulator.summarize(x)
    assert ours.shape == (3, 13)
    for row, series in zip(ours, x.numpy(), strict=True):
        np.testing.assert_allclose(row, wood(series, observed.numpy()), rtol=1e-6, atol=1e-9)


def test_the_reference_regresses_on_itself():
    simulator = Ricker()
    s = simulator.summarize(simulator.reference[None])[0]
    torch.testing.assert_close(s[6:9], torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64), rtol=0, atol=1e-9)
    assert torch.equal(simulator.reference, Ricker().reference)


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_summaries_of_equal_counts_are_finite(value):
    assert torch.isfinite(Ricker().summarize(torch.full((2, 50), value))).all()


def test_parameters_out_of_range_are_failures():
    theta = torch.tensor([[3.8, -0.1, 10.0], [3.8, 0.3, -1.0], [3.8, 0.3, 10.0]])
    x = Ricker().simulate(theta, seed=0)
    assert torch.isnan(x[:2]).all()
    assert torch.isfinite(x[2]).all()


def test_settings_hold_the_observed_series():
    observed = np.arange(50) ** 2 % 37
    settings = json.loads(json.dumps(Ricker(observed=observed).settings()))
    assert settings["observed"] == observed.tolist()
    assert Ricker(**settings).settings() == settings


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"steps": 3}, "steps: expected an int of at least 7; got 3"),
        ({"burn_in": -1}, "burn_in: expected an int of at least 0"),
        ({"initial": 0}, "initial: expected a positive number; got 0"),
        ({"observed": np.ones(20)}, r"observed: ricker expects shape \(50,\); got \(20,\)"),
        ({"observed": -np.arange(50.0)}, "observed: expected counts; the least is -49"),
        ({"observed": np.arange(50)}, "steps take at least four values"),
    ],
)
def test_bad_settings_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        Ricker(**settings)
