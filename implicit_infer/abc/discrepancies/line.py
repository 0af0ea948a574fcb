"""Two samples on the line, sorted together: where each distribution function rises, for many sets in one call."""

from __future__ import annotations

import torch
from torch import Tensor

from implicit_estimators.discrepancies.sorting import sort_rows_with_order


def merged(sets: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    r"""The values of each set and of the observed one in ascending order, and how far apart their shares are there.

    Args:
        sets: Values with shape (b, n), finite.
        observed: Values with shape (m,), finite.

    Returns:
        Values with shape (b, n + m), and :math:`F_n - G_m` right after each, float64, with the same shape. At values
        that occur more than once the last one counts.
    """
    n, m = sets.shape[1], len(observed)
    values, order = sort_rows_with_order(torch.cat([sets, observed.expand(len(sets), -1)], dim=1))
    # in whole numbers, so that the two distribution functions meet exactly
    rises = torch.where(order < n, m, -n)
    return values, rises.cumsum(1).double() / (n * m)
