"""The compiled Langevin equation follows the path of torch's, and steps that differ are torch's to take."""

import numpy as np
import pytest
import torch

from implicit_simulators import PredatorPrey, Stream
from implicit_simulators.engines.langevin_steps import step_width
from implicit_simulators.engines.network import simulate_network

CHANGES = [[1, 0], [-1, 0], [0, 1], [0, -1]]


def predation(x, y, a, b, c, d):
    return a * x * y, b * x, c * y, d * x * y


def run(parameters, times, rows=20, substeps=10):
    initial = torch.tensor([[50.0, 100.0]], dtype=parameters.dtype).expand(rows, 2)
    values = parameters.expand(rows, 4)
    settings = {"substeps": substeps, "epsilon": 0.03, "max_events": 1000}
    return simulate_network("sde", predation, CHANGES, None, values, initial, times, Stream.of(3), **settings)


def test_gradients_change_nothing_but_rounding():
    rates = torch.tensor([[0.01, 0.5, 1.0, 0.01]], dtype=torch.float64)
    times = np.linspace(0, 5, 26)
    compiled, graph = run(rates, times), run(rates.requires_grad_(), times)
    assert graph.requires_grad
    assert not compiled.requires_grad
    torch.testing.assert_close(compiled, graph.detach(), rtol=1e-9, atol=1e-9)


def test_an_extinct_species_stays_extinct():
    rates = torch.tensor([[0.0, 50.0, 0.0, 0.0]], dtype=torch.float64)
    path = run(rates, np.linspace(0, 4, 5), substeps=200)
    assert (path[:, -1, 0] < 1e-3).all()
    torch.testing.assert_close(path[:, -1, 1], torch.full((20,), 100.0, dtype=torch.float64))


def test_uneven_times_are_torchs():
    assert step_width([0.0, 1.0, 2.0], 4) == pytest.approx(0.25)
    assert step_width([0.0, 1.0, 3.0], 4) is None
    assert step_width([0.0], 4) is None
    rates = torch.tensor([[0.01, 0.5, 1.0, 0.01]])
    path = run(rates, [0.0, 0.1, 0.3])
    assert path.shape == (20, 3, 2)
    assert torch.isfinite(path).all()


def test_rates_that_are_negative_at_the_start_are_failures():
    rates = torch.tensor([[0.01, -0.5, 1.0, 0.01]])
    assert run(rates, [0.0, 0.1, 0.2]).isnan().all()


def test_the_model_runs_compiled():
    theta = torch.tensor([PredatorPrey.reference_theta] * 10)
    simulator = PredatorPrey(dynamics="sde")
    assert simulator.prepare() >= 0
    assert torch.isfinite(simulator.simulate(theta, seed=0)).all()
