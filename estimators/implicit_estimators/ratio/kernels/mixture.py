r"""The weights of a mixture with most likelihood, by an interior-point method with a certificate.

.. math:: \max_{w \ge 0, \, \sum_l w_l = 1} \; F(w) = \frac{1}{n} \sum_i \log \sum_l K_{il} w_l

F is concave. With :math:`g_l = \frac{1}{n} \sum_i K_{il} / (K w)_i`, the optimum is where :math:`g_l \le 1`, and
:math:`g_l = 1` wherever :math:`w_l > 0` (Karush, Kuhn and Tucker). As :math:`F(v) - F(w) \le \log \sum_l v_l g_l` for
any mixture v, by Jensen's inequality, :math:`\log \max_l g_l` bounds what is left to gain: that is the gap.

The sum may be dropped as a constraint if it is subtracted from F (its multiplier is 1). What is left, with a dual
:math:`z = 1 - g` and :math:`w_l z_l = \mu` falling to 0, is solved by Newton's method. Unlike EM, which needs thousands
of steps where kernels overlap, it takes a dozen or two whatever their condition.

References:
    | Convex Optimization, Shape Constraints, Compound Decisions, and Empirical Bayes Rules (Koenker and Mizera, 2014)
    | https://doi.org/10.1080/01621459.2013.869224
    | A Fast Algorithm for Maximum Likelihood Estimation of Mixture Proportions (Kim et al., 2020)
    | https://arxiv.org/abs/1806.01412
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 2048
"""Rows whose weighted products are formed at a time."""


def mixture_weights(densities: Tensor, tolerance: float = 1e-6, steps: int = 100) -> tuple[Tensor, float]:
    """Weights of the components under which the rows are most likely.

    Args:
        densities: K, not negative, with shape (n, b), in float64; a factor on a row changes nothing. No row may be 0.
        tolerance: The gap, in nats for a row, at which it stops.
        steps: Largest number of Newton steps.

    Returns:
        Weights with shape (b,), which sum to 1, and the gap they leave.
    """
    count = densities.shape[1]
    weights = densities.new_full((count,), 1 / count)
    slack = torch.ones_like(weights)
    best, least = weights, torch.inf
    for _ in range(steps):
        total = densities @ weights
        gain = densities.T @ (1 / total) / len(densities)
        gap = float((gain.max() * weights.sum()).log())
        if gap < least:
            best, least = weights / weights.sum(), gap
        if gap <= tolerance:
            break
        barrier = 0.1 * float(weights @ slack) / count
        curvature = _curvature(densities, total)
        curvature.diagonal().add_(slack / weights)
        factor, failed = torch.linalg.cholesky_ex(curvature)
        if int(failed):
            break
        slope = 1 - gain - barrier / weights
        step = -torch.cholesky_solve(slope[:, None], factor)[:, 0]
        slack_step = (barrier - slack * step) / weights - slack
        length = _backtrack(densities, weights, step, slope, total, barrier, _inside(weights, step))
        weights = weights + length * step
        slack = slack + _inside(slack, slack_step) * slack_step
    return best, max(least, 0.0)


def _curvature(densities: Tensor, total: Tensor) -> Tensor:
    """Minus the second derivative of F."""
    result = densities.new_zeros(densities.shape[1], densities.shape[1])
    for rows, sums in zip(densities.split(BLOCK), total.split(BLOCK), strict=True):
        scaled = rows / sums[:, None]
        result.addmm_(scaled.T, scaled)
    return result / len(densities)


def _inside(values: Tensor, step: Tensor) -> float:
    """The longest step, at most 1, that keeps values positive."""
    ratio = torch.where(step < 0, -values / step, torch.inf)
    return min(1.0, 0.99 * float(ratio.min()))


def _backtrack(
    densities: Tensor, weights: Tensor, step: Tensor, slope: Tensor, total: Tensor, barrier: float, length: float
) -> float:
    """Halve ``length`` until the objective with its barrier falls as the slope promises."""
    change, promised = densities @ step, float(slope @ step)
    for _ in range(30):
        fall = (
            length * step.sum()
            - torch.log1p(length * change / total).mean()
            - barrier * torch.log1p(length * step / weights).sum()
        )
        if float(fall) <= 1e-4 * length * promised + 1e-14:
            break
        length /= 2
    return length
