r"""RuLSIF: the relative ratio :math:`p / (\alpha p + (1 - \alpha) q)` by least squares, in closed form.

The relative ratio never exceeds :math:`1 / \alpha`, so that its squared error is finite where that of p/q is not, as
for tails of p heavier than those of q. See :mod:`~implicit_estimators.ratio.kernels.least_squares` for the algebra.

References:
    | Relative Density-Ratio Estimation for Robust Distribution Comparison (Yamada et al., 2013)
    | https://arxiv.org/abs/1106.4729
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from implicit_estimators.networks.train import Progress
from implicit_estimators.ratio.kernels.expansion import (
    LARGEST,
    Expansion,
    KernelRatio,
    default_bandwidths,
    gaussians,
    in_blocks,
    log_loss,
    positive,
)
from implicit_estimators.ratio.kernels.least_squares import Moments, coefficients, leave_one_out, score
from implicit_estimators.seeds import stream

Criterion = Literal["log", "squared", "densratio"]
"""What the bandwidth and the ridge are chosen by; see ``RuLSIFRatio``."""
RIDGE_SHARES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Ridges tried, in units of the mean eigenvalue of H."""
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
"""Ridges tried beside these."""
SMALLEST_RIDGE = 1e-10
"""For sets so far apart that H is 0."""
SMALLEST = 1e-300
"""What a sum of Gaussians that is 0 counts as where logs are compared."""
SOFTNESSES = tuple(10 ** (-0.5 * i) for i in range(1, 13))
"""Widths tried for the bend at the upper bound of the relative ratio."""


class RuLSIFRatio(KernelRatio):
    r"""Relative least squares in Gaussians at samples of p, and p/q recovered from it.

    The bandwidth and the ridge are those whose coefficients, learned without a row of p and a row of q, do best at
    these rows, on average over ``rows`` pairs. By the ``criterion`` "squared", which is the paper's, that is the
    squared error, which a few large ratios decide. "log" is the log loss of the classifier with logit :math:`\log r`,
    to which both sides matter. Coefficients below 0 are set to 0, as in uLSIF.

    From :math:`D = \alpha g`, an estimate of :math:`\alpha p / (\alpha p + (1 - \alpha) q)`, the log-ratio is

    .. math:: \log r = \log D - \log(1 - D) + \log \frac{1 - \alpha}{\alpha}

    An estimate of D is not held below 1. With :math:`y = 1 - D`, the second term is therefore taken of

    .. math:: s(y) = \tfrac12 \left(y + \sqrt{y^2 + 4 \delta^2}\right)

    which is y where :math:`y \gg \delta`, :math:`\delta` where D = 1, and :math:`\delta^2 / |y|` above: log r stays
    finite, smooth and rising in D throughout. :math:`\delta` is the one with the least log loss at
    rows left out. At :math:`\alpha = 0` there is no bound, D is not needed, and this is uLSIF.

    After :meth:`fit`, ``bandwidth`` and ``ridge`` are what was chosen. :meth:`check` judges fits to the other folds,
    with their own centres and coefficients under the bandwidth, ridge and :math:`\delta` chosen from all rows.

    Args:
        alpha: The share of p in the denominator, in [0, 1).
        centres: How many samples of p to put Gaussians at, or the points themselves, with shape (b, d).
        bandwidths: Standard deviations to choose from, in standardised units; multiples of median distances if None.
        ridges: Values of :math:`\lambda` to choose from; if None, multiples of the mean eigenvalue of H, and
            powers of ten.
        rows: Pairs of rows to leave out, at most.
        criterion: "log", "squared", or "densratio" for the choice that the package of that name (0.4.0) makes with the
            same centres, bandwidths and ridges.
        standardise: Whether columns are shifted and scaled together first.
        folds: Parts that are held out in turn for :meth:`check`.

    Raises:
        ValueError: If a number is out of its range, or there is no such criterion.

    Example:
        >>> p = torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
        >>> q = 1 + torch.randn(500, 1, generator=torch.Generator().manual_seed(1))
        >>> ratio = RuLSIFRatio(alpha=0.2).fit(p, q, seed=0)
        >>> ratio.log_ratio([0.5]).abs() < 0.2  # where the densities cross
        tensor([True])
    """

    name = "rulsif"

    def __init__(
        self,
        alpha: float = 0.1,
        centres: int | Any = 200,
        *,
        bandwidths: Sequence[float] | None = None,
        ridges: Sequence[float] | None = None,
        rows: int = 5000,
        criterion: Criterion = "log",
        standardise: bool = True,
        folds: int = 5,
    ) -> None:
        if not 0 <= alpha < 1:
            raise ValueError(f"alpha: expected a number in [0, 1); got {alpha}")
        if rows < 1:
            raise ValueError(f"rows: expected at least 1; got {rows}")
        if criterion not in get_args(Criterion):
            raise ValueError(f"criterion: expected one of {', '.join(get_args(Criterion))}; got {criterion!r}")
        self._check_settings(centres, folds)
        self.alpha = alpha
        self.bandwidths = positive(bandwidths, "bandwidths")
        self.ridges = positive(ridges, "ridges")
        self.rows = rows
        self.criterion = criterion
        self.standardise = standardise

    def _fit(self, p: Tensor, q: Tensor, seed: int, device: torch.device, progress: Progress | None) -> None:
        p, q = p.double(), q.double()
        self._standardiser = self._standardiser_of(p, q)
        self._select(self._standardiser(p), self._standardiser(q), seed, progress)

        def learn(p: Tensor, q: Tensor) -> Expansion:
            p, q = self._standardiser(p), self._standardiser(q)
            centres = self._draw_centres(p, q, seed)
            of_p, of_q = (Moments.of(in_blocks(side, centres, self.bandwidth)) for side in (p, q))
            weights = coefficients(of_p, of_q, self.ridge, self.alpha)
            if not bool((weights > 0).any()):  # no sample of p within sight of a centre: even weights, E_q[r] = 1
                weights = torch.full_like(weights, 1 / max(float(of_q.first.sum()), SMALLEST_RIDGE))
            return Expansion.of_weights(centres, weights, self.bandwidth)

        self._expansion = learn(p, q)

        def fold(p: Tensor, q: Tensor) -> Any:
            expansion = learn(p, q)
            return lambda x: self._of_log_sum(expansion.log(self._standardiser(x))).clamp(-LARGEST, LARGEST)

        self._cross_fit(p, q, seed, fold, self.folds)

    def _select(self, p: Tensor, q: Tensor, seed: int, progress: Progress | None) -> None:
        """Choose ``bandwidth``, ``ridge`` and the width of the bend."""
        bandwidths = self.bandwidths or default_bandwidths(p, q, seed)
        centres = self._draw_centres(p, q, seed)
        paired = min(len(p), len(q), self.rows)
        draw = stream(seed, "validate")
        theirs = self.criterion == "densratio"
        left_out = [
            side[:paired] if theirs else side[torch.randperm(len(side), generator=draw)[:paired].to(side.device)]
            for side in (p, q)
        ]
        best = math.inf
        self.bandwidth, self._softness = bandwidths[len(bandwidths) // 2], SOFTNESSES[2]
        self.ridge = (self.ridges or RIDGES)[len(self.ridges or RIDGES) // 2]
        if min(len(p), len(q)) < 2:
            return
        for step, bandwidth in enumerate(bandwidths):
            rows_p, rows_q = (gaussians(side, centres, bandwidth) for side in left_out)
            of_p, of_q = (
                Moments.of([rows] if len(rows) == len(side) else in_blocks(side, centres, bandwidth))
                for rows, side in ((rows_p, p), (rows_q, q))
            )
            ridges = self.ridges or self._default_ridges(of_p, of_q)
            values = leave_one_out(
                rows_p, rows_q, of_p, of_q, ridges, self.alpha, formula="densratio" if theirs else "exact"
            )
            losses, softness = self._best_softness(*values)
            if self.criterion != "log":
                losses = score(*values, alpha=0.0 if theirs else self.alpha)
            scores = losses.nan_to_num(nan=math.inf)
            chosen = int(scores.argmin())
            if float(scores[chosen]) < best:
                best = float(scores[chosen])
                self.bandwidth, self.ridge = bandwidth, ridges[chosen]
                self._softness = SOFTNESSES[int(softness[chosen])]
            if progress is not None:
                progress(step + 1, {"bandwidth": bandwidth, "score": float(scores[chosen]), "best": best})

    def _default_ridges(self, p: Moments, q: Moments) -> list[float]:
        """Shares of the mean eigenvalue of H, and the paper's: where few of q are near a centre, the first are tiny."""
        mean = self.alpha * p.second.diagonal().mean() + (1 - self.alpha) * q.second.diagonal().mean()
        return sorted({max(share * float(mean), SMALLEST_RIDGE) for share in RIDGE_SHARES} | set(RIDGES))

    def _best_softness(self, values_p: Tensor, values_q: Tensor) -> tuple[Tensor, Tensor]:
        """The least log loss for each ridge, and the place of the width of the bend that has it."""
        logs = [side.clamp(min=SMALLEST).log() for side in (values_p, values_q)]
        # a share that k samples show is not known to better than 1 / k
        widths = [width for width in SOFTNESSES if width * values_p.shape[-1] >= 1] if self.alpha else []
        losses = [
            log_loss(*(self._relative_to_log_ratio(side, softness) if self.alpha else side for side in logs))
            for softness in widths or SOFTNESSES[:1]
        ]
        least = torch.stack(losses).min(0)
        return least.values, least.indices

    def _relative_to_log_ratio(self, log_relative: Tensor, softness: float) -> Tensor:
        left = 1 - self.alpha * log_relative.exp()
        root = (left.square() + 4 * softness**2).sqrt()
        # half of left + root, without cancellation where left is negative
        above = torch.where(left > 0, 0.5 * (left + root), 2 * softness**2 / (root - left.clamp(max=0)))
        return math.log1p(-self.alpha) + log_relative - above.log()

    def _of_log_sum(self, log_sum: Tensor) -> Tensor:
        if not self.alpha:
            return log_sum
        return self._relative_to_log_ratio(log_sum, self._softness)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, rest = super()._state()
        return tensors, rest | {"ridge": self.ridge, "softness": self._softness}

    def _restore(self, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
        super()._restore(tensors, rest)
        self.ridge, self._softness = rest["ridge"], rest["softness"]
