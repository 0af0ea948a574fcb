"""The queue against a customer at a time, and against what is known of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from implicit_simulators import MG1Queue

THETAS = [(1.0, 4.0, 0.2), (5.0, 2.0, 0.3), (0.1, 0.5, 0.05)]


def one_by_one(theta: np.ndarray, uniform: np.ndarray, exponential: np.ndarray) -> np.ndarray:
    """A server who takes customers as they come."""
    arrived = left = 0.0
    times = []
    for u, e in zip(uniform, exponential, strict=True):
        arrived += e / theta[2]
        starts = max(arrived, left)
        now = starts + theta[0] + theta[1] * u
        times.append(now - left)
        left = now
    return np.array(times)


@pytest.mark.parametrize("theta", THETAS)
def test_the_running_maximum_is_the_queue(theta: tuple[float, ...]) -> None:
    rng = np.random.default_rng(0)
    uniform, exponential = rng.random((20, 300)), rng.exponential(size=(20, 300))
    parameters = torch.tensor([theta], dtype=torch.float64).repeat(20, 1)
    ours = MG1Queue._transform(parameters, torch.tensor(uniform), torch.tensor(exponential))
    expected = [one_by_one(np.array(theta), u, e) for u, e in zip(uniform, exponential, strict=True)]
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("theta", THETAS)
def test_the_first_time_is_an_arrival_and_a_service(theta: tuple[float, ...]) -> None:
    """Its density is that of an exponential and a uniform variable, by hand."""
    simulator = MG1Queue(n_obs=1)
    parameters = torch.tensor([theta], dtype=torch.float64)
    a, w, rate = theta
    grid = torch.linspace(a, a + w + 40 / rate, 20_001, dtype=torch.float64)
    ours = simulator.log_likelihood(parameters.repeat(len(grid), 1), grid[:, None]).exp()
    waited = grid - a
    torch.testing.assert_close(ours, (torch.exp(-rate * (waited - w).clamp_min(0)) - torch.exp(-rate * waited)) / w)
    x = simulator.simulate(parameters.repeat(5000, 1), seed=0)[:, 0]
    cdf = torch.cat((torch.zeros(1), torch.cumulative_trapezoid(ours, grid)))
    assert cdf[-1].item() == pytest.approx(1, abs=1e-4)
    assert stats.kstest(x.numpy(), lambda t: np.interp(t, grid, cdf)).pvalue > 1e-3


@pytest.mark.parametrize("other", [(1.2, 3.5, 0.25), (1.0, 4.0, 0.4), (1.0, 3.0, 0.2)])
def test_likelihoods_are_densities_with_respect_to_one_another(other: tuple[float, ...]) -> None:
    """E[p(x | theta') / p(x | theta)] = 1 for x from theta, where theta' can make nothing that theta cannot."""
    simulator, n = MG1Queue(n_obs=4), 20_000
    theta = torch.tensor([THETAS[0]], dtype=torch.float64).repeat(n, 1)
    x = simulator.simulate(theta, seed=0)
    there = torch.tensor([other], dtype=torch.float64).repeat(n, 1)
    ratio = (simulator.log_likelihood(there, x) - simulator.log_likelihood(theta, x)).exp()
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / n**0.5
    assert ratio.std() > 0.1


def test_the_likelihood_is_the_share_of_arrivals_that_fit() -> None:
    """The definition: services as the data and random arrivals ask for, counted where all are in range."""
    a, w, rate = THETAS[0]
    x = np.array([3.0, 2.5, 7.0, 1.5, 4.0, 6.5])  # the third and the last customer kept the server waiting
    arrivals = np.random.default_rng(0).exponential(1 / rate, (400_000, 6)).cumsum(1)
    departures = x.cumsum()
    services = departures - np.maximum(arrivals, departures - x)
    fit = ((services >= a) & (services <= a + w)).all(1).mean()
    ours = MG1Queue(n_obs=6).log_likelihood(torch.tensor([THETAS[0]], dtype=torch.float64), torch.tensor(x))
    error = (fit * (1 - fit) / 400_000) ** 0.5
    assert fit > 20 * error
    assert abs(ours.exp().item() * w**6 - fit) < 5 * error


def test_the_score_in_the_rate_has_mean_zero() -> None:
    """The other two parameters move the support, so that theirs need not."""
    simulator, n = MG1Queue(n_obs=10), 3000
    theta = torch.tensor([THETAS[0]], dtype=torch.float64).repeat(n, 1).requires_grad_()
    x = simulator.simulate(theta.detach(), seed=0)
    (score,) = torch.autograd.grad(simulator.log_likelihood(theta, x).sum(), theta)
    rate = score[:, 2]
    assert abs(rate.mean()) < 5 * rate.std() / n**0.5


def test_the_likelihood_has_right_derivatives() -> None:
    simulator = MG1Queue(n_obs=4)
    theta = torch.tensor([THETAS[0], (0.9, 4.5, 0.3)], dtype=torch.float64)
    x = simulator.simulate(theta[:1].repeat(2, 1), seed=0)
    assert torch.autograd.gradcheck(simulator.log_likelihood, (theta.requires_grad_(), x.requires_grad_()))


def test_the_likelihood_of_fifty_customers_is_finite_and_that_of_the_impossible_is_not() -> None:
    simulator = MG1Queue()
    theta = simulator.sample_prior(200, seed=0)
    x = simulator.simulate(theta.double(), seed=1)
    assert torch.isfinite(simulator.log_likelihood(theta.double(), x)).all()
    short = torch.full((50,), 0.9).requires_grad_()
    bad = torch.tensor([[1.0, 4.0, 0.2], [-1.0, 4.0, 0.2], [0.5, 0.0, 0.2], [0.5, 4.0, 0.0], [0.5, 4.0, 0.2]])
    log_likelihood = simulator.log_likelihood(bad, short)
    assert torch.isneginf(log_likelihood).tolist() == [True, True, True, True, False]
    (gradient,) = torch.autograd.grad(log_likelihood[4], short)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("theta", [(1.0, 4.0, 0.2), (5.0, 6.0, 0.3)], ids=["stable", "overloaded"])
def test_in_the_long_run_customers_leave_as_they_come_or_as_they_are_served(theta: tuple[float, ...]) -> None:
    parameters = torch.tensor([theta], dtype=torch.float64)
    x = MG1Queue(n_obs=4000).simulate(parameters.repeat(50, 1), seed=0)[:, 1000:]
    expected = MG1Queue.stationary_mean(parameters)[0]
    means = x.mean(1)
    assert abs(means.mean() - expected) < 5 * means.std() / 50**0.5
    assert (MG1Queue.load(parameters)[0] < 1) == (expected == 1 / theta[2])


def test_a_busy_server_takes_the_time_of_a_service() -> None:
    """At the fraction of customers given by the load, in the long run, the time is a service alone."""
    theta = torch.tensor([[1.0, 4.0, 0.2]], dtype=torch.float64)
    simulator = MG1Queue(n_obs=2000)
    noise = simulator._noise(40, _stream(), theta)
    x = simulator._transform(theta.repeat(40, 1), *noise)[:, 500:]
    service = (1 + 4 * noise[0])[:, 500:]
    assert (x >= service - 1e-9).all()
    busy = (x - service < 1e-9).double().mean(1)
    # arrivals see the server as time does
    assert abs(busy.mean() - MG1Queue.load(theta)[0]) < 5 * busy.std() / 40**0.5


def _stream() -> Any:
    from implicit_simulators import Stream

    return Stream.of(0)


def test_rare_customers_lose_no_digits() -> None:
    """Arrival times of ten million would leave single precision no digits of a service."""
    theta = torch.tensor([[1.0, 0.0, 1e-7]])
    x = MG1Queue(n_obs=50).simulate(theta, seed=0)
    assert (x > 1).all()
    burst = MG1Queue._transform(
        theta, torch.zeros(1, 3, dtype=torch.float64), torch.tensor([[3.0, 1e-9, 1e-9]], dtype=torch.float64)
    )
    assert burst[0, 1:].tolist() == pytest.approx([1, 1], abs=1e-6)


def test_outside_of_the_range_nothing_is_drawn() -> None:
    x = MG1Queue(n_obs=3).simulate([[-1.0, 1, 1], [1, -1, 1], [1, 1, 0], [0, 0, 1]], seed=0)
    assert x.isnan().all(1).tolist() == [True, True, True, False]


def test_summaries_are_equally_spaced_quantiles() -> None:
    x = torch.tensor([[5.0, 1.0, 4.0, 2.0, 3.0]])
    assert MG1Queue(n_obs=5).summarize(x).tolist() == [[1, 2, 3, 4, 5]]
    assert MG1Queue(n_obs=5, quantiles=3).summarize(x).tolist() == [[1, 3, 5]]
    assert math.isclose(MG1Queue(quantiles=20).summarize(x)[0, 1].item(), 1 + 4 / 19, rel_tol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_obs": 0}, "n_obs: expected an int of at least 1; got 0"),
        ({"quantiles": 1}, "quantiles: expected an int of at least 2; got 1"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MG1Queue(**settings)
