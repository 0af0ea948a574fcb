r"""Classifier discrepancy: how well observed and simulated points can be told apart, on points not learned from.

A logistic regression on powers and products of the columns is fitted to observed (label 1) and simulated (label 0)
points of all folds but one, for each simulated set, and scored on that fold; all sets are solved for at once. With
:math:`h` its log-odds at a held-out point, the scores are

.. math::
    \text{accuracy: } & \tfrac1{2m} \textstyle\sum_i \left( 1[h(y_i) > 0] + 1[h(x_i) < 0] \right) \\
    \text{log-ratio: } & \tfrac1m \textstyle\sum_i h(y_i) \approx \mathrm{KL}(p_o \,\|\, p_\theta) \\
    \text{jensen-shannon: } & \log 2 - \tfrac1{2m} \textstyle\sum_i \left( \log(1 + e^{-h(y_i)}) +
    \log(1 + e^{h(x_i)}) \right)

with :math:`y_i` the observed and :math:`x_i` the simulated points. On the points that it was trained on a classifier
tells even equal laws apart; that is why only held-out points count.

References:
    | Likelihood-free inference via classification (Gutmann, Dutta, Kaski & Corander, 2018)
    | https://doi.org/10.1007/s11222-017-9738-6
    | Approximate Bayesian computation via classification (Wang, Kaji & Ročková, 2022)
    | https://arxiv.org/abs/2111.11507
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from implicit_infer.abc.discrepancies.base import Compare, SetDistance, pairs, split_rows

NEWTON = 8
"""Newton steps of the logistic regression, from zero: the penalty makes it strictly convex, and so few are enough."""

STEEPEST = 15.0
"""Log-odds beyond which a point's classification counts no more."""

Score = Literal["accuracy", "log-ratio", "jensen-shannon"]


@dataclass(frozen=True)
class Classifier(SetDistance):
    """Held-out score of a logistic regression that tells observed from simulated points.

    Args:
        score: "accuracy" (Gutmann et al., 2018), "log-ratio" (Wang et al., 2022) or "jensen-shannon".
        degree: Powers 1, ..., ``degree`` of each column, in which wild values count by their logarithm (arsinh);
            products of two columns besides, from degree 2 on.
        folds: Parts of the points, each scored by what was learned from the others.
        penalty: Ridge penalty of the weights, in units of one point.
        seed: Seed of the folds. The points of a series (``lags``) are cut into runs instead: neighbours share values.

    Raises:
        ValueError: If a setting is out of its range, or there are fewer points than folds.
    """

    score: Score = "jensen-shannon"
    degree: int = 4
    folds: int = 5
    penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.score not in ("accuracy", "log-ratio", "jensen-shannon"):
            raise ValueError(f"score: expected 'accuracy', 'log-ratio' or 'jensen-shannon'; got {self.score!r}")
        if self.degree < 1:
            raise ValueError(f"degree: expected a positive int; got {self.degree}")
        if self.folds < 2:
            raise ValueError(f"folds: expected an int of at least 2; got {self.folds}")
        if not self.penalty > 0:
            raise ValueError(f"penalty: expected a positive number; got {self.penalty}")

    def against(self, observed: Tensor) -> Compare:
        """See :class:`SetDistance`."""
        m = len(observed)
        if m < self.folds:
            raise ValueError(f"folds: expected at most the number of points, {m}; got {self.folds}")
        fold = split_rows(m, self.folds, self.seed, observed.device, contiguous=self.lags is not None)
        target = self._terms(observed[None])

        def compare(sets: Tensor) -> Tensor:
            drawn = self._terms(sets)
            total = drawn.new_zeros(len(sets))
            for i in range(self.folds):
                aside = fold == i
                at_observed, at_drawn = self._held_out(target, drawn, aside)
                total += scored(at_observed, at_drawn, self.score) * float(aside.sum()) / m
            return total

        return compare

    def _held_out(self, target: Tensor, drawn: Tensor, aside: Tensor) -> tuple[Tensor, Tensor]:
        """Log-odds at the points aside, observed and simulated, with shape (b, h) each, learned from the others."""
        ours, theirs = target[:, ~aside].expand(len(drawn), -1, -1), drawn[:, ~aside]
        rows = torch.cat([ours, theirs], dim=1)
        centre = rows.mean(1, keepdim=True)
        spread = rows.std(1, keepdim=True).clamp_min(1e-6)
        labels = torch.cat([rows.new_ones(ours.shape[1]), rows.new_zeros(theirs.shape[1])])
        weights, level = logistic((rows - centre) / spread, labels, self.penalty)
        return tuple(
            (((points - centre) / spread) @ weights[:, :, None])[:, :, 0] + level[:, None]
            for points in (target[:, aside], drawn[:, aside])
        )  # type: ignore[return-value]  # a tuple of two

    def _terms(self, sets: Tensor) -> Tensor:
        bounded = sets.asinh()
        terms = [bounded**power for power in range(1, self.degree + 1)]
        if self.degree > 1 and sets.shape[2] > 1:
            i, j = torch.triu_indices(sets.shape[2], sets.shape[2], offset=1, device=sets.device)
            terms.append(bounded[:, :, i] * bounded[:, :, j])
        return torch.cat(terms, dim=2)

    def held(self, m: int, p: int) -> int:
        """See :class:`SetDistance`."""
        return 8 * m * (p * self.degree + pairs(p))


def scored(at_observed: Tensor, at_drawn: Tensor, score: Score) -> Tensor:
    """The score of log-odds at observed points (b, h) and at simulated ones (b, h'), with shape (b,)."""
    if score == "accuracy":
        right = [(at.sign() * side + 1).mean(1) / 2 for at, side in ((at_observed, 1), (at_drawn, -1))]
        return (right[0] + right[1]) / 2
    if score == "log-ratio":
        return at_observed.clamp(-STEEPEST, STEEPEST).mean(1)
    return math.log(2) - (softplus(-at_observed).mean(1) + softplus(at_drawn).mean(1)) / 2


def logistic(rows: Tensor, labels: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    r"""Ridge logistic regressions, one for each set, by Newton's method.

    .. math:: \min_{w, c} \sum_i \log\left(1 + e^{-(2 t_i - 1)(w^\top z_i + c)}\right) + \tfrac{\lambda}2 \|w\|^2

    A step is at most ten standard units long: far from the optimum the curvature is no guide.

    Args:
        rows: Standardised terms z with shape (b, n, f).
        labels: Zeros and ones t with shape (n,), of both.
        penalty: :math:`\lambda`.

    Returns:
        Weights (b, f) and levels (b,).
    """
    design = torch.cat([rows, torch.ones_like(rows[:, :, :1])], dim=2)
    ridge = torch.full((design.shape[2],), penalty, dtype=rows.dtype, device=rows.device)
    ridge[-1] = 1e-3
    solution = rows.new_zeros(len(rows), design.shape[2])
    for _ in range(NEWTON):
        probability = torch.sigmoid((design @ solution[:, :, None])[:, :, 0])
        slope = ((labels - probability)[:, None] @ design)[:, 0] - ridge * solution
        curvature = (design * (probability * (1 - probability))[:, :, None]).transpose(1, 2) @ design
        step = torch.linalg.solve(curvature + torch.diag(ridge), slope)
        length = torch.linalg.vector_norm(step, dim=1, keepdim=True)
        solution = solution + step * (10 / length.clamp_min(10))
    return solution[:, :-1], solution[:, -1]
