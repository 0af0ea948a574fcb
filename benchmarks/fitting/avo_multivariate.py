r"""Two means behind a linear mixture of five hidden numbers: the second example of the paper on AVO.

.. math:: x = R z, \quad z_1 \sim N(\alpha, 1), \; z_2 \sim N(\beta, 3^2), \;
    z_3 \sim \tfrac12 N(-2, 1) + \tfrac12 N(2, 0.5^2), \; z_4 \sim \mathrm{Exp}(3), \; z_5 \sim \mathrm{Exp}(0.5)

with the matrix R of the authors' code, which is symmetric but for the sign of one entry. As R is known here, the exact
maximum is the mean of :math:`z_1` and :math:`z_2`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from benchmarks.fitting import cells
from implicit_simulators import Simulator, Stream

NAME = "avo-multivariate"
TITLE = "Two means in five dimensions"
ABOUT = """\
20,000 observations at (1, -1) of the example of section 4.2 of the paper on AVO, with its matrix; its figure shows a
proposal that contracts around the truth, and it prints no number. The prior is the paper's first proposal, a standard
normal. Lost deviance as above: the truth itself loses 2 on average."""
KEYS = cells.KEYS
METHODS = ("avo", "ratio-likelihood", "local-surrogate", "cma-es", "nelder-mead")
COUNT = 20_000
TRUTH = (1.0, -1.0)

MIXING = torch.tensor(
    [
        [1.31229955, 0.10499961, 0.48310515, -0.3249938, -0.26387927],
        [0.10499961, 1.15833058, -0.55865473, 0.25275522, -0.39790775],
        [0.48310515, -0.55865473, 2.25874579, -0.52087938, -0.39271231],
        [0.3249938, 0.25275522, -0.52087938, 1.4034925, -0.63521059],
        [-0.26387927, -0.39790775, -0.39271231, -0.63521059, 1.0],
    ],
    dtype=torch.float64,
)
"""R of the authors' code."""


class Mixed(Simulator):
    """The simulator of the example."""

    name = "avo-multivariate"
    parameter_names = ("alpha", "beta")
    reference_theta = TRUTH

    def __init__(self) -> None:
        self.event_shape = torch.Size([5])
        self.prior = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        random, n = stream.torch(), len(theta)
        noise = torch.randn(n, 3, generator=random, dtype=torch.float64)
        uniform = torch.rand(n, 3, generator=random, dtype=torch.float64)
        low = uniform[:, 0] < 0.5
        third = torch.where(low, -2.0, 2.0) + torch.where(low, 1.0, 0.5) * noise[:, 2]
        waits = -torch.log1p(-uniform[:, 1:]) / torch.tensor([3.0, 0.5], dtype=torch.float64)
        means = theta.detach().double() + noise[:, :2] * torch.tensor([1.0, 3.0], dtype=torch.float64)
        hidden = torch.cat((means, third[:, None], waits), 1)
        return (hidden @ MIXING.T).to(theta.dtype)


def data(seed: int) -> Tensor:
    """Observations at the truth."""
    return Mixed().simulate(torch.tensor([TRUTH]).repeat(COUNT, 1), seed + 10**6)


def deviance(simulator: Simulator, x: Tensor, theta: Tensor) -> float:
    """By the means of the hidden numbers, which are sufficient."""
    hidden = torch.linalg.solve(MIXING, x.double().T).T[:, :2].mean(0)
    away = (theta.double() - hidden) / torch.tensor([1.0, 3.0], dtype=torch.float64)
    return len(x) * float(away.square().sum())


PROBLEM = cells.Problem(lambda _: Mixed(), TRUTH, data, deviance)


def wanted(seeds: list[int]) -> list[dict[str, Any]]:
    """All methods."""
    return cells.wanted(seeds, METHODS)


def run(method: str, budget: int, seed: int) -> dict[str, Any]:
    """One fit."""
    return cells.run(PROBLEM, cells.methods()[method], budget, seed)


def tables(rows: list[dict[str, Any]]) -> str:
    """The table."""
    return cells.tables(PROBLEM, rows, METHODS)
