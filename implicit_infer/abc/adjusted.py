r"""Rejection with all that helps it: learned summaries, a tolerance that adjustment makes up for, draws that differ.

Of one bank of simulations from the prior, a tenth is kept by what networks predict of the posterior's first and second
moments (Fearnhead & Prangle, 2012; second moments because a posterior may have two sides), corrected by a regression of
mean and spread on those predictions (Beaumont et al., 2002; Blum & François, 2010), and drawn from with a small normal
law of its neighbours' shape about each. Every part is a setting of ``RejectionABC``.

References:
    | Constructing summary statistics for approximate Bayesian computation (Fearnhead & Prangle, 2012)
    | https://arxiv.org/abs/1004.1112
    | Non-linear regression models for approximate Bayesian computation (Blum & François, 2010)
    | https://doi.org/10.1007/s11222-009-9116-0
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from implicit_infer.abc.adjustment import Adjustment, LocalLinear
from implicit_infer.abc.distances import Distance
from implicit_infer.abc.rejection import RejectionABC
from implicit_infer.abc.summaries import SemiAutomatic


def _learned() -> Distance:
    return SemiAutomatic(moments=2)


def _adjustment() -> Adjustment:
    return LocalLinear(heteroscedastic=True)


@dataclass(frozen=True)
class AdjustedABC(RejectionABC):
    """Rejection by learned summaries, with regression adjustment and draws that all differ.

    The settings are those of ``RejectionABC``. With neither ``keep``, ``quantile`` nor ``tolerance``, a tenth of the
    budget is kept, but at least 500 simulations.

    Raises:
        ValueError: If more than one rule is given, or a setting is out of its range.
    """

    name: ClassVar[str] = "adjusted-abc"

    distance: Distance = field(default_factory=_learned)
    adjust: str | Adjustment = field(default_factory=_adjustment)
    smooth: bool = True

    def kept(self, budget: int) -> int:
        """How many simulations are kept of ``budget``, where no tolerance is given."""
        if self.keep is not None or self.quantile is not None:
            return super().kept(budget)
        return min(max(math.ceil(budget / 10), 500), budget)
