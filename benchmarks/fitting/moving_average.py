"""A moving average of order two against its exact likelihood."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.fitting import cells
from implicit_simulators import MovingAverage, Simulator

NAME = "moving-average"
TITLE = "MA(2)"
ABOUT = """\
One series of 100 values at (0.6, 0.2), seen through its variance and first two autocovariances by all methods (Marin
et al., 2012, leave out the variance, without which the two are hardly told) but AVO, which compares stretches of
three. Lost deviance is against the numerical maximum of the exact likelihood of the whole series, which no method
that sees three statistics reaches; the truth itself loses about 2."""
KEYS = cells.KEYS
WINDOW = 3
METHODS = ("synthetic-likelihood", "ratio-likelihood", "avo", "local-surrogate", "cma-es", "nelder-mead")
TRUTH = (0.6, 0.2)


class Seen(MovingAverage):
    """With the variance among its summaries."""

    def summarize(self, x: Tensor) -> Tensor:
        """Autocovariances of lags 0, 1 and 2, with shape (n, 3)."""
        return torch.cat((x.square().mean(1, keepdim=True), super().summarize(x)), 1)


def data(seed: int) -> Tensor:
    """One series at the truth."""
    return Seen().simulate(torch.tensor([TRUTH]), seed + 10**6)


def deviance(simulator: Simulator, x: Tensor, theta: Tensor) -> float:
    """By the exact likelihood."""
    starts = torch.tensor([TRUTH, (0.0, 0.0), (-0.3, 0.5)])
    return cells.lost(simulator, x, theta, cells.maximum_likelihood(simulator, x, starts))


PROBLEM = cells.Problem(lambda _: Seen(), TRUTH, data, deviance)


def wanted(seeds: list[int]) -> list[dict[str, Any]]:
    """All methods."""
    return cells.wanted(seeds, METHODS)


def run(method: str, budget: int, seed: int) -> dict[str, Any]:
    """One fit."""
    return cells.run(PROBLEM, cells.methods(window=WINDOW)[method], budget, seed)


def tables(rows: list[dict[str, Any]]) -> str:
    """The table."""
    return cells.tables(PROBLEM, rows, METHODS)
