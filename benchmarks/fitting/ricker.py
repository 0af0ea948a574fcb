"""Ricker's map at Wood's parameters: one series of 50 counts, seen through his thirteen statistics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.fitting import cells
from implicit_simulators import Ricker, Simulator

NAME = "ricker"
TITLE = "Ricker's map"
ABOUT = """\
One series of 50 counts at log r = 3.8, sigma = 0.3, phi = 10 (Wood, 2010), seen through his statistics by all methods
but AVO, which compares stretches of five counts. The likelihood is not known; the error is the root mean square over
the parameters of the distance from the truth in standard deviations of the prior (0.58, 0.17 and 2.9), to which the
data's own noise contributes."""
KEYS = cells.KEYS
WINDOW = 5
METHODS = ("synthetic-likelihood", "ratio-likelihood", "avo", "local-surrogate", "cma-es", "nelder-mead")
TRUTH = (3.8, 0.3, 10.0)


def data(seed: int) -> Tensor:
    """One series at the truth."""
    return Ricker().simulate(torch.tensor([TRUTH]), seed + 10**6)


def distance(simulator: Simulator, x: Tensor, theta: Tensor) -> float:
    """Root mean square of the errors in units of the prior."""
    unit = simulator.prior.variance.sqrt()
    return float(((theta - torch.tensor(TRUTH)) / unit).square().mean().sqrt())


PROBLEM = cells.Problem(lambda x: Ricker(observed=x[0]), TRUTH, data, distance, "error")


def wanted(seeds: list[int]) -> list[dict[str, Any]]:
    """All methods."""
    return cells.wanted(seeds, METHODS)


def run(method: str, budget: int, seed: int) -> dict[str, Any]:
    """One fit."""
    return cells.run(PROBLEM, cells.methods(window=WINDOW)[method], budget, seed)


def tables(rows: list[dict[str, Any]]) -> str:
    """The table."""
    return cells.tables(PROBLEM, rows, METHODS)
