r"""What a learned ratio says of itself: on pairs that it was not trained on, it must be normalised and calibrated.

.. math:: \mathbb{E}_{p(\theta)}[r(\theta, x)] = 1 \text{ for each } x,

and logistic regression of "are these a pair" on :math:`\log r` has intercept 0 and slope 1: a slope below 1 is a ratio
that is too sure of itself. Multiclass losses learn h up to a function of x; it is then first normalised at each x over
the held-out parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.ratio.check import calibration_line

ENOUGH = 20
"""Effective parameters from which on their mean tells the ratio's at an x, and how many such x make a verdict."""
ROWS = 512
"""Most held-out x."""
OTHERS = 512
"""Most parameters that each of them meets."""


@torch.no_grad()
def self_check(
    log_ratio: Callable[[Tensor, Tensor], Tensor], z: Tensor, s: Tensor, normalised: bool
) -> tuple[dict[str, Any], list[str]]:
    """Check a ratio on held-out pairs.

    Args:
        log_ratio: Log r at W parameters (B, W, d) for each of B summaries (B, k), with shape (B, W).
        z: The pairs' parameters, with shape (n, d).
        s: Their summaries, with shape (n, k).
        normalised: Whether the loss tells the constant.

    Returns:
        Figures by name, and sentences on what is wrong.
    """
    n = min(len(z), ROWS)
    others = min(len(z) - 1, OTHERS)
    if n < 2:
        return {}, []
    # each x meets its own parameter and those that follow in the list
    rows = (torch.arange(n)[:, None] + torch.arange(others + 1)) % len(z)
    h = log_ratio(z[rows], s[:n]).double()
    if not normalised:
        h = h - (h[:, 1:].logsumexp(1, keepdim=True) - math.log(others))
    own, product = h[:, 0], h[:, 1:]
    # where the posterior is so narrow that next to none of the parameters lies in it, their mean is small and sure
    effective = (2 * product.logsumexp(1) - (2 * product).logsumexp(1)).exp()
    at_each = product.exp().mean(1)[effective >= ENOUGH]
    mean, error = float(at_each.mean()), float(at_each.std()) / max(1, len(at_each)) ** 0.5
    _, slope = calibration_line(own, h[:, 1])
    figures: dict[str, Any] = {
        "ratio_mean": mean if len(at_each) else None,
        "ratio_mean_error": error if len(at_each) > 1 else None,
        "calibration_slope": float(slope),
        "calibration_slope_error": slope.standard_error,
    }
    warnings = []
    if normalised and len(at_each) >= ENOUGH and abs(mean - 1) > max(4 * error, 0.1):
        warnings.append(f"the ratio is not normalised: its mean over the prior is {mean:.2f} and not 1")
    if abs(float(slope) - 1) > max(4 * slope.standard_error, 0.1):
        how = "too sure of itself" if slope < 1 else "not sure enough"
        warnings.append(f"the ratio is {how} on held-out pairs: its calibration slope is {float(slope):.2f} and not 1")
    return figures, warnings
