"""What ABC itself costs, in microseconds per simulation, with a simulator that costs next to nothing.

``python benchmarks/bench_abc.py`` prints the table of ours and the peers', measured in turns in one process;
``pytest benchmarks/bench_abc.py`` (or ``make bench``) measures ours with pytest-benchmark.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from implicit_infer.abc import SMCABC, RejectionABC
from implicit_infer.posteriors.method import Question
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear

BUDGET = 10_000
PARTICLES = 1_000
REPEATS = 5
OURS = {
    "rejection-abc": RejectionABC(keep=PARTICLES),
    "rejection-abc, linear adjustment": RejectionABC(keep=PARTICLES, adjust="linear"),
    "smc-abc": SMCABC(particles=PARTICLES),
    "smc-abc, 100 particles": SMCABC(particles=100),
}


def ours(method: str, dim: int, seed: int) -> int:
    """One of our methods from the first simulation to the posterior."""
    question = Question(GaussianLinear(dim=dim), torch.full((dim,), 0.3), BUDGET, seed, progress=False)
    return OURS[method].infer(question).simulations


def simulator_alone(dim: int, seed: int) -> int:
    """The part of the cost that is not ABC: drawing from the prior and simulating."""
    simulator = GaussianLinear(dim=dim)
    simulator.simulate(simulator.sample_prior(BUDGET, seed), seed)
    return BUDGET


def sbi_smc(dim: int, seed: int) -> int:
    """The peer in sbi, with the SBI benchmark's settings."""
    from sbi.inference.abc import smcabc

    simulator = GaussianLinear(dim=dim)
    spread = simulator.noise_variance**0.5
    torch.manual_seed(seed)
    peer = smcabc.SMCABC(
        lambda theta: theta + spread * torch.randn_like(theta),
        simulator.prior,
        simulation_batch_size=PARTICLES,
        show_progress_bars=False,
    )
    peer(
        torch.full((1, dim), 0.3),
        num_particles=PARTICLES,
        num_initial_pop=5 * PARTICLES,
        num_simulations=BUDGET,
        epsilon_decay=0.2,
        distance_based_decay=True,
    )
    return BUDGET


def pyabc_smc(dim: int, seed: int) -> int:
    """The peer pyABC, as it comes; it goes beyond its budget, so that what it used is returned."""
    pyabc: Any = importlib.import_module("pyabc")
    logging.getLogger("ABC").setLevel(logging.ERROR)
    simulator, random = GaussianLinear(dim=dim), np.random.default_rng(seed)
    names = simulator.parameter_names
    prior_sd, noise_sd = simulator.prior_variance**0.5, simulator.noise_variance**0.5

    def simulate(theta: dict[str, float]) -> dict[str, float]:
        return {name: theta[name] + noise_sd * random.standard_normal() for name in names}

    run = pyabc.ABCSMC(
        simulate,
        pyabc.Distribution(**{name: pyabc.RV("norm", 0, prior_sd) for name in names}),
        pyabc.PNormDistance(p=2),
        population_size=PARTICLES,
        sampler=pyabc.sampler.SingleCoreSampler(),
    )
    with tempfile.TemporaryDirectory() as folder:
        run.new(f"sqlite:///{Path(folder) / 'runs.db'}", dict.fromkeys(names, 0.3))
        return run.run(max_total_nr_simulations=BUDGET // 4).total_nr_simulations


@pytest.mark.parametrize("dim", [2, 10])
@pytest.mark.parametrize("method", OURS)
def test_overhead(benchmark: Any, method: str, dim: int) -> None:
    """Rounds of ours for pytest-benchmark; its table is in seconds for ``BUDGET`` simulations."""
    benchmark.pedantic(ours, args=(method, dim, 0), rounds=REPEATS, warmup_rounds=1)
    benchmark.extra_info["simulations"] = BUDGET


def main() -> None:
    """Print median microseconds of CPU time per simulation, all contestants in turns."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    contestants: dict[str, Callable[[int, int], int]] = {"simulator alone": simulator_alone}
    contestants |= {name: partial(ours, name) for name in OURS}
    contestants["sbi SMCABC"] = sbi_smc
    with contextlib.suppress(ImportError):
        importlib.import_module("pyabc")
        contestants["pyABC ABCSMC"] = pyabc_smc
    print(f"median of {REPEATS}, {BUDGET} simulations (pyABC: about {BUDGET // 4}), {PARTICLES} particles, one thread")
    print(f"{'microseconds of CPU per simulation':36}{'2 parameters':>14}{'10 parameters':>15}")
    spent: dict[tuple[str, int], list[float]] = {}
    for repeat in range(REPEATS):
        for dim in (2, 10):
            for name, run in contestants.items():
                begun = time.process_time()
                simulations = run(dim, repeat)
                spent.setdefault((name, dim), []).append(1e6 * (time.process_time() - begun) / simulations)
    for name in contestants:
        two, ten = (statistics.median(spent[name, dim]) for dim in (2, 10))
        print(f"{name:36}{two:14.1f}{ten:15.1f}")
    if "pyABC ABCSMC" not in contestants:
        print("pyABC ABCSMC: pyabc cannot be imported here")


if __name__ == "__main__":
    main()
