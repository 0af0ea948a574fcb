r"""Tests p = q, with an exact p-value whatever estimator it rests on: learn on one part, permute labels of the rest.

The statistic is how much the classifier D = r / (1 + r), learned on one part of both sets, prefers the rest of p,

.. math:: T = \frac1n \sum_i D(x_i) - \frac1m \sum_j D(y_j),

whose expectation is at most the total variation of p and q. If p = q, the rows that were set aside are exchangeable
given D, so T has the same law under every assignment of them to the two sets, and the share of assignments with a T
at least as large is a p-value: no more than a share a of data sets give one below a, at any sample size.

References:
    | Revisiting Classifier Two-Sample Tests (Lopez-Paz and Oquab, 2017)
    | https://arxiv.org/abs/1610.06545
    | AutoML Two-Sample Test (Kübler, Stimper, Buchholz, Muandet and Schölkopf, 2022), for the mean of D as a witness
    | https://arxiv.org/abs/2206.08843
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.inputs import as_pair
from implicit_estimators.networks.train import Progress, split
from implicit_estimators.ratio.base import RatioEstimator
from implicit_estimators.seeds import Seed, resolve_seed, stream


@dataclass(frozen=True)
class TwoSampleTest:
    """What came of a test of p = q.

    Attributes:
        p_value: Share of assignments (the observed one among them) with a statistic at least as large.
        statistic: The mean of D over p less that over q, at most 1; 0 on average if p = q.
        n_p: Rows of p that were set aside for the test.
        n_q: Rows of q that were set aside.
        permutations: Random assignments.
        ratio: The estimator, fitted to the other rows: where its log-ratio is large is where the sets differ.
    """

    p_value: float
    statistic: float
    n_p: int
    n_q: int
    permutations: int
    ratio: RatioEstimator

    def __str__(self) -> str:
        return f"p = {self.p_value:.3g} (statistic {self.statistic:.3g}, {self.n_p} and {self.n_q} rows set aside)"


def two_sample_test(
    p: Any,
    q: Any,
    estimator: RatioEstimator,
    *,
    permutations: int = 999,
    share: float = 0.5,
    seed: Seed = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> TwoSampleTest:
    """Test whether p and q are samples of one distribution.

    Args:
        p: Samples with shape (n, d) or (n,), independent of one another.
        q: Samples with shape (m, d) or (m,).
        estimator: What tells them apart; it is fitted here.
        permutations: Random assignments of the rows set aside; the p-value is at least 1 / (permutations + 1).
        share: Share of each set to set aside.
        seed: An int, a ``torch.Generator`` or None.
        device: Where to train.
        progress: ``progress(epoch, figures)``, called as training goes.

    Returns:
        The p-value, the statistic, and the fitted estimator.

    Raises:
        TypeError: If samples are not numeric.
        ValueError: If widths differ, a set has fewer than 4 rows, values are NaN or infinite, or a setting is out of
            its range.
    """
    samples = as_pair(p, q, rows=4)
    if permutations < 1:
        raise ValueError(f"permutations: expected a positive int; got {permutations}")
    if not 0 < share < 1:
        raise ValueError(f"share: expected a share inside (0, 1); got {share}")
    root = resolve_seed(seed)
    learned, aside = split([(side.detach(),) for side in samples], share, root)
    if min(len(learned[0][0]), len(learned[1][0])) < 2:
        raise ValueError(f"share: expected one that leaves 2 rows of each set to learn from; got {share}")
    estimator.fit(learned[0][0], learned[1][0], seed=root, device=device, progress=progress)
    scores = [estimator.log_ratio(side[0]).cpu().double().sigmoid() for side in aside]
    value, p_value = permute(scores[0], scores[1], permutations, stream(root, "draws"))
    return TwoSampleTest(p_value, value, len(scores[0]), len(scores[1]), permutations, estimator)


def permute(scores_p: Tensor, scores_q: Tensor, permutations: int, draw: torch.Generator) -> tuple[float, float]:
    """The difference of the mean scores, and its p-value under random assignments of the scores to the two sets."""
    pooled, n = torch.cat([scores_p, scores_q]), len(scores_p)
    # with the number of each side given, the sum over p says it all; its rounding must not depend on the order
    pooled = (pooled * 2**40).round().long()
    observed = int(pooled[:n].sum())
    above = 0
    for _ in range(permutations):
        assigned = torch.randperm(len(pooled), generator=draw)[:n]
        above += int(pooled[assigned].sum()) >= observed
    difference = float(scores_p.mean() - scores_q.mean())
    return difference, (1 + above) / (permutations + 1)
