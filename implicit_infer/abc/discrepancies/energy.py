r"""Energy distance of data sets: how much farther apart points of two sets are than points of one.

.. math:: D^2 = \frac1{m^2} \sum_{ij} \left( 2 |x_i - y_j| - |x_i - x_j| - |y_i - y_j| \right)

On the line it is :math:`2 \int (F_m - G_m)^2`, which sorting gives in :math:`O(m \log m)`.

References:
    | Approximate Bayesian computation with the energy statistic (Nguyen, Arbel, Lü & Forbes, 2020)
    | https://arxiv.org/abs/1905.05884
    | Energy statistics: A class of statistics based on distances (Székely & Rizzo, 2013)
    | https://doi.org/10.1016/j.jspi.2013.03.018
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_infer.abc.discrepancies.base import Compare, SetDistance
from implicit_infer.abc.discrepancies.line import merged


@dataclass(frozen=True)
class Energy(SetDistance):
    """Energy distance (its root, the V-statistic): no bandwidth to choose."""

    def against(self, observed: Tensor) -> Compare:
        """See :class:`SetDistance`."""
        if observed.shape[1] == 1:
            return lambda sets: _on_the_line(sets[:, :, 0], observed[:, 0])
        own = torch.cdist(observed, observed).mean()

        def compare(sets: Tensor) -> Tensor:
            between = torch.cdist(sets, observed).mean((1, 2))
            within = torch.cdist(sets, sets).mean((1, 2))
            return (2 * between - within - own).clamp_min(0).sqrt()

        return compare

    def held(self, m: int, p: int) -> int:
        """See :class:`SetDistance`."""
        return 4 * m if p == 1 else m * m


def _on_the_line(sets: Tensor, observed: Tensor) -> Tensor:
    values, gaps = merged(sets, observed)
    return (2 * (gaps[:, :-1].square() * values.diff(dim=1)).sum(1)).sqrt()
