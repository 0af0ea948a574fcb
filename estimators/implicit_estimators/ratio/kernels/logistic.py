r"""Kernel logistic regression: log p/q itself as a sum of Gaussians, so that the ratio is positive everywhere.

.. math:: \log r(x) = \beta_0 + \sum_l \beta_l k(x, c_l)

minimises the mean log loss of all samples plus :math:`\frac{\lambda}{2} \beta^T K \beta`, K the kernel between the
centres: the penalty is the squared norm in the space of functions that belongs to the kernel, of which the centres
span a part (the method of Nyström). In features :math:`\psi(x) = S^{-1/2} V^T k(x, c)`, with :math:`K = V S V^T`, it is
ridge regression, solved by Newton's method.

**Leaving a sample out** takes one more Newton step, whose result is known without taking it: with the derivatives
:math:`\ell'_i, \ell''_i` of the log loss and the leverage :math:`a_i = \frac{1}{N} \psi_i^T H^{-1} \psi_i`, H being
the second derivative of the objective, the logit becomes :math:`f_i + a_i \ell'_i / (1 - a_i \ell''_i)`. The bandwidth
and the ridge are those with least log loss at these.

References:
    | Kernel Logistic Regression and the Import Vector Machine (Zhu and Hastie, 2005)
    | https://doi.org/10.1198/106186005X25619
    | Using the Nyström Method to Speed Up Kernel Machines (Williams and Seeger, 2001)
    | A scalable estimate of the extra-sample prediction error via approximate leave-one-out (Rad and Maleki, 2020)
    | https://arxiv.org/abs/1801.10243
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from implicit_estimators.kernels import median_distance
from implicit_estimators.networks.standardise import Standardiser
from implicit_estimators.networks.train import Progress
from implicit_estimators.ratio.base import RatioEstimator
from implicit_estimators.ratio.kernels.expansion import LARGEST, ROWS, gaussians, positive
from implicit_estimators.seeds import stream

FACTORS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Bandwidths tried, in units of the median distance of p and q together."""
RIDGES = tuple(10.0**-power for power in range(1, 10))
"""Ridges tried, largest first."""
RANK = 1e-12
"""Directions of the kernel below this share of the largest eigenvalue are rounding errors."""


@dataclass(frozen=True)
class Features:
    """Features whose inner products are the kernel, projected on the span of the centres; the first is constant.

    Attributes:
        centres: With shape (b, d).
        bandwidth: Standard deviation of the Gaussians.
        transform: From kernel values to features, with shape (b, rank).
    """

    centres: Tensor
    bandwidth: float
    transform: Tensor

    @classmethod
    def of(cls, centres: Tensor, bandwidth: float) -> Features:
        """Those of the Gaussian kernel."""
        values, vectors = torch.linalg.eigh(gaussians(centres, centres, bandwidth))
        kept = values > RANK * values[-1]
        return cls(centres, bandwidth, vectors[:, kept] / values[kept].sqrt())

    def __call__(self, x: Tensor) -> Tensor:
        """At x of shape (n, d), with shape (n, 1 + rank)."""
        kernel = torch.cat([gaussians(rows, self.centres, self.bandwidth) @ self.transform for rows in x.split(ROWS)])
        return torch.cat([kernel.new_ones(len(kernel), 1), kernel], 1)


@dataclass(frozen=True)
class Solution:
    """A ridge regression of labels.

    Attributes:
        weights: With shape (features,).
        factor: Cholesky factor of the objective's second derivative there.
    """

    weights: Tensor
    factor: Tensor


def regress(features: Tensor, signs: Tensor, ridge: float, start: Tensor, steps: int = 50) -> Solution:
    r"""Logistic regression with :math:`\frac{\lambda}{2} \|w\|^2` on all weights but the first, by Newton's method.

    Args:
        features: With shape (N, k).
        signs: 1 for p and -1 for q, with shape (N,).
        ridge: :math:`\lambda`.
        start: Weights to start from, with shape (k,).
        steps: Largest number of Newton steps.

    Returns:
        The solution.
    """
    penalty = torch.full_like(start, ridge)
    penalty[0] = 1e-9  # separable sets would have an infinite constant
    weights, logits = start, features @ start

    def objective(weights: Tensor, logits: Tensor) -> float:
        return float(softplus(-signs * logits).mean() + 0.5 * (penalty * weights.square()).sum())

    value, factor = objective(weights, logits), torch.eye(len(start))
    for _ in range(steps):
        share = logits.sigmoid()
        curvature = features.T @ (features * (share * (1 - share) / len(features))[:, None])
        curvature.diagonal().add_(penalty)
        factor = torch.linalg.cholesky(curvature)
        slope = features.T @ (share - (signs + 1) / 2) / len(features) + penalty * weights
        step = -torch.cholesky_solve(slope[:, None], factor)[:, 0]
        change, promised, length = features @ step, float(slope @ step), 1.0
        if -promised < 1e-7:
            break
        while length > 1e-6:
            tried = objective(weights + length * step, logits + length * change)
            if tried <= value + 1e-4 * length * promised:
                break
            length /= 2
        weights, logits, value = weights + length * step, logits + length * change, tried
    return Solution(weights, factor)


def left_out_loss(features: Tensor, signs: Tensor, solution: Solution) -> float:
    """Mean log loss of each sample by a fit without it, to one Newton step."""
    logits = features @ solution.weights
    turned = torch.linalg.solve_triangular(solution.factor, features.T, upper=False)
    leverage = turned.square().sum(0) / len(features)
    share = logits.sigmoid()
    slope, curvature = share - (signs + 1) / 2, share * (1 - share)
    without = logits + leverage * slope / (1 - leverage * curvature).clamp(min=1e-3)
    return float(softplus(-signs * without).mean())


class KernelLogisticRatio(RatioEstimator):
    r"""Ridge-penalised logistic regression in Gaussians at samples of p and of q (Nyström features).

    As the log-ratio itself is the smooth function, not the ratio, its errors are even where r is small or large, unlike
    those of least squares and KLIEP. A wide Gaussian is, to many digits, a polynomial, so that slowly varying
    log-ratios (between Gaussians, say) are learned almost as by a parametric model, without being told; bandwidths up
    to eight median distances are therefore tried. Far from all samples the log-ratio returns to a constant.

    After :meth:`fit`, ``bandwidth`` and ``ridge`` are what was chosen, by leaving out (approximately, see above) each
    of at most ``rows`` samples of a set. :meth:`check` judges fits to the other folds, with their own centres and
    weights under the bandwidth and ridge chosen from all rows.

    Args:
        centres: How many samples to put Gaussians at, half of them of p.
        bandwidths: Standard deviations to choose from, in standardised units; multiples of the median distance if None.
        ridges: Values of :math:`\lambda` to choose from; powers of ten if None.
        rows: Samples of each set to choose with, at most.
        folds: Parts that are held out in turn for :meth:`check`.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> p = torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
        >>> q = 1 + torch.randn(500, 1, generator=torch.Generator().manual_seed(1))
        >>> ratio = KernelLogisticRatio().fit(p, q, seed=0)
        >>> ratio.log_ratio([0.5]).abs() < 0.2  # where the densities cross
        tensor([True])
    """

    bandwidth: float
    ridge: float

    name = "kernel-logistic"

    def __init__(
        self,
        centres: int = 200,
        *,
        bandwidths: Sequence[float] | None = None,
        ridges: Sequence[float] | None = None,
        rows: int = 4000,
        folds: int = 5,
    ) -> None:
        if centres < 1:
            raise ValueError(f"centres: expected at least 1; got {centres}")
        if rows < 1:
            raise ValueError(f"rows: expected at least 1; got {rows}")
        if folds < 2:
            raise ValueError(f"folds: expected at least 2; got {folds}")
        self.centres = centres
        self.bandwidths = positive(bandwidths, "bandwidths")
        self.ridges = positive(ridges, "ridges")
        self.rows = rows
        self.folds = folds

    def _fit(self, p: Tensor, q: Tensor, seed: int, device: torch.device, progress: Progress | None) -> None:
        p, q = p.double(), q.double()
        self._standardiser = Standardiser.fit(p, q)
        self._select(self._standardiser(p), self._standardiser(q), seed, progress)

        def learn(p: Tensor, q: Tensor) -> tuple[Features, Tensor, float]:
            p, q = self._standardiser(p), self._standardiser(q)
            features = self._features(p, q, self.bandwidth, seed)
            x, signs = _labelled(features, p, q)
            weights = regress(x, signs, self.ridge, x.new_zeros(x.shape[1])).weights
            return features, weights, math.log(len(q) / len(p))

        features, weights, offset = learn(p, q)
        self._centres = features.centres
        self._weights = features.transform @ weights[1:]
        self._constant = float(weights[0]) + offset

        def fold(p: Tensor, q: Tensor) -> Any:
            features, weights, offset = learn(p, q)
            return lambda x: features(self._standardiser(x)) @ weights + offset

        self._cross_fit(p, q, seed, fold, self.folds)

    def _features(self, p: Tensor, q: Tensor, bandwidth: float, seed: int) -> Features:
        draw = stream(seed, "subsample")
        each = [min(len(side), (self.centres + i) // 2) for i, side in enumerate((p, q))]
        chosen = [
            side[torch.randperm(len(side), generator=draw)[:count].to(side.device)]
            for side, count in zip((p, q), each, strict=True)
        ]
        return Features.of(torch.cat(chosen), bandwidth)

    def _select(self, p: Tensor, q: Tensor, seed: int, progress: Progress | None) -> None:
        if self.bandwidths is None:
            median = median_distance(p, q, seed)
            bandwidths = [factor * median for factor in FACTORS]
        else:
            bandwidths = list(self.bandwidths)
        ridges = sorted(self.ridges or RIDGES, reverse=True)
        draw = stream(seed, "validate")
        some = [side[torch.randperm(len(side), generator=draw)[: self.rows].to(side.device)] for side in (p, q)]
        best = math.inf
        for step, bandwidth in enumerate(bandwidths):
            features = self._features(p, q, bandwidth, seed)
            x, signs = _labelled(features, *some)
            weights = x.new_zeros(x.shape[1])
            last, worse = math.inf, 0
            for ridge in ridges:
                solution = regress(x, signs, ridge, weights)
                weights = solution.weights
                loss = left_out_loss(x, signs, solution)
                if loss < best:
                    best, self.bandwidth, self.ridge = loss, bandwidth, ridge
                worse = worse + 1 if loss > last else 0
                last = loss
                if worse >= 2:
                    break
            if progress is not None:
                progress(step + 1, {"bandwidth": bandwidth, "best": best})

    def _log_ratio(self, x: Tensor) -> Tensor:
        z = self._standardiser(x.to(self._centres.device, torch.float64))
        sums = torch.cat([gaussians(rows, self._centres, self.bandwidth) @ self._weights for rows in z.split(ROWS)])
        return (self._constant + sums).clamp(-LARGEST, LARGEST).float().to(x.device)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {
            "centres": self._centres,
            "weights": self._weights,
            "location": self._standardiser.location,
            "scale": self._standardiser.scale,
        }
        return tensors, {"bandwidth": self.bandwidth, "ridge": self.ridge, "constant": self._constant}

    def _restore(self, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
        self._standardiser = Standardiser(tensors["location"], tensors["scale"])
        self._centres, self._weights = tensors["centres"], tensors["weights"]
        self.bandwidth, self.ridge, self._constant = rest["bandwidth"], rest["ridge"], rest["constant"]


def _labelled(features: Features, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    x = features(torch.cat([p, q]))
    signs = x.new_ones(len(x))
    signs[len(p) :] = -1
    return x, signs
