r"""The kernel inception distance, of any features: unbiased, with an error bar, and zero on average for one law.

.. math:: \mathrm{KID} = \mathrm{MMD}^2_u(\phi(X), \phi(Y)), \quad
    k(a, b) = \left( \frac{a^\top b}{d} + 1 \right)^3,

the mean over random subsets, whose spread gives the standard error. The paper's features are those of an Inception
network; here they are the user's, or the samples themselves. It sees moments up to the third.

References:
    | Demystifying MMD GANs (Bińkowski et al., 2018)
    | https://arxiv.org/abs/1801.01401
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.discrepancies import MMD
from implicit_estimators.estimate import Estimate
from implicit_estimators.kernels import Polynomial
from implicit_estimators.seeds import Seed, generator
from implicit_infer.diagnose.neighbours import as_two
from implicit_simulators.base import as_tensor


def kernel_distance(
    draws: Any,
    data: Any,
    *,
    features: Callable[[Tensor], Tensor] | None = None,
    subsets: int = 100,
    rows: int = 1000,
    seed: Seed = 0,
) -> Estimate:
    """The kernel distance of draws of a model from data; see the module.

    Args:
        draws: Draws of the model, with shape (n, ...).
        data: Data, with shape (m, ...).
        features: Turns samples (k, ...) into features (k, d); the flattened samples if None.
        subsets: Random subsets that are averaged.
        rows: Rows of each side in a subset; all, where there are fewer.
        seed: Seed of the subsets.

    Returns:
        The mean and its standard error, which is that of the mean over subsets: those overlap where subsets times rows
        exceed the samples, and the error is then too small.

    Raises:
        ValueError: If a set has fewer than 2 rows, widths differ, a value is not finite, or a count is too small.
    """
    if subsets < 2 or rows < 2:
        raise ValueError(f"subsets, rows: expected at least 2 of each; got {subsets}, {rows}")
    if features is not None:
        with torch.no_grad():
            draws, data = (features(as_tensor(x, name)) for x, name in ((draws, "draws"), (data, "data")))
    y, x = as_two(draws, data, ("draws", "data"))
    random = generator(seed, "cpu")
    mmd = MMD(kernel=Polynomial(degree=3))
    values = []
    for _ in range(subsets):
        some = [points[torch.randperm(len(points), generator=random)[:rows].to(points.device)] for points in (x, y)]
        values.append(mmd.squared(*some))
    found = torch.stack(values)
    return Estimate(float(found.mean()), float(found.std()) / math.sqrt(subsets))
