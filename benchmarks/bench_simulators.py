"""How fast simulators draw: a block of each, with its own settings; ``make bench`` runs it."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from implicit_simulators import LotkaVolterra, Simulator, simulators

SIMULATORS = {name: simulator for name, simulator in simulators().items() if simulator is not LotkaVolterra}
DYNAMICS = ("ode", "sde", "jump")


def _time_one_block(benchmark: BenchmarkFixture, simulator: Simulator) -> None:
    theta = simulator.sample_prior(simulator.block, seed=0)
    benchmark.extra_info["rows"] = simulator.block
    benchmark.pedantic(simulator.simulate, args=(theta,), kwargs={"seed": 0}, rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("name", SIMULATORS)
def test_one_block(benchmark: BenchmarkFixture, name: str) -> None:
    """One block with the simulator's own settings, compiled beforehand."""
    _time_one_block(benchmark, SIMULATORS[name]())


@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_lotka_volterra(benchmark: BenchmarkFixture, dynamics: str) -> None:
    """One block of each engine: an ordinary and a stochastic differential equation, and exact jumps."""
    _time_one_block(benchmark, LotkaVolterra(dynamics=dynamics))
