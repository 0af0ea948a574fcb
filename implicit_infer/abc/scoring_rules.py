r"""Scoring rules: how well a law, known by its draws alone, foretold an observation; for many laws in one call.

A score S(P, y) is a loss. It is *strictly proper* if its expectation over y is smallest where P is the law of y and
nowhere else; both rules here are, and both can be estimated from draws of P without bias. To add one, copy
``EnergyScore``.

References:
    | Strictly proper scoring rules, prediction, and estimation (Gneiting & Raftery, 2007)
    | https://doi.org/10.1198/016214506000001437
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PAIRS = 2**22
"""Distances held in memory at once."""


class ScoringRule:
    """A score. Children are frozen dataclasses of their settings and write ``_pair``, what a pair of points adds."""

    def fitted(self, draws: Tensor) -> ScoringRule:
        """The rule with what it takes from simulations of several parameters (P, r, k); itself if that is nothing."""
        return self

    def __call__(self, draws: Tensor, observed: Tensor) -> Tensor:
        r"""Unbiased estimates of the summed score of p observed points.

        .. math:: \hat S = \sum_{i=1}^p \Big( \frac{2}{r} \sum_j g(\|x_j - y_i\|)
            - \frac{1}{r (r - 1)} \sum_{j \ne l} g(\|x_j - x_l\|) \Big)

        with a rule's own g.

        Args:
            draws: Of n laws, with shape (n, r, k); rows that are not finite do not count.
            observed: Points with shape (p, k).

        Returns:
            Scores with shape (n,); infinity where fewer than two draws are left.
        """
        rows = max(1, PAIRS // (draws.shape[1] * max(draws.shape[1], len(observed))))
        parts = [self._scores(part.double(), observed.double()) for part in draws.split(rows)]
        return torch.cat(parts)

    def _scores(self, draws: Tensor, observed: Tensor) -> Tensor:
        valid = torch.isfinite(draws).all(2)
        x = torch.where(valid[..., None], draws, 0.0)
        count = valid.sum(1).double()
        to_data = self._pair(torch.cdist(x, observed.expand(len(x), -1, -1))) * valid[..., None]
        both = valid[:, :, None] & valid[:, None, :]
        both = both & ~torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        among = self._pair(torch.cdist(x, x)) * both
        p = len(observed)
        score = 2 * to_data.sum((1, 2)) / count - p * among.sum((1, 2)) / (count * (count - 1))
        return torch.where(count > 1, score, torch.inf)

    def _pair(self, distance: Tensor) -> Tensor:
        """G of distances."""
        raise NotImplementedError(f"{type(self).__name__} must write _pair(distance)")


@dataclass(frozen=True)
class EnergyScore(ScoringRule):
    r"""The energy score, which in one dimension is the continuous ranked probability score (twice of it).

    .. math:: S_\beta(P, y) = 2\, \mathbb{E} \|X - y\|^\beta - \mathbb{E} \|X - X'\|^\beta, \qquad X, X' \sim P

    Args:
        power: :math:`\beta`, in (0, 2); the score of a law without a moment of this order is infinite.

    Raises:
        ValueError: If ``power`` is outside (0, 2).
    """

    power: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.power < 2:
            raise ValueError(f"power: expected a number in (0, 2); got {self.power}")

    def _pair(self, distance: Tensor) -> Tensor:
        return distance if self.power == 1 else distance**self.power


@dataclass(frozen=True)
class KernelScore(ScoringRule):
    r"""The kernel score of a Gaussian kernel: bounded, so that no observation, however far out, decides alone.

    .. math:: S_k(P, y) = \mathbb{E}\, k(X, X') - 2\, \mathbb{E}\, k(X, y), \qquad
        k(x, y) = \exp\left(-\frac{\|x - y\|^2}{2 \sigma^2}\right)

    It is the squared MMD between P and the point y, less k(y, y).

    Args:
        bandwidth: :math:`\sigma`; None takes the median distance between draws of one parameter, and of several
            parameters' medians the median.

    Raises:
        ValueError: If ``bandwidth`` is not positive.
    """

    bandwidth: float | None = None

    def __post_init__(self) -> None:
        if self.bandwidth is not None and not self.bandwidth > 0:
            raise ValueError(f"bandwidth: expected a positive number or None; got {self.bandwidth}")

    def fitted(self, draws: Tensor) -> KernelScore:
        """The rule with the bandwidth that the draws suggest, unless one was given."""
        if self.bandwidth is not None:
            return self
        medians = []
        for rows in draws:
            rows = rows[torch.isfinite(rows).all(1)][:500]
            if len(rows) > 1:
                medians.append(torch.nn.functional.pdist(rows.double()).median())
        median = float(torch.stack(medians).median()) if medians else 0.0
        return KernelScore(median if median > 0 else 1.0)

    def _pair(self, distance: Tensor) -> Tensor:
        if self.bandwidth is None:
            raise ValueError("bandwidth: expected a number, or fitted(draws) before the first score; got None")
        return -torch.exp(-0.5 * (distance / self.bandwidth) ** 2)
