r"""Mutual information of two variables from paired samples: the ratio of the joint law to the product of its marginals.

.. math:: I(x; y) = KL\left(p(x, y) \,\|\, p(x) p(y)\right) = \mathbb{E}_{p(x, y)}[\log r(x, y)]

Samples of the product are the rows with y moved to other rows. Rows are split before anything is moved, so that no x
and no y that the ratio was learned from occurs among those it is judged by.

The estimate is the mean of :math:`\log \hat r + a` over pairs that were set aside. The constant normalises the ratio
where both laws have samples, by Bennett's acceptance ratio,

.. math:: \mathbb{E}_{p(x, y)}[1 - D_a] = \mathbb{E}_{p(x) p(y)}[D_a], \quad D_a = \sigma(\log \hat r + a),

whose terms are below 1 however large the information is, and makes the estimate 0 on average where x and y are
independent, whatever noise was learned. Where the laws share no samples nothing can be said of a, and a normal prior
with standard deviation 1 keeps it near 0.

References:
    | Efficient estimation of free energy differences from Monte Carlo data (Bennett, 1976)
    | https://doi.org/10.1016/0021-9991(76)90078-4
    | Mutual Information Neural Estimation (Belghazi et al., 2018), for the shuffled pairs
    | https://arxiv.org/abs/1801.04062
    | A Class of Statistics with Asymptotically Normal Distribution (Hoeffding, 1948), for the error of paired terms
    | https://doi.org/10.1214/aoms/1177730196
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.estimate import Estimate
from implicit_estimators.inputs import as_samples
from implicit_estimators.networks.train import Progress, split
from implicit_estimators.ratio.base import RatioEstimator
from implicit_estimators.seeds import Seed, resolve_seed, stream

SHIFTS = 16
"""Rows that each y is moved to when the ratio is judged."""


class MutualInformation(Estimate):
    """An estimate in nats, with ``standard_error`` and the fitted ``ratio`` of the joint law to the product.

    Attributes:
        ratio: Its ``log_ratio`` takes rows (x, y) side by side: the pointwise mutual information.
    """

    ratio: RatioEstimator

    def __new__(cls, value: float, standard_error: float, ratio: RatioEstimator) -> MutualInformation:
        """The float ``value``, with its error and its ratio."""
        found = float.__new__(cls, value)
        found.standard_error, found.ratio = float(standard_error), ratio
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        """What ``copy`` and other processes rebuild it from."""
        return MutualInformation, (float(self), self.standard_error, self.ratio)


def mutual_information(
    x: Any,
    y: Any,
    estimator: RatioEstimator,
    *,
    share: float = 0.25,
    seed: Seed = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> MutualInformation:
    """Estimate the mutual information of x and y; exchanging them changes the fit's noise and nothing else.

    Args:
        x: Samples with shape (n, d) or (n,).
        y: Samples of the other variable, with shape (n, k) or (n,): row i belongs to row i of ``x``.
        estimator: What learns the ratio; it is fitted here.
        share: Share of the rows to judge by.
        seed: An int, a ``torch.Generator`` or None.
        device: Where to train.
        progress: ``progress(epoch, figures)``, called as training goes.

    Returns:
        A float in nats; ``standard_error`` is the error from the finite rows that judged, with each row in several
        terms accounted for. The error of the ratio itself comes on top and mostly makes the estimate too small.

    Raises:
        TypeError: If samples are not numeric.
        ValueError: If ``x`` and ``y`` differ in length, there are fewer than 8 rows, or values are not finite.
    """
    pair = [as_samples(side, name, rows=8).detach() for side, name in ((x, "x"), (y, "y"))]
    if len(pair[0]) != len(pair[1]):
        raise ValueError(f"x, y: expected as many rows in both; got {len(pair[0])} and {len(pair[1])}")
    if not 0 < share < 1:
        raise ValueError(f"share: expected a share inside (0, 1); got {share}")
    root = resolve_seed(seed)
    dtype = torch.promote_types(pair[0].dtype, pair[1].dtype)
    (learned,), (aside,) = split([[side.to(dtype) for side in pair]], share, root)
    if min(len(learned[0]), len(aside[0])) < 2:
        raise ValueError(f"share: expected one that leaves 2 rows to learn from and 2 to judge by; got {share}")
    shift = int(torch.randint(1, len(learned[0]), (), generator=stream(root, "draws")))
    estimator.fit(
        torch.cat(learned, 1),
        torch.cat([learned[0], learned[1].roll(shift, 0)], 1),
        seed=root,
        device=device,
        progress=progress,
    )
    joint = estimator.log_ratio(torch.cat(aside, 1))
    shifts = range(1, min(SHIFTS, len(aside[0]) - 1) + 1)
    product = torch.stack([estimator.log_ratio(torch.cat([aside[0], aside[1].roll(k, 0)], 1)) for k in shifts])
    value, error = paired_kl(joint.cpu().double(), product.cpu().double())
    return MutualInformation(value, error, estimator)


def paired_kl(joint: Tensor, product: Tensor) -> tuple[float, float]:
    """The estimate of the module's formulas and its standard error.

    Args:
        joint: log r at pairs (i, i), with shape (n,).
        product: log r at pairs (x of row i, y of row i - k), in row k - 1, with shape (shifts, n).

    Returns:
        The estimate and its standard error, from each row's part in all terms (Hoeffding's projection).
    """
    n = len(joint)
    offset = torch.zeros((), dtype=torch.float64)
    low, high = (float(bound) for bound in (-torch.cat([joint, product.flatten()]).max() - 1, 1 - joint.min()))
    low, high = min(low, -1.0), max(high, 1.0)
    for _ in range(60):  # the difference falls in the offset, so halving cannot go astray
        offset = torch.tensor((low + high) / 2, dtype=torch.float64)
        gap = (joint + offset).neg().sigmoid().mean() - (product + offset).sigmoid().mean() - offset / n
        low, high = (float(offset), high) if gap > 0 else (low, float(offset))
    share_joint, share_product = (joint + offset).sigmoid(), (product + offset).sigmoid()
    curvature = (share_joint * (1 - share_joint)).mean() + (share_product * (1 - share_product)).mean() + 1 / n
    # a row's y is in the pair of shift k that starts at row i + k
    by_y = torch.stack([row.roll(-k - 1) for k, row in enumerate(share_product)])
    in_product = share_product.mean(0) + by_y.mean(0) - share_product.mean()
    influence = joint + (1 - share_joint - in_product) / curvature
    return float(joint.mean() + offset), float(influence.std()) / math.sqrt(n)
