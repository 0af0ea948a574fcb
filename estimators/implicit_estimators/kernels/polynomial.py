r"""Polynomial kernels: they compare moments up to their degree, and nothing beyond.

.. math:: k(x, y) = \left(\gamma \, x \cdot y + c\right)^p

With degree 1 and c = 0 the discrepancy is the squared distance of the means. The cubic one with
:math:`\gamma = 1 / d` and c = 1, on features of images, is the Kernel Inception Distance. Unlike the other kernels it
is not invariant under translations: it depends on where the origin is.

References:
    | Demystifying MMD GANs (Bińkowski, Sutherland, Arbel and Gretton, 2018), for the cubic one
    | https://arxiv.org/abs/1801.01401
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from implicit_estimators.kernels.base import Kernel, positive


@dataclass(frozen=True)
class Polynomial(Kernel):
    r"""A power of a shifted inner product.

    Args:
        degree: p.
        scale: :math:`\gamma`; None for one over the number of columns.
        offset: c, not negative.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> import torch
        >>> Polynomial().matrix(torch.ones(1, 4), torch.ones(1, 4))  # (4 / 4 + 1)**3
        tensor([[8.]])
    """

    degree: int = 3
    scale: float | None = None
    offset: float = 1.0

    name: ClassVar[str] = "polynomial"
    radial: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.degree < 1:
            raise ValueError(f"degree: expected a positive int; got {self.degree}")
        if self.scale is not None:
            positive((self.scale,), "scale")
        if not 0 <= self.offset < math.inf:
            raise ValueError(f"offset: expected a number that is not negative; got {self.offset}")

    def factor(self, dim: int) -> float:
        """The scale."""
        return 1 / dim if self.scale is None else self.scale

    def of(self, argument: Tensor) -> Tensor:
        """The power of the scaled inner products."""
        return (argument + self.offset) ** self.degree

    def of_with_weight(self, argument: Tensor) -> tuple[Tensor, Tensor]:
        """The power, and its derivative in the scaled inner products."""
        base = argument + self.offset
        lower = base ** (self.degree - 1)
        return lower * base, self.degree * lower
