r"""What a kernel is: a number for each pair of points, summed over all pairs without ever holding them.

A kernel :math:`k(x, y)` is a function of one number for each pair: the squared distance :math:`\|x - y\|^2`, or the
inner product :math:`x \cdot y`. A child writes that function and its derivative, and sums, discrepancies and
gradients in blocks follow. A child whose function is compiled too (:attr:`Kernel.compiled`) is summed much faster in
single precision on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor

from implicit_estimators.kernels.distances import exact_squared_distances, squared_distances
from implicit_estimators.seeds import Seed

if TYPE_CHECKING:
    import numpy as np


class Compiled(NamedTuple):
    """A kernel as :mod:`implicit_estimators.kernels.compiled` takes it.

    Attributes:
        kind: Which function.
        parts: Its numbers, one row for each kernel that is averaged.
        scale: What the sum over pairs is multiplied by.
    """

    kind: int
    parts: np.ndarray
    scale: float


@dataclass(frozen=True)
class Kernel:
    """A child sets ``name`` and writes ``of`` and ``of_with_weight``.

    Attributes:
        name: Name in ``KERNELS``.
        radial: Whether it is a function of the squared distance; of the inner product, if not.
        smooth: Whether it is differentiable at distance 0; if not, distances are taken without a matrix product, whose
            rounding there would matter.
    """

    name: ClassVar[str]
    radial: ClassVar[bool] = True
    smooth: ClassVar[bool] = True

    def of(self, argument: Tensor) -> Tensor:
        """The kernel as a function of the squared distance, or of the inner product times :meth:`factor`; elementwise.

        Args:
            argument: Any shape; left alone.

        Returns:
            Values with the same shape.
        """
        raise NotImplementedError(f"{type(self).__name__} must write of(argument)")

    def of_with_weight(self, argument: Tensor) -> tuple[Tensor, Tensor]:
        r"""The kernel and what its gradient needs, without a graph.

        Args:
            argument: Any shape; left alone.

        Returns:
            Values, and weights w with which :math:`\partial k / \partial x = w (y - x)` for a radial kernel
            (:math:`w = -2 \, \partial k / \partial \|x - y\|^2`) and :math:`w y` times :meth:`factor` for another.
        """
        raise NotImplementedError(f"{type(self).__name__} must write of_with_weight(argument)")

    def argument(self, x: Tensor, y: Tensor) -> Tensor:
        r"""What :meth:`of` is applied to for all pairs, with shape (\*, n, m)."""
        if not self.radial:
            return self.factor(x.shape[-1]) * x @ y.mT
        return squared_distances(x, y) if self.smooth else exact_squared_distances(x, y)

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        r"""The kernel of all pairs, differentiable as often as one likes.

        Args:
            x: Points with shape (\*, n, d).
            y: Points with shape (\*, m, d).

        Returns:
            Values with shape (\*, n, m).
        """
        return self.of(self.argument(x, y))

    def paired(self, x: Tensor, y: Tensor) -> Tensor:
        r"""The kernel of each point of x with the point of y in the same place.

        Args:
            x: Points with shape (\*, d).
            y: Points with the same shape.

        Returns:
            Values with shape (\*).
        """
        return self.of((x - y).square().sum(-1) if self.radial else self.factor(x.shape[-1]) * (x * y).sum(-1))

    def factor(self, dim: int) -> float:
        """What inner products of ``dim`` numbers are multiplied by, for a kernel of theirs."""
        return 1.0

    @property
    def compiled(self) -> Compiled | None:
        """The kernel for compiled sums, or None."""
        return None

    def frequencies(self, count: int, dim: int, seed: Seed = None) -> Tensor:
        r"""Draws from the spectral law of a translation-invariant kernel with k(x, x) = 1 (Bochner's theorem).

        .. math:: k(x, y) = \mathbb{E}_\omega \cos\left(\omega \cdot (x - y)\right)

        Args:
            count: How many.
            dim: d of the samples.
            seed: An int, a ``torch.Generator`` or None.

        Returns:
            Frequencies with shape (count, dim), in float64 on the CPU.

        Raises:
            TypeError: If the kernel has none.
        """
        raise TypeError(f"kernel: expected one with a spectral law, such as Gaussian; got {type(self).__name__}")


def distance_of(squared: Tensor) -> Tensor:
    """The square root, with derivative 0 at 0."""
    apart = squared > 0
    return torch.where(apart, squared, 1).sqrt() * apart


def positive(values: tuple[float, ...], name: str) -> None:
    """Refuse numbers that are no bandwidths.

    Raises:
        ValueError: If there are none, or one is not positive and finite.
    """
    if not (len(values) and all(0 < value < float("inf") for value in values)):
        raise ValueError(f"{name}: expected positive numbers; got {values}")
