r"""Kullback-Leibler divergence by nearest neighbours: how much nearer observed points lie to each other than to others.

.. math:: \widehat{\mathrm{KL}}(y \,\|\, x) = \frac{p}{m} \sum_i \log \frac{\nu_k(y_i)}{\rho_k(y_i)}
    + \log \frac{n}{m - 1},

with :math:`\nu_k` the distance of the observed point :math:`y_i` to its k-th nearest among the n simulated ones, and
:math:`\rho_k` that to its k-th nearest among other observed ones. It is consistent for every k, and at times negative.

References:
    | Approximate Bayesian computation with Kullback-Leibler divergence as data discrepancy (Jiang, Wu & Wong, 2018)
    | https://proceedings.mlr.press/v84/jiang18a.html
    | Kullback-Leibler divergence estimation of continuous distributions (Pérez-Cruz, 2008)
    | https://doi.org/10.1109/ISIT.2008.4595271
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_infer.abc.discrepancies.base import Compare, SetDistance

NEAREST = 1e-6
"""Distances below this, in robust standard deviations, count as this: points that coincide have no logarithm."""


@dataclass(frozen=True)
class NearestNeighbourKL(SetDistance):
    """Kullback-Leibler divergence of the observed law from the simulated one, by nearest neighbours.

    Args:
        neighbours: Which neighbour, k; the paper takes the first.

    Raises:
        ValueError: If ``neighbours`` is not positive, or not less than the number of points.
    """

    neighbours: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.neighbours < 1:
            raise ValueError(f"neighbours: expected a positive int; got {self.neighbours}")

    def against(self, observed: Tensor) -> Compare:
        """See :class:`SetDistance`."""
        (m, p), k = observed.shape, self.neighbours
        if k >= m:
            raise ValueError(f"neighbours: expected less than the {m} points; got {k}")
        among = torch.cdist(observed, observed, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
        own = among.kthvalue(k, dim=1).values.clamp_min(NEAREST).double().log().mean()
        target = observed[:, 0].contiguous()

        def compare(sets: Tensor) -> Tensor:
            if p == 1 and k == 1:
                nearest = _nearest_on_the_line(sets[:, :, 0], target)
            else:
                apart = torch.cdist(observed.expand(len(sets), -1, -1), sets)
                nearest = apart.kthvalue(k, dim=2).values if k > 1 else apart.min(2).values
            other = nearest.clamp_min(NEAREST).double().log().mean(1)
            return p * (other - own) + math.log(sets.shape[1] / (m - 1))

        return compare


def _nearest_on_the_line(sets: Tensor, target: Tensor) -> Tensor:
    """Distance of each target (m,) to the nearest value of each set (b, n), with shape (b, m)."""
    ordered = sets.sort(dim=1).values
    targets = target.expand(len(sets), -1).contiguous()
    place = torch.searchsorted(ordered, targets)
    above = ordered.gather(1, place.clamp_max(sets.shape[1] - 1))
    below = ordered.gather(1, (place - 1).clamp_min(0))
    return torch.minimum((above - targets).abs(), (targets - below).abs())
