r"""Cramér-von Mises distance: how far apart two distribution functions are, on average over all points.

.. math:: \omega^2 = \int (F_m - G_m)^2 \, d\tfrac{F_m + G_m}2

It depends on ranks only, so nothing is lost to heavy tails. Points with several columns are compared column by column:
what their columns do together is not seen.

References:
    | On the distribution of the two-sample Cramér-von Mises criterion (Anderson, 1962)
    | https://doi.org/10.1214/aoms/1177704477
    | A comparison of likelihood-free methods with and without summary statistics (Drovandi & Frazier, 2022)
    | https://arxiv.org/abs/2103.02407
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_infer.abc.discrepancies.base import Compare, SetDistance
from implicit_infer.abc.discrepancies.line import merged


@dataclass(frozen=True)
class CramerVonMises(SetDistance):
    r"""Cramér-von Mises distance :math:`\omega`, averaged over columns."""

    def against(self, observed: Tensor) -> Compare:
        """See :class:`SetDistance`."""

        def compare(sets: Tensor) -> Tensor:
            total = sets.new_zeros(len(sets), dtype=torch.float64)
            for column in range(observed.shape[1]):
                values, gaps = merged(sets[:, :, column], observed[:, column])
                total += at_ties(values, gaps).square().mean(1).sqrt()
            return total / observed.shape[1]

        return compare

    def held(self, m: int, p: int) -> int:
        """See :class:`SetDistance`."""
        return 6 * m


def at_ties(values: Tensor, gaps: Tensor) -> Tensor:
    """Gaps of the distribution functions, each value of several equal ones with that of the last."""
    last = torch.ones_like(values, dtype=torch.bool)
    last[:, :-1] = values[:, 1:] != values[:, :-1]
    if bool(last.all()):
        return gaps
    places = torch.arange(values.shape[1], device=values.device).expand_as(values)
    after = torch.where(last, places, values.shape[1]).flip(1).cummin(1).values.flip(1)
    return gaps.gather(1, after)
