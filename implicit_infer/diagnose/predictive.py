r"""Posterior-predictive checks: does what the posterior predicts look like what was observed?

Parameters are drawn from the posterior and simulated. Two questions are asked of the result:

- *Coverage*: which share of the observed values lies inside the central 90 % band of their predictions, value by value?
- *An omnibus p-value*: is the observation as a whole an outlier among the predictions? Observation and n predictions
  are scored by the energy score of each against all others,

  .. math:: S_i = \frac{1}{n} \sum_{j \ne i} \|z_i - z_j\| - \frac{1}{2 n (n - 1)} \sum_{j, k \ne i} \|z_j - z_k\|,

  in the space of robustly standardised summaries, and p is the share of scores that are at least the observation's.
  If the observation is itself a draw of the predictive law, all n + 1 are exchangeable and p is exactly uniform on
  1/(n+1), ..., 1. The second sum is the total less twice the first, so that S ranks the points as their mean distance
  to the others does.

A small p says that the model or the posterior is wrong. A large one does not say that the posterior is right: one that
is too wide predicts the observation too easily.

References:
    | Strictly proper scoring rules, prediction, and estimation (Gneiting & Raftery, 2007)
    | https://doi.org/10.1198/016214506000001437
    | Posterior predictive assessment of model fitness via realized discrepancies (Gelman, Meng & Stern, 1996)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_infer.abc.distances import inverse, robust_scale
from implicit_infer.blocks import not_finite
from implicit_infer.executors import run_blocks
from implicit_infer.posteriors.base import Posterior
from implicit_infer.simulate import check_count
from implicit_simulators import Seed, Simulator, resolve_seed
from implicit_simulators.base import as_tensor

PAIRS = 2**22
"""Distances held in memory at once."""

FARTHEST = 1e4
"""Robust standard deviations beyond which a prediction is only far."""


@dataclass(frozen=True)
class PredictiveCheck:
    """How well predictions agree with the observation.

    Attributes:
        coverage_90: Share of the observed values inside the central 90 % band of their predictions; NaN if fewer than
            two predictions are finite.
        p_value: Omnibus posterior-predictive p-value, in (0, 1]; NaN likewise.
        failed: Predictions that are not finite; they are left out.
        n: Predictions, the failed included.
    """

    coverage_90: float
    p_value: float
    failed: int
    n: int


def posterior_predictive(posterior: Posterior, n: int, seed: Seed = None, *, x: Any = None, workers: int = 1) -> Tensor:
    r"""Simulate at ``n`` draws from a posterior.

    Args:
        posterior: Any posterior.
        n: How many.
        seed: An int, a ``torch.Generator`` or None.
        x: The observation that is conditioned on; the one that the posterior was made for if None.
        workers: Processes for simulation.

    Returns:
        Simulations with shape (n, \*event_shape). Rows that failed are NaN.

    Raises:
        ValueError: If ``n`` is not positive.
    """
    n, seed = check_count(n, "n"), resolve_seed(seed)
    simulator = posterior.simulator
    theta = posterior.sample((n,), x, seed=seed)
    blocks = enumerate(theta.split(simulator.block))
    made = sorted(run_blocks(simulator, blocks, seed, workers=workers), key=lambda block: block.index)
    return torch.cat([block.x for block in made])


def predictive_check(simulator: Simulator, predictive_x: Any, observed: Any) -> PredictiveCheck:
    r"""Compare predictions with the observation.

    Args:
        simulator: Whose ``summarize`` makes the space of the p-value.
        predictive_x: Predictions with shape (n, \*event_shape).
        observed: The observation, with shape ``event_shape``.

    Raises:
        ValueError: If shapes do not fit, or the observation or its summaries are not finite.
    """
    x = as_tensor(predictive_x, "predictive_x")
    if x.ndim == 0 or x.shape[1:] != simulator.event_shape or len(x) == 0:
        expected = ", ".join(map(str, ("n", *simulator.event_shape)))
        raise ValueError(f"predictive_x: expected shape ({expected}); got {tuple(x.shape)}")
    observed = simulator.check_observation(observed)
    target = simulator.summarize(observed[None]).double()
    if not torch.isfinite(target).all():
        raise ValueError("observed: its summary statistics are not finite")
    bad = not_finite(x)
    valid = x[~bad]
    features = simulator.summarize(valid).double() if len(valid) else target[:0]
    usable = ~not_finite(features)
    failed = len(x) - int(usable.sum())
    if len(x) - failed < 2:
        return PredictiveCheck(torch.nan, torch.nan, failed, len(x))
    return PredictiveCheck(_coverage(valid[usable], observed), _p_value(features[usable], target), failed, len(x))


def _coverage(x: Tensor, observed: Tensor) -> float:
    values = x.reshape(len(x), -1).double()
    low, high = (torch.stack([column.quantile(q) for column in values.T]) for q in (0.05, 0.95))
    flat = observed.reshape(-1).double()
    return float(((low <= flat) & (flat <= high)).double().mean())


def _p_value(features: Tensor, target: Tensor) -> float:
    points = torch.cat([target, features])
    # scaled over the observation, too: only then are all points exchangeable
    scale = robust_scale(points)
    # clamped, lest one prediction that explodes drowns the differences between all others in rounding
    points = ((points - points.median(0).values) * inverse(scale)).clamp(-FARTHEST, FARTHEST)
    rows = max(1, PAIRS // len(points))
    totals = torch.cat([torch.cdist(part, points).sum(1) for part in points.split(rows)])
    n = len(features)
    scores = totals / n - (totals.sum() - 2 * totals) / (2 * n * (n - 1))
    return float((scores >= scores[0]).double().mean())
