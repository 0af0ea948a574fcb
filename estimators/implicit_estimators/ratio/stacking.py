r"""Scores that tell log-ratios apart on rows that none of them learned from, and the mixture of them that scores best.

Two proper scores of the classifier :math:`\sigma(v)` with v the log-ratio, p and q weighing the same:

.. math:: S_{\log} = \tfrac12 \mathbb{E}_p[\log(1 + e^{-v})] + \tfrac12 \mathbb{E}_q[\log(1 + e^{v})], \qquad
    S_{\exp} = \tfrac12 \mathbb{E}_p[e^{-v/2}] + \tfrac12 \mathbb{E}_q[e^{v/2}]

Both are least at :math:`v = \log p/q`. The log score looks at the middle, where p and q are about equal; the
exponential (Hellinger) score also sees the tails: a log-ratio that is wrong by 2 on a sure sample costs it
:math:`e`, and the log score 2. At the truth its terms have a finite variance for any p and q, for
:math:`\mathbb{E}_p[e^{-v}] = 1`.

References:
    | Strictly Proper Scoring Rules, Prediction, and Estimation (Gneiting and Raftery, 2007)
    | https://doi.org/10.1198/016214506000001437
    | Stacked Regressions (Breiman, 1996), for nonnegative weights chosen on held-out rows
    | https://doi.org/10.1007/BF00117832
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.divergences import softplus
from implicit_estimators.estimate import Estimate

FARTHEST = 200.0
"""Half log-ratios on the wrong side beyond this cost no more: their exponential is already of no use."""

Sides = tuple[Tensor, Tensor]
"""Something at rows of p, and the same at rows of q."""


def log_scores(log_ratios: Sides) -> Sides:
    """The terms of the log score at held-out rows of p, with shape (n,), and of q, with shape (m,), in nats."""
    return softplus(-log_ratios[0].double()), softplus(log_ratios[1].double())


def exponential_scores(log_ratios: Sides) -> Sides:
    """The terms of the exponential score; see :func:`log_scores`."""
    at_p, at_q = (-0.5 * log_ratios[0].double(), 0.5 * log_ratios[1].double())
    return at_p.clamp(max=FARTHEST).exp(), at_q.clamp(max=FARTHEST).exp()


def excess(scores: Sides, best: Sides) -> Estimate:
    """How much worse ``scores`` are than ``best`` on the mean of both sides, row by row. Rows with NaN are left out."""
    differences = [one - other for one, other in zip(scores, best, strict=True)]
    return Estimate.mean(*(difference[~difference.isnan()] for difference in differences))


def overlap(log_ratios: Sides) -> float:
    r"""The share of rows that could be of either set, those of p and of q weighing the same.

    A row counts :math:`4 D (1 - D)` with :math:`D = \sigma(v)`: 1 where p and q are equal, 0 where one is sure.
    """
    shares = [4 * (side.double().sigmoid() * (-side.double()).sigmoid()) for side in log_ratios]
    return 0.5 * sum(float(share.nanmean()) for share in shares)


def stacking_weights(log_ratios: Sequence[Sides]) -> Tensor:
    r"""The weights :math:`w \ge 0`, which sum to 1, of the mean log-ratio :math:`\sum_j w_j v_j` of least log score.

    The score is convex in w. They sum to 1 so that where all agree, the mixture does.

    Args:
        log_ratios: Those of each candidate, at the same held-out rows.

    Returns:
        Weights with shape (candidates,) in float64.
    """
    from scipy.optimize import minimize

    at_p, at_q = (torch.stack([sides[i].double() for sides in log_ratios]).cpu() for i in (0, 1))
    count = len(log_ratios)

    def score(weights: Any) -> tuple[float, Any]:
        w = torch.as_tensor(weights, dtype=torch.float64)
        mean_p, mean_q = w @ at_p, w @ at_q
        gradient = at_q @ mean_q.sigmoid() / at_q.shape[1] - at_p @ (-mean_p).sigmoid() / at_p.shape[1]
        return float(softplus(-mean_p).mean() + softplus(mean_q).mean()), gradient.numpy()

    even = {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: [1.0] * count}
    start: Any = [1 / count] * count
    settings: dict[str, Any] = {"bounds": [(0, 1)] * count, "constraints": even, "options": {"ftol": 1e-10}}
    found = minimize(score, start, jac=True, method="SLSQP", **settings)
    weights = torch.as_tensor(found.x, dtype=torch.float64).nan_to_num().clamp(min=0)
    if not float(weights.sum()) > 0:
        return torch.full((count,), 1 / count, dtype=torch.float64)
    weights = torch.where(weights < 1e-3 * weights.sum(), 0, weights)  # what counts for nothing need not be fitted
    return weights / weights.sum()


def mixed(log_ratios: Sequence[Sides], weights: Tensor) -> Sides:
    """The mean log-ratio under ``weights``, at the rows of p and of q."""
    at_p, at_q = (
        sum((w * sides[i].double() for w, sides in zip(weights.tolist(), log_ratios, strict=True) if w), torch.zeros(1))
        for i in (0, 1)
    )
    return at_p, at_q


def stacking_gain(log_ratios: Sequence[Sides], best: int) -> Estimate:
    """How much better the stacking scores than candidate ``best``, by weights that did not see the row in question.

    Weights chosen on the even rows are judged on the odd ones, and the other way round.
    """
    parts = []
    for half in (0, 1):
        weights = stacking_weights([(sides[0][half::2], sides[1][half::2]) for sides in log_ratios])
        others: list[Sides] = [(sides[0][1 - half :: 2], sides[1][1 - half :: 2]) for sides in log_ratios]
        parts.append((log_scores(others[best]), log_scores(mixed(others, weights))))
    alone, together = (
        (torch.cat([parts[0][which][0], parts[1][which][0]]), torch.cat([parts[0][which][1], parts[1][which][1]]))
        for which in (0, 1)
    )
    gain = excess(alone, together)
    return gain if math.isfinite(gain) else Estimate(0.0, math.inf)
