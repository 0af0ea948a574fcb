r"""Laplace kernels: exponential in the distance, with a kink at 0 that sees the finest structure.

.. math:: k(x, y) = \frac{1}{B} \sum_b \exp\left(-\frac{\|x - y\|}{\ell_b}\right)

Its spectral law is Cauchy, whose tails give weight to frequencies that Gaussian kernels do not see. At distance 0 it
has no derivative; 0 is used, as for every pair by symmetry.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from implicit_estimators.kernels.base import Compiled, Kernel, distance_of, positive
from implicit_estimators.seeds import Seed, generator


@dataclass(frozen=True)
class Laplace(Kernel):
    r"""The mean of Laplace kernels.

    Args:
        bandwidths: :math:`\ell_b`, in the units of the samples.

    Raises:
        ValueError: If one is not positive.

    Example:
        >>> import torch
        >>> Laplace((2.0,)).matrix(torch.zeros(1, 1), 2 * torch.ones(1, 1))  # exp(-1)
        tensor([[0.3679]])
    """

    bandwidths: tuple[float, ...] = (1.0,)

    name: ClassVar[str] = "laplace"
    smooth: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "bandwidths", tuple(map(float, self.bandwidths)))
        positive(self.bandwidths, "bandwidths")

    def of(self, argument: Tensor) -> Tensor:
        """The mean over bandwidths."""
        distance, total = distance_of(argument), torch.zeros_like(argument)
        for bandwidth in self.bandwidths:
            total = total + torch.exp(-distance / bandwidth)
        return total / len(self.bandwidths)

    def of_with_weight(self, argument: Tensor) -> tuple[Tensor, Tensor]:
        """The mean, and the mean of each over bandwidth and distance."""
        distance = argument.sqrt()
        total, weight = torch.zeros_like(argument), torch.zeros_like(argument)
        for bandwidth in self.bandwidths:
            part = torch.exp(-distance / bandwidth)
            total += part
            weight.add_(part, alpha=1 / bandwidth)
        weight = torch.where(distance > 0, weight / distance, 0)
        return total.div_(len(self.bandwidths)), weight.div_(len(self.bandwidths))

    @property
    def compiled(self) -> Compiled:
        """Rows of (factor of the distance to base 2, weight of the slope)."""
        import numpy as np

        count = len(self.bandwidths)
        rows = [(1 / (width * math.log(2)), 1 / width, 0.0) for width in self.bandwidths]
        return Compiled(2, np.array(rows, np.float32), 1 / count)

    def frequencies(self, count: int, dim: int, seed: Seed = None) -> Tensor:
        """Cauchy in d dimensions, a normal over the modulus of another, with each bandwidth's share."""
        draw = generator(seed, "cpu")
        widths = torch.tensor(self.bandwidths, dtype=torch.float64)[torch.arange(count) % len(self.bandwidths)]
        normal = torch.randn(count, dim + 1, generator=draw, dtype=torch.float64)
        return normal[:, 1:] / (normal[:, :1].abs() * widths[:, None])
