r"""The negative distance: the kernel without a bandwidth, whose discrepancy is the energy distance.

.. math:: k(x, y) = -\|x - y\|, \qquad \mathrm{MMD}^2 = 2 \, \mathbb{E}\|x - y\| - \mathbb{E}\|x - x'\| -
    \mathbb{E}\|y - y'\|

It is positive definite only among functions that sum to zero, which is all that a difference of two laws needs.

References:
    | Equivalence of distance-based and RKHS-based statistics (Sejdinovic, Sriperumbudur, Gretton and Fukumizu, 2013)
    | https://arxiv.org/abs/1207.6076
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from implicit_estimators.kernels.base import Compiled, Kernel, distance_of


@dataclass(frozen=True)
class NegativeDistance(Kernel):
    """Minus the Euclidean distance; at distance 0 its derivative, which it has not, is taken as 0.

    Example:
        >>> import torch
        >>> NegativeDistance().matrix(torch.zeros(1, 1), 2 * torch.ones(1, 1))
        tensor([[-2.]])
    """

    name: ClassVar[str] = "negative-distance"
    smooth: ClassVar[bool] = False

    def of(self, argument: Tensor) -> Tensor:
        """Minus the square root."""
        return -distance_of(argument)

    def of_with_weight(self, argument: Tensor) -> tuple[Tensor, Tensor]:
        """Minus the distance, and its inverse."""
        distance = argument.sqrt()
        return -distance, torch.where(distance > 0, 1 / distance, 0)

    @property
    def compiled(self) -> Compiled:
        """It has no numbers."""
        import numpy as np

        return Compiled(3, np.zeros((1, 3), np.float32), 1.0)
