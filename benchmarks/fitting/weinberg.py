"""The Weinberg toy at (42, 0.9): two parameters, of which the data tell one function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.fitting import cells
from implicit_simulators import Simulator, Weinberg

NAME = "weinberg"
TITLE = "The Weinberg toy"
ABOUT = """\
20,000 cosines of muons at a beam energy of 42 and a Fermi constant of 0.9, as in the paper on AVO, which prints no
number. The data tell the product of two effects alone: every point of a curve is as likely as the truth, and errors of
the parameters say little. Lost deviance is against the best asymmetry; the truth itself loses 1 on average."""
KEYS = cells.KEYS
METHODS = ("avo", "ratio-likelihood", "local-surrogate", "cma-es", "nelder-mead")
COUNT = 20_000
TRUTH = (42.0, 0.9)


def data(seed: int) -> Tensor:
    """Cosines at the truth."""
    return Weinberg().simulate(torch.tensor([TRUTH]).repeat(COUNT, 1), seed + 10**6)


def deviance(simulator: Simulator, x: Tensor, theta: Tensor) -> float:
    """Against the highest likelihood over the asymmetry, which a search along one line of parameters finds."""
    from scipy.optimize import minimize_scalar

    exact = Weinberg(len(x))

    def at(fermi: float) -> float:
        point = torch.tensor([[42.0, fermi]], dtype=torch.float64)
        return -float(exact.log_likelihood(point, x[:, 0].double()))

    best = minimize_scalar(at, bounds=(0.3, 2.0), method="bounded", options={"xatol": 1e-7})
    value = float(exact.log_likelihood(theta[None].double(), x[:, 0].double()))
    return 2 * (-float(best.fun) - value)


PROBLEM = cells.Problem(lambda _: Weinberg(), TRUTH, data, deviance)


def wanted(seeds: list[int]) -> list[dict[str, Any]]:
    """All methods."""
    return cells.wanted(seeds, METHODS)


def run(method: str, budget: int, seed: int) -> dict[str, Any]:
    """One fit."""
    return cells.run(PROBLEM, cells.methods()[method], budget, seed)


def tables(rows: list[dict[str, Any]]) -> str:
    """The table."""
    return cells.tables(PROBLEM, rows, METHODS)
