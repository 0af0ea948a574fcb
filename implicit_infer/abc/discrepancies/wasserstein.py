r"""Wasserstein distances of data sets: the least work that carries the points of one onto those of the other.

.. math:: W_p^p(x, y) = \min_\sigma \frac1m \sum_i |x_i - y_{\sigma(i)}|^p

On the line the best assignment :math:`\sigma` is in order of size. In more dimensions it is looked for along lines
(sliced) or along a space-filling curve (Hilbert), whose assignments are never better than the best one.

References:
    | Approximate Bayesian computation with the Wasserstein distance (Bernton, Jacob, Gerber & Robert, 2019)
    | https://arxiv.org/abs/1905.03747
    | Approximate Bayesian computation with the sliced-Wasserstein distance (Nadjahi et al., 2020)
    | https://arxiv.org/abs/1910.12815
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_estimators.discrepancies.sliced import directions
from implicit_estimators.discrepancies.sorting import sort_rows
from implicit_infer.abc.discrepancies.base import Compare, SetDistance
from implicit_infer.abc.discrepancies.hilbert import hilbert_order


@dataclass(frozen=True)
class Wasserstein(SetDistance):
    """Wasserstein distance: exact on the line, sliced in more dimensions.

    Args:
        p: Its order, at least 1.
        projections: Random directions, where points have several columns.
        seed: Seed of the directions.

    Raises:
        ValueError: If a setting is out of its range.
    """

    p: float = 1.0
    projections: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.p >= 1:
            raise ValueError(f"p: expected a number of at least 1; got {self.p}")
        if self.projections < 1:
            raise ValueError(f"projections: expected a positive int; got {self.projections}")

    def against(self, observed: Tensor) -> Compare:
        """See :class:`SetDistance`."""
        generator = torch.Generator(observed.device).manual_seed(self.seed)
        lines = directions(observed.shape[1], self.projections, generator, observed)
        target = sort_rows(lines @ observed.T)

        def compare(sets: Tensor) -> Tensor:
            projected = lines @ sets.transpose(1, 2)
            ordered = sort_rows(projected.flatten(0, 1)).reshape(projected.shape)
            work = (ordered - target).abs().pow(self.p).mean(2)
            return work.mean(1) ** (1 / self.p)

        return compare

    def held(self, m: int, p: int) -> int:
        """See :class:`SetDistance`."""
        return m * (1 if p == 1 else self.projections)


@dataclass(frozen=True)
class Hilbert(SetDistance):
    r"""Hilbert-curve Wasserstein distance: points are matched in the order in which a space-filling curve meets them.

    It is never less than the Wasserstein distance, costs :math:`m \log m`, and is a metric as well (Bernton et al.,
    2019). The curve fills a cube that the points, in robust standard deviations, are put into by the normal
    distribution function of each column; on the line it is the exact distance.

    Args:
        p: Its order, at least 1.

    Raises:
        ValueError: If a setting is out of its range.
    """

    p: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.p >= 1:
            raise ValueError(f"p: expected a number of at least 1; got {self.p}")

    def against(self, observed: Tensor) -> Compare:
        """See :class:`SetDistance`."""
        target = _along(observed[None])[0]

        def compare(sets: Tensor) -> Tensor:
            steps = torch.linalg.vector_norm(_along(sets) - target, dim=2)
            return steps.pow(self.p).mean(1) ** (1 / self.p)

        return compare

    def held(self, m: int, p: int) -> int:
        """See :class:`SetDistance`."""
        return 4 * m * p


def _along(sets: Tensor) -> Tensor:
    """The points of each set in the order of the curve."""
    if sets.shape[2] == 1:
        return sets.sort(dim=1).values
    order = hilbert_order(torch.special.ndtr(sets))
    return sets.gather(1, order[:, :, None].expand_as(sets))
