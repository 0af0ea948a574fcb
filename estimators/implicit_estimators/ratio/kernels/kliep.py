r"""KLIEP: the ratio under which samples of p are most likely, among mixtures of Gaussians that q normalises.

.. math:: \max_{\theta \ge 0} \; \overline{\log \sum_l \theta_l \phi_l}_p \quad \text{such that} \quad
    \sum_l \theta_l \, \overline{\phi_l}_q = 1

With :math:`b_l = \overline{\phi_l}_q` and :math:`w_l = b_l \theta_l`, these are the weights of a mixture of the
components :math:`\phi_l / b_l` (see :mod:`~implicit_estimators.ratio.kernels.mixture`): convex, and solved to a stated
gap. Components are formed from logs, for b may be smaller than any number where p and q hardly meet.

References:
    | Direct importance estimation for covariate shift adaptation (Sugiyama et al., 2008)
    | https://doi.org/10.1007/s10463-008-0197-x
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.kernels import squared_distances
from implicit_estimators.networks.train import Progress
from implicit_estimators.ratio.kernels.expansion import (
    LARGEST,
    ROWS,
    Expansion,
    KernelRatio,
    default_bandwidths,
    log_loss,
    positive,
)
from implicit_estimators.ratio.kernels.mixture import mixture_weights
from implicit_estimators.seeds import stream


class KLIEPRatio(KernelRatio):
    r"""Kullback-Leibler importance estimation in Gaussians at samples of p, solved to a stated gap.

    The bandwidth is chosen by cross-validation. The paper holds out samples of p alone and scores their mean
    :math:`\log r`; narrow Gaussians with no sample of q near then have any likelihood, and where p is not bounded by q
    they win, with log-ratios off by tens of nats. Here samples of both are held out of centres, of coefficients and
    of normalisation, and the score is the likelihood of their labels under the odds r: the mean log loss.

    After :meth:`fit`, ``bandwidth`` is what was chosen, and ``gap`` the bound on how much more likely any other
    coefficients make the samples of p, in nats for a sample. Far from p, :math:`\log r` falls like the square of the
    distance to the nearest centre over :math:`2 \sigma^2`: KLIEP says little of where r is small. :meth:`check` judges
    fits to the other folds, with their own centres and coefficients under the bandwidth chosen from all rows.

    Args:
        centres: How many samples of p to put Gaussians at, or the points themselves, with shape (b, d).
        bandwidths: Standard deviations to choose from, in standardised units; multiples of median distances if None.
        rows: Samples of each set to cross-validate with, at most.
        tolerance: The gap at which the solver stops.
        standardise: Whether columns are shifted and scaled together first.
        folds: Parts that are held out in turn, to choose the bandwidth and for :meth:`check`.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> p = torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
        >>> q = 1 + torch.randn(500, 1, generator=torch.Generator().manual_seed(1))
        >>> ratio = KLIEPRatio().fit(p, q, seed=0)
        >>> ratio.log_ratio([0.5]).abs() < 0.2  # where the densities cross
        tensor([True])
    """

    name = "kliep"
    gap: float

    def __init__(
        self,
        centres: int | Any = 200,
        *,
        bandwidths: Sequence[float] | None = None,
        rows: int = 2000,
        tolerance: float = 1e-6,
        standardise: bool = True,
        folds: int = 5,
    ) -> None:
        if rows < 1:
            raise ValueError(f"rows: expected at least 1; got {rows}")
        if not tolerance > 0:
            raise ValueError(f"tolerance: expected a positive number; got {tolerance}")
        self._check_settings(centres, folds)
        self.bandwidths = positive(bandwidths, "bandwidths")
        self.rows = rows
        self.tolerance = tolerance
        self.standardise = standardise

    def _fit(self, p: Tensor, q: Tensor, seed: int, device: torch.device, progress: Progress | None) -> None:
        p, q = p.double(), q.double()
        self._standardiser = self._standardiser_of(p, q)
        self._select(self._standardiser(p), self._standardiser(q), seed, progress)

        def learn(p: Tensor, q: Tensor) -> tuple[Expansion, float]:
            p, q = self._standardiser(p), self._standardiser(q)
            return most_likely(p, q, self._draw_centres(p, q, seed), self.bandwidth, self.tolerance)

        self._expansion, self.gap = learn(p, q)

        def fold(p: Tensor, q: Tensor) -> Any:
            expansion, _ = learn(p, q)
            return lambda x: expansion.log(self._standardiser(x)).clamp(-LARGEST, LARGEST)

        self._cross_fit(p, q, seed, fold, self.folds)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, rest = super()._state()
        return tensors, rest | {"gap": self.gap}

    def _restore(self, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
        super()._restore(tensors, rest)
        self.gap = rest["gap"]

    def _select(self, p: Tensor, q: Tensor, seed: int, progress: Progress | None) -> None:
        bandwidths = self.bandwidths or default_bandwidths(p, q, seed)
        self.bandwidth = bandwidths[len(bandwidths) // 2]
        folds = min(self.folds, len(p), len(q))
        if folds < 2 or len(bandwidths) < 2:
            return
        draw = stream(seed, "validate")
        p, q = (side[torch.randperm(len(side), generator=draw)[: self.rows].to(side.device)] for side in (p, q))
        best = math.inf
        for step, bandwidth in enumerate(bandwidths):
            total = 0.0
            for fold in range(folds):
                (learn_p, test_p), (learn_q, test_q) = (_without(side, fold, folds) for side in (p, q))
                centres = self._draw_centres(learn_p, learn_q, seed)
                expansion, _ = most_likely(learn_p, learn_q, centres, bandwidth, 1e-4)
                total += float(log_loss(expansion.log(test_p), expansion.log(test_q))) / folds
            if total < best:
                best, self.bandwidth = total, bandwidth
            if progress is not None:
                progress(step + 1, {"bandwidth": bandwidth, "log loss": total, "best": best})


def _without(rows: Tensor, fold: int, folds: int) -> tuple[Tensor, Tensor]:
    """The rows that are not in the fold, and those that are."""
    inside = torch.arange(len(rows), device=rows.device) % folds == fold
    return rows[~inside], rows[inside]


def most_likely(
    p: Tensor, q: Tensor, centres: Tensor, bandwidth: float, tolerance: float = 1e-6
) -> tuple[Expansion, float]:
    """KLIEP's ratio for given Gaussians.

    Args:
        p: Samples of the numerator, with shape (n, d), in float64.
        q: Samples of the denominator, with shape (m, d).
        centres: Where the Gaussians lie, with shape (b, d).
        bandwidth: Their standard deviation.
        tolerance: How far below the most mean log-likelihood it may stay.

    Returns:
        The ratio, and the bound on what is left to gain.
    """
    exponent = -0.5 / bandwidth**2
    log_means = torch.stack(
        [torch.logsumexp(squared_distances(rows, centres) * exponent, 0) for rows in q.split(ROWS)]
    ).logsumexp(0) - math.log(len(q))
    components = p.new_empty(len(p), len(centres))
    for rows, out in zip(p.split(ROWS), components.split(ROWS), strict=True):
        logs = squared_distances(rows, centres) * exponent - log_means
        torch.exp(logs - logs.amax(1, keepdim=True), out=out)
    weights, gap = mixture_weights(components, tolerance)
    kept = weights > 0
    return Expansion(centres[kept], weights[kept].log() - log_means[kept], bandwidth), gap
