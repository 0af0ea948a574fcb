r"""Gaussian kernels of several bandwidths, averaged: from fine structure to overall shape.

.. math:: k(x, y) = \frac{1}{B} \sum_b \exp\left(-\frac{\|x - y\|^2}{2 \ell_b^2}\right)

Half the bandwidth is the fourth power, so a ladder of bandwidths, each half of the next, costs one exponential.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from implicit_estimators.kernels.base import Compiled, Kernel, positive
from implicit_estimators.seeds import Seed, generator

_LINKS = 4
"""Fourth powers taken in a row in single precision: each multiplies the rounding error of the first by 4."""


@dataclass(frozen=True)
class Gaussian(Kernel):
    r"""The mean of Gaussian kernels.

    Args:
        bandwidths: :math:`\ell_b`, in the units of the samples.

    Raises:
        ValueError: If one is not positive.

    Example:
        >>> import torch
        >>> Gaussian((1.0,)).matrix(torch.zeros(1, 2), torch.ones(1, 2))  # exp(-1)
        tensor([[0.3679]])
    """

    bandwidths: tuple[float, ...] = (1.0,)

    name: ClassVar[str] = "gaussian"

    def __post_init__(self) -> None:
        object.__setattr__(self, "bandwidths", tuple(map(float, self.bandwidths)))
        positive(self.bandwidths, "bandwidths")

    def of(self, argument: Tensor) -> Tensor:
        """The mean over bandwidths."""
        total = sum((part for part, _ in self._parts(argument)), torch.zeros_like(argument))
        return total / len(self.bandwidths)

    def of_with_weight(self, argument: Tensor) -> tuple[Tensor, Tensor]:
        """The mean, and the mean of each over its squared bandwidth."""
        total, weight = torch.zeros_like(argument), torch.zeros_like(argument)
        for part, bandwidth in self._parts(argument):
            total += part
            weight.add_(part, alpha=1 / bandwidth**2)
        return total.div_(len(self.bandwidths)), weight.div_(len(self.bandwidths))

    def _parts(self, squared: Tensor) -> Iterator[tuple[Tensor, float]]:
        """Each Gaussian and its bandwidth, widest first."""
        part = squared
        for bandwidth, fresh in self._ladder():
            # two squares and not pow: cheaper than exp, forward and backward
            part = torch.exp(squared * (-0.5 / bandwidth**2)) if fresh else part.square().square()
            yield part, bandwidth

    def _ladder(self) -> Iterator[tuple[float, bool]]:
        """Bandwidths, widest first, and whether one is an exponential rather than the fourth power of the last."""
        wider, links = math.inf, 0
        for bandwidth in sorted(self.bandwidths, reverse=True):
            fresh = links == _LINKS or not math.isclose(wider, 2 * bandwidth, rel_tol=1e-9)
            links = 0 if fresh else links + 1
            wider = bandwidth
            yield bandwidth, fresh

    @property
    def compiled(self) -> Compiled:
        """Rows of (factor of the squared distance to base 2, or 0 for a fourth power; weight of the slope)."""
        import numpy as np

        parts = np.zeros((len(self.bandwidths), 3), np.float32)
        for row, (bandwidth, fresh) in zip(parts, self._ladder(), strict=True):
            row[0] = -0.5 / (bandwidth**2 * math.log(2)) if fresh else 0
            row[1] = 1 / bandwidth**2
        return Compiled(0, parts, 1 / len(self.bandwidths))

    def frequencies(self, count: int, dim: int, seed: Seed = None) -> Tensor:
        """Normal, with each bandwidth's share."""
        draw = generator(seed, "cpu")
        widths = torch.tensor(self.bandwidths, dtype=torch.float64)[torch.arange(count) % len(self.bandwidths)]
        return torch.randn(count, dim, generator=draw, dtype=torch.float64) / widths[:, None]
