"""The mean of Poisson counts, 7: the first example of adversarial variational optimisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.fitting import cells
from implicit_simulators import PoissonSource, Simulator

NAME = "poisson"
TITLE = "Poisson counts"
ABOUT = """\
20,000 counts with mean 7, as in the paper on AVO (Louppe et al., 2019), whose figure shows a proposal with its mass
at log 7; it prints no number. Lost deviance is twice the log-likelihood that the estimate lost against the exact
maximum: the truth itself loses 1 on average, from the data's noise alone. AVO's comparison is the Jensen-Shannon
GAN; the local surrogate's and the plain searches' is the energy distance; these look at 1,000 of the data at a
time, which alone costs about 20, and a larger budget helps them little beyond."""
KEYS = cells.KEYS
METHODS = ("avo", "ratio-likelihood", "local-surrogate", "cma-es", "nelder-mead")
COUNT = 20_000


def data(seed: int) -> Tensor:
    """Counts with mean 7."""
    return PoissonSource().simulate(torch.full((COUNT, 1), 7.0), seed + 10**6)


def deviance(simulator: Simulator, counts: Tensor, theta: Tensor) -> float:
    """By the sum of the counts, which is sufficient."""
    mean, guess = float(counts.double().mean()), float(theta)
    ratio = torch.tensor([mean / guess], dtype=torch.float64)
    return 2 * len(counts) * (mean * float(ratio.log()) - mean + guess)


PROBLEM = cells.Problem(lambda _: PoissonSource(), (7.0,), data, deviance)


def wanted(seeds: list[int]) -> list[dict[str, Any]]:
    """All methods."""
    return cells.wanted(seeds, METHODS)


def run(method: str, budget: int, seed: int) -> dict[str, Any]:
    """One fit."""
    return cells.run(PROBLEM, cells.methods()[method], budget, seed)


def tables(rows: list[dict[str, Any]]) -> str:
    """The table."""
    return cells.tables(PROBLEM, rows, METHODS)
