"""The queue against a customer at a time, and against what is known of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats

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
    simulator = MG1Queue(n_obs=1)
    parameters = torch.tensor([theta], dtype=torch.float64)

    def density(x: float) -> float:
        return simulator.first_log_density(parameters, torch.tensor([x], dtype=torch.float64)).exp().item()

    low, edge, far = theta[0], theta[0] + theta[1], theta[0] + theta[1] + 40 / theta[2]
    assert integrate.quad(density, low, far, points=[edge], limit=200)[0] == pytest.approx(1, abs=1e-7)
    x = simulator.simulate(parameters.repeat(5000, 1), seed=0)[:, 0].sort().values
    grid = torch.linspace(low, far, 20_001, dtype=torch.float64)
    mass = simulator.first_log_density(parameters.expand(len(grid), 3), grid).exp()
    cdf = torch.cat((torch.zeros(1), torch.cumulative_trapezoid(mass, grid)))
    assert stats.kstest(x.numpy(), lambda t: np.interp(t, grid, cdf)).pvalue > 1e-3


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
