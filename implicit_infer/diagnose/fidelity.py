r"""Do draws lie where data lie, and do they lie wherever data lie: precision and recall, density and coverage.

Each data point :math:`x_i` owns the ball that reaches to its k-th nearest neighbour among the data, each draw
:math:`y_j` one among the draws.

- *Precision* is the share of draws inside any ball of the data, *recall* that of data inside any ball of the draws.
- *Density* counts in how many balls of the data a draw lies, over k: outliers, whose balls are huge, weigh little.
- *Coverage* is the share of data whose ball holds a draw.

For two sets of one law, of N data and M draws, whatever the law,

.. math:: \mathbb{E}[\text{density}] = 1, \quad
    \mathbb{E}[\text{coverage}] = 1 - \frac{(N-1) \cdots (N-k)}{(M+N-1) \cdots (M+N-k)},

while precision and recall of one law depend on it. All are taken in the space that the samples are given in: of images,
give features.

References:
    | Improved Precision and Recall Metric for Assessing Generative Models (Kynkäänniemi et al., 2019)
    | https://arxiv.org/abs/1904.06991
    | Reliable Fidelity and Diversity Metrics for Generative Models (Naeem et al., 2020)
    | https://arxiv.org/abs/2002.09797
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from implicit_infer.diagnose.neighbours import BLOCK, as_two, distances, radii


@dataclass(frozen=True)
class Fidelity:
    """What :func:`fidelity` found.

    Attributes:
        precision: Share of draws inside the data's manifold.
        recall: Share of data inside the draws' manifold.
        density: Mean number of the data's balls that a draw lies in, over k; 1 on average where both laws are one.
        coverage: Share of data whose ball holds a draw.
        expected_coverage: What ``coverage`` is on average where both laws are one.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    expected_coverage: float


def fidelity(draws: Any, data: Any, *, k: int = 5) -> Fidelity:
    """Hold draws of a model against data; see the module.

    Args:
        draws: Draws of the model, with shape (M, ...).
        data: Data, with shape (N, ...); held-out ones, or copies of the training data count as good.
        k: Which nearest neighbour a ball reaches to.

    Returns:
        The four figures.

    Raises:
        ValueError: If a set has not more than k rows, widths differ, or a value is not finite.
    """
    if k < 1:
        raise ValueError(f"k: expected a positive int; got {k}")
    y, x = as_two(draws, data, ("draws", "data"), k + 1)
    radius_x, radius_y = radii(x, k), radii(y, k)
    inside = torch.zeros(len(y), device=x.device)
    covered, recalled = (torch.zeros(len(x), dtype=torch.bool, device=x.device) for _ in range(2))
    for start in range(0, len(y), BLOCK):
        found = distances(y[start : start + BLOCK], x)
        within = found <= radius_x
        inside[start : start + BLOCK] = within.sum(1).float()
        covered |= within.any(0)
        recalled |= (found <= radius_y[start : start + BLOCK, None]).any(0)
    n, m = len(x), len(y)
    missed = math.prod((n - i) / (m + n - i) for i in range(1, k + 1))
    return Fidelity(
        precision=float((inside > 0).double().mean()),
        recall=float(recalled.double().mean()),
        density=float(inside.double().mean()) / k,
        coverage=float(covered.double().mean()),
        expected_coverage=1 - missed,
    )
