"""g-and-k on the daily returns of the Canadian dollar, against the numerical maximum of its likelihood."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from benchmarks.fitting import cells
from implicit_simulators import GAndK, Simulator

NAME = "g-and-k"
TITLE = "g-and-k on exchange rates"
ABOUT = """\
1,866 daily log returns of the Canadian dollar in percent, as independent draws of a g-and-k law, with the prior of
Prangle (2020). Lost deviance is against the numerical maximum of the exact likelihood, found by inverting the quantile
function; four parameters at their true values would lose 4 on average. The data are the same for all seeds."""
KEYS = cells.KEYS
METHODS = ("avo", "ratio-likelihood", "local-surrogate", "cma-es", "nelder-mead")
CURRENCY = "exchange-rates-cd"


def data(seed: int) -> Tensor:
    """The returns, one in a row."""
    return GAndK.for_observation(CURRENCY).observation(CURRENCY)[:, None]


@cache
def best() -> tuple[float, ...]:
    """A, B, g and k with the highest likelihood."""
    exact = GAndK.for_observation(CURRENCY)
    starts = torch.tensor([[0.0, 0.15, 0.1, 0.2], [0.0, 0.2, -0.2, 0.1], [0.01, 0.1, 0.3, 0.5]])
    return tuple(cells.maximum_likelihood(exact, data(0)[:, 0][None], starts).tolist())


def deviance(simulator: Simulator, x: Tensor, theta: Tensor) -> float:
    """By the exact likelihood."""
    return cells.lost(GAndK.for_observation(CURRENCY), x[:, 0][None], theta, torch.tensor(best(), dtype=torch.float64))


PROBLEM = cells.Problem(lambda _: GAndK(1, "returns"), None, data, deviance)


def wanted(seeds: list[int]) -> list[dict[str, Any]]:
    """All methods."""
    return cells.wanted(seeds, METHODS, {"ratio-likelihood": cells.Effort(5)})


def run(method: str, budget: int, seed: int) -> dict[str, Any]:
    """One fit."""
    return cells.run(PROBLEM, cells.methods()[method], budget, seed)


def tables(rows: list[dict[str, Any]]) -> str:
    """The table, and the maximum."""
    found = ", ".join(f"{name} = {value:.4f}" for name, value in zip("ABgk", best(), strict=True))
    return cells.tables(PROBLEM, rows, METHODS, f"The maximum of the exact likelihood: {found}.")
