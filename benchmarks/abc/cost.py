"""What ABC itself costs, in microseconds per simulation, with a simulator that costs next to nothing.

Ours and the peers infer the mean of a normal law from one draw. Runs of all contestants take turns (the outer loop is
over seeds), so that a machine that slows down slows all. Peers that cannot be imported are left out of the table.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from implicit_infer.abc import ABCMCMC, SMCABC, RejectionABC, ReplenishmentABC
from implicit_infer.posteriors.method import Method, Question
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear

NAME = "cost"
TITLE = "What the algorithms cost"
ABOUT = """\
CPU time in microseconds per simulation, from the first simulation to the posterior, with a simulator that costs next to
nothing: 10,000 simulations (pyABC: at least 2,500, which it goes beyond; what it used is what is divided by), 1,000
particles, one thread, medians of the seeds. The simulator's own share is in the first row. sbi's SMCABC runs with the
SBI benchmark's settings, pyABC with its defaults on a single core."""
KEYS = ("method", "dim", "seed")

BUDGET, PARTICLES = 10_000, 1_000
DIMS = (2, 10)
OURS: dict[str, Method] = {
    "rejection-abc": RejectionABC(keep=PARTICLES),
    "rejection-abc, linear adjustment": RejectionABC(keep=PARTICLES, adjust="linear"),
    "smc-abc": SMCABC(particles=PARTICLES),
    "smc-abc, tolerance by effective sample size": SMCABC(particles=PARTICLES, schedule="ess", quantile=0.5),
    "smc-abc, adaptive distance": SMCABC(particles=PARTICLES, adaptive=True),
    "smc-abc, local kernel": SMCABC(particles=PARTICLES, kernel="local"),
    "smc-abc, 100 particles": SMCABC(particles=100),
    "replenishment-abc": ReplenishmentABC(particles=PARTICLES),
    "abc-mcmc, 200 chains": ABCMCMC(chains=200),
}
SIMULATOR, SBI, PYABC = "simulator alone", "sbi SMCABC", "pyABC ABCSMC"


def wanted(seeds: list[int]) -> list[dict[str, Any]]:
    """Every contestant in both dimensions, seed by seed."""
    peers = [SBI] + [PYABC] * (importlib.util.find_spec("pyabc") is not None)
    names = [SIMULATOR, *OURS, *peers]
    return [{"method": name, "dim": dim, "seed": seed} for seed in seeds for dim in DIMS for name in names]


def run(method: str, dim: int, seed: int) -> dict[str, Any]:
    """One run of one contestant, timed; what it imports is imported before."""
    warnings.simplefilter("ignore")
    infer = contestant(method)
    begun, clock = time.process_time(), time.perf_counter()
    simulations = infer(dim, seed)
    return {
        "cpu": time.process_time() - begun,
        "wall": time.perf_counter() - clock,
        "simulations": simulations,
    }


def tables(rows: list[dict[str, Any]]) -> str:
    """Microseconds per simulation, ours and the peers'."""
    lines = [f"| | {' | '.join(f'{dim} parameters' for dim in DIMS)} |", "| --- |" + " --- |" * len(DIMS)]
    for name in dict.fromkeys(row["method"] for row in rows):
        cells = []
        for dim in DIMS:
            spent = [
                1e6 * row["cpu"] / row["simulations"] for row in rows if (row["method"], row["dim"]) == (name, dim)
            ]
            cells.append(f"{statistics.median(spent):,.1f}" if spent else "")
        shown = f"`{name.split(',')[0]}`{name[len(name.split(',')[0]) :]}" if name in OURS else name
        lines.append(f"| {shown} | {' | '.join(cells)} |")
    return "\n".join(lines)


@functools.cache
def contestant(method: str) -> Callable[[int, int], int]:
    """What infers, from (dim, seed) to the simulations it used; run once, small, so that nothing is timed but work."""
    if method in OURS:
        OURS[method].infer(question(2, 0, 2 * PARTICLES))
        return functools.partial(ours, method)
    if method == PYABC:
        importlib.import_module("pyabc")
        return pyabc_smc
    if method == SBI:
        sbi_smc(2, 0)
        return sbi_smc
    return simulator_alone


def question(dim: int, seed: int, budget: int = BUDGET) -> Question:
    """The mean of a normal law, of whose draw each entry is 0.3."""
    return Question(GaussianLinear(dim=dim), torch.full((dim,), 0.3), budget, seed, progress=False)


def ours(method: str, dim: int, seed: int) -> int:
    """One of our methods."""
    return OURS[method].infer(question(dim, seed)).simulations


def simulator_alone(dim: int, seed: int) -> int:
    """The part of the cost that is not ABC: drawing from the prior and simulating."""
    simulator = GaussianLinear(dim=dim)
    simulator.simulate(simulator.sample_prior(BUDGET, seed), seed)
    return BUDGET


def sbi_smc(dim: int, seed: int) -> int:
    """The peer in sbi."""
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
    """The peer pyABC, as it comes."""
    pyabc: Any = importlib.import_module("pyabc")
    logging.getLogger("ABC").setLevel(logging.ERROR)
    simulator, random = GaussianLinear(dim=dim), np.random.default_rng(seed)
    names = simulator.parameter_names
    prior_sd, noise_sd = simulator.prior_variance**0.5, simulator.noise_variance**0.5

    def simulate(theta: dict[str, float]) -> dict[str, float]:
        return {name: theta[name] + noise_sd * random.standard_normal() for name in names}

    peer = pyabc.ABCSMC(
        simulate,
        pyabc.Distribution(**{name: pyabc.RV("norm", 0, prior_sd) for name in names}),
        pyabc.PNormDistance(p=2),
        population_size=PARTICLES,
        sampler=pyabc.sampler.SingleCoreSampler(),
    )
    with tempfile.TemporaryDirectory() as folder:
        peer.new(f"sqlite:///{Path(folder) / 'runs.db'}", dict.fromkeys(names, 0.3))
        return int(peer.run(max_total_nr_simulations=BUDGET // 4).total_nr_simulations)
