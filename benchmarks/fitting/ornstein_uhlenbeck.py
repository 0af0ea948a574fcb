"""An Ornstein-Uhlenbeck series against its exact likelihood."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.fitting import cells
from implicit_simulators import OrnsteinUhlenbeck, Simulator

NAME = "ornstein-uhlenbeck"
TITLE = "Ornstein-Uhlenbeck"
ABOUT = """\
One series of 120 values at kappa = 0.5, mu = 0.06, sigma = 0.03, seen through sufficient statistics by all methods
but AVO, which compares pairs of successive values. Lost deviance is against the numerical maximum of the exact
likelihood; the truth itself loses about 3. Where the distance of summaries weighs them all alike, synthetic
likelihood weighs them as they vary together, and loses less."""
KEYS = cells.KEYS
WINDOW = 2
METHODS = ("synthetic-likelihood", "ratio-likelihood", "avo", "local-surrogate", "cma-es", "nelder-mead")
TRUTH = (0.5, 0.06, 0.03)


def data(seed: int) -> Tensor:
    """One series at the truth."""
    return OrnsteinUhlenbeck().simulate(torch.tensor([TRUTH]), seed + 10**6)


def deviance(simulator: Simulator, x: Tensor, theta: Tensor) -> float:
    """By the exact likelihood."""
    starts = torch.tensor([TRUTH, (1.5, 0.06, 0.03)])
    return cells.lost(simulator, x, theta, cells.maximum_likelihood(simulator, x, starts))


PROBLEM = cells.Problem(lambda _: OrnsteinUhlenbeck(), TRUTH, data, deviance)


def wanted(seeds: list[int]) -> list[dict[str, Any]]:
    """All methods."""
    return cells.wanted(seeds, METHODS)


def run(method: str, budget: int, seed: int) -> dict[str, Any]:
    """One fit."""
    return cells.run(PROBLEM, cells.methods(window=WINDOW)[method], budget, seed)


def tables(rows: list[dict[str, Any]]) -> str:
    """The table."""
    return cells.tables(PROBLEM, rows, METHODS)
