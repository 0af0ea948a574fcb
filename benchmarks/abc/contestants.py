"""Who is measured for accuracy: our ABC methods by the label they have in the tables, and sbi's sequential ABC."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from implicit_infer.abc import SMCABC, AdjustedABC, ForestABC, RejectionABC
from implicit_infer.posteriors.method import Method, Question
from implicit_simulators import Simulator

SBI = "sbi SMCABC"
OURS: dict[str, Method] = {
    "adjusted-abc": AdjustedABC(),
    "rejection-abc": RejectionABC(),
    "rejection-abc, linear": RejectionABC(quantile=0.1, adjust="linear"),
    "smc-abc": SMCABC(),
    "smc-abc, linear": SMCABC(particles=1000, adjust="linear"),
    "forest-abc": ForestABC(),
}
METHODS = (*OURS, SBI)


def draws_of(label: str, simulator: Simulator, observed: Tensor, budget: int, seed: int, draws: int) -> Tensor:
    """Draws of a contestant's posterior, with shape (draws, d); a peer's particles, repeated if they are fewer."""
    if label == SBI:
        return _sbi(simulator, observed, budget, seed, draws)
    posterior = OURS[label].infer(Question(simulator, observed, budget, seed, progress=False))
    return posterior.sample((draws,), seed=seed)


def _sbi(simulator: Simulator, observed: Tensor, budget: int, seed: int, draws: int) -> Tensor:
    """With the settings that the SBI benchmark's paper has for this budget."""
    from sbi.inference.abc import smcabc

    # more particles for more simulations, as in the paper's appendix
    particles = 100 if budget <= 10_000 else 1_000
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        peer: Any = smcabc.SMCABC(
            lambda theta: simulator.simulate(theta, seed=int(torch.randint(2**31, ()))),
            simulator.prior,
            simulation_batch_size=1000,
            show_progress_bars=False,
        )
        found: Tensor = peer(
            observed[None],
            num_particles=particles,
            num_initial_pop=10 * particles,
            num_simulations=budget,
            epsilon_decay=0.2,
            distance_based_decay=True,
        )
        return found[torch.randint(len(found), (draws,))]
