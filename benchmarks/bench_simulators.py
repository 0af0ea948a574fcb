"""How fast simulators draw.

``python benchmarks/bench_simulators.py`` prints the engines beside peers that do the same work, measured in turns in
one process; ``pytest benchmarks/bench_simulators.py`` (or ``make bench``) measures a block of every simulator.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from implicit_simulators import Epidemic, LotkaVolterra, Simulator, simulators
from implicit_simulators.engines.jump import jump_process
from implicit_simulators.engines.sde import euler_maruyama

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


# --- the engines beside peers

REPEATS = 7
Timed = Callable[[], int]
"""Does the work once and says how many units (events, steps of a row) it was."""

RATES = (0.01, 0.5, 1.0, 0.01)
START = (50.0, 100.0)
TIMES = np.linspace(0, 30, 151)
CAP = 100_000
CHANGES = np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])
"""Predators and prey of Papamakarios & Murray (2016): about 6,000 events a trajectory, with a tail up to the cap."""


def predation(x: float, y: float, a: float, b: float, c: float, d: float) -> tuple[float, ...]:
    """Predator birth and death, prey birth and death."""
    return a * x * y, b * x, c * y, d * x * y


def lanes(rows: int) -> Timed:
    """The engine: one call."""
    process = jump_process(predation, CHANGES)
    parameters, initial = np.tile(RATES, (rows, 1)), np.tile(START, (rows, 1))

    def run() -> int:
        return int(process(parameters, initial, TIMES, key=0, max_events=CAP)[1].sum())

    return run


def scalar_numba(rows: int) -> Timed:
    """What one writes with numba: the textbook loop, a row at a time, with numba's own generator."""
    import numba

    rates = numba.njit(predation)

    @numba.njit(error_model="numpy")
    def gillespie(n: int, times: Any, out: Any) -> int:
        events = 0
        for i in range(n):
            (x, y), t, k, e = START, 0.0, 0, 0
            while k < len(times):
                h = rates(x, y, *RATES)
                total = h[0] + h[1] + h[2] + h[3]
                if total == 0.0 or e >= CAP:
                    out[i, k:] = np.nan if total > 0.0 else 0.0
                    break
                t -= math.log(1.0 - np.random.random()) / total  # noqa: NPY002 - numba's generator
                while k < len(times) and times[k] < t:
                    out[i, k, 0], out[i, k, 1] = x, y
                    k += 1
                pick, r = np.random.random() * total, 0  # noqa: NPY002 - as above
                while r < 3 and pick >= h[r]:
                    pick -= h[r]
                    r += 1
                x, y, e = x + CHANGES[r, 0], y + CHANGES[r, 1], e + 1
            events += e
        return events

    out = np.empty((rows, len(TIMES), 2))
    return lambda: gillespie(rows, TIMES, out)


def plain_python(rows: int) -> Timed:
    """The same loop in plain Python, which is quicker here than NumPy on small arrays."""
    a, b, c, d = RATES

    def run() -> int:
        events = 0
        for _ in range(rows):
            (x, y), t, k, e = START, 0.0, 0, 0
            recorded = []
            while k < len(TIMES) and e < CAP:
                h0, h1, h2, h3 = a * x * y, b * x, c * y, d * x * y
                total = h0 + h1 + h2 + h3
                if total == 0:
                    break
                t += random.expovariate(total)
                while k < len(TIMES) and TIMES[k] < t:
                    recorded.append((x, y))
                    k += 1
                pick = random.random() * total
                if pick < h0:
                    x += 1
                elif pick < h0 + h1:
                    x -= 1
                elif pick < h0 + h1 + h2:
                    y += 1
                else:
                    y -= 1
                e += 1
            events += e
        return events

    return run


STEPS = 500


def euler_torch(rows: int) -> Timed:
    """Ornstein-Uhlenbeck by the SDE engine, float32, without gradients."""
    state, times = torch.zeros(rows, 1), torch.linspace(0, 5, 11)

    @torch.no_grad()
    def run() -> int:
        generator = torch.Generator().manual_seed(0)
        euler_maruyama(lambda z: 1 - z, lambda z: torch.full_like(z, 0.3), state, times, STEPS // 10, generator)
        return rows * STEPS

    return run


def euler_numpy(rows: int) -> Timed:
    """The same with NumPy, float64, one step of all rows at a time."""

    def run() -> int:
        rng, z, h = np.random.default_rng(0), np.zeros(rows), 5 / STEPS
        for _ in range(STEPS):
            z = z + h * (1 - z) + math.sqrt(h) * 0.3 * rng.standard_normal(rows)
        return rows * STEPS

    return run


def epidemic(rows: int) -> Timed:
    """The whole simulator at the flu's rates: states, bookkeeping, tensors."""
    simulator, theta = Epidemic(), torch.tensor([[1.75, 0.48, 0.9]]).repeat(rows, 1)

    def run() -> int:
        simulator.simulate(theta, seed=0)
        return rows

    return run


GROUPS: dict[str, dict[str, Timed]] = {
    "Predators and prey, exact, ns an event": {
        "jump engine, 5,000 rows": lanes(5000),
        "jump engine, a block of 1,000 rows": lanes(1000),
        "numba, a row at a time": scalar_numba(1000),
        "plain Python, a row at a time": plain_python(20),
    },
    "Ornstein-Uhlenbeck, ns a step of a row": {
        "SDE engine (torch, float32), 10,000 rows": euler_torch(10_000),
        "SDE engine (torch, float32), 1,000 rows": euler_torch(1000),
        "NumPy (float64), 10,000 rows": euler_numpy(10_000),
        "NumPy (float64), 1,000 rows": euler_numpy(1000),
    },
    "School flu, ns an epidemic": {"Epidemic, 10,000 rows": epidemic(10_000)},
}


def main() -> None:
    """Print medians of CPU time a unit, and of the ratios to the first line, over rounds that take all in turn."""
    torch.set_num_threads(1)
    for title, entries in GROUPS.items():
        for work in entries.values():
            work()  # compiles
        costs: dict[str, list[float]] = {name: [] for name in entries}
        for _ in range(REPEATS):
            for name, work in entries.items():
                begun = time.process_time()
                units = work()
                costs[name].append((time.process_time() - begun) / units * 1e9)
        first = next(iter(costs.values()))
        print(f"\n| {title} | median | range | times the first |\n| --- | --- | --- | --- |")
        for name, cost in costs.items():
            ratio = statistics.median(c / f for c, f in zip(cost, first, strict=True))
            print(f"| {name} | {statistics.median(cost):,.1f} | {min(cost):,.1f}-{max(cost):,.1f} | {ratio:.1f} |")


if __name__ == "__main__":
    main()
