r"""Ridge regression adjustment: a local-linear one that does not break where summaries are many or collinear.

.. math:: \min_{a, B} \sum_i w_i \left\| \phi_i - a - B^\top z_i \right\|^2 + \lambda \sum_j v_j \| B_j \|^2

for several penalties :math:`\lambda`, whose predictions are averaged; z are the summaries' offsets in robust standard
deviations, :math:`v_j` their weighted variances, and the weights :math:`w_i` sum to one.

References:
    | abc: an R package for approximate Bayesian computation (Csilléry, François & Blum, 2012)
    | https://doi.org/10.1111/j.2041-210X.2011.00179.x
    | Approximate Bayesian computation: a nonparametric perspective (Blum, 2010)
    | https://doi.org/10.1198/jasa.2010.tm09448
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_infer.abc.adjustment.base import Adjustment, epanechnikov, moved, offsets
from implicit_infer.abc.regression import weighted_ridge


@dataclass(frozen=True)
class Ridge(Adjustment):
    """Weighted ridge regression, averaged over penalties.

    Args:
        penalties: Penalties in units of the summaries' variances, averaged.
        heteroscedastic: Whether the residuals are rescaled too (see ``LocalLinear``).

    Raises:
        ValueError: If there is no penalty, or one is negative.
    """

    penalties: tuple[float, ...] = (1e-3, 1e-2, 1e-1)
    heteroscedastic: bool = False

    def __post_init__(self) -> None:
        if not self.penalties or not all(0 <= penalty < float("inf") for penalty in self.penalties):
            raise ValueError(f"penalties: expected non-negative numbers, at least one; got {self.penalties}")

    def adjust(
        self,
        phi: Tensor,
        features: Tensor,
        observed: Tensor,
        distances: Tensor,
        log_weights: Tensor,
        seed: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """See :class:`Adjustment`."""
        offset, weights = offsets(features, observed), epanechnikov(distances, log_weights)
        share = weights / weights.sum()

        def regressed(targets: Tensor) -> tuple[Tensor, Tensor]:
            fits = [weighted_ridge(offset, targets, share, penalty) for penalty in self.penalties]
            slope, intercept = (torch.stack(part).mean(0) for part in zip(*fits, strict=True))
            return intercept + offset @ slope, intercept

        return moved(phi.double(), regressed, self.heteroscedastic), weights.log()

    def doubts(self, accepted: int, summaries: int) -> str:
        """Nothing: the penalty stands for what simulations are missing."""
        return ""
