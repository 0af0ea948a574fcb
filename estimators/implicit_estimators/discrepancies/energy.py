r"""Energy distance: how much further apart samples of two laws are than samples of one. Nothing to train or to choose.

.. math:: D^2(p, q) = 2 \, \mathbb{E}|x - y|^\beta - \mathbb{E}|x - x'|^\beta - \mathbb{E}|y - y'|^\beta,
    \quad x, x' \sim p, \; y, y' \sim q, \; 0 < \beta < 2

It is 0 only if p = q, does not change under shifts and rotations, and grows by :math:`c^\beta` where both are scaled
by c: it has no bandwidth, and a slope however far apart the laws are. It is the squared MMD of the kernel
:math:`-|x - y|^\beta`, up to what a kernel may differ by. On the line with :math:`\beta = 1` it is
:math:`2 \int (F - G)^2`, twice the squared Cramér distance, and sorting gives it exactly.

References:
    | Energy statistics: A class of statistics based on distances (Székely and Rizzo, 2013)
    | https://doi.org/10.1016/j.jspi.2013.03.018
    | Equivalence of distance-based and RKHS-based statistics in hypothesis testing (Sejdinovic et al., 2013)
    | https://arxiv.org/abs/1207.6076
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from implicit_estimators.inputs import as_pair


@dataclass(frozen=True)
class EnergyDistance:
    r"""Squared energy distance; ``scipy.stats.energy_distance`` is its square root on the line (with pairs of equals).

    Args:
        beta: The power of distances, inside (0, 2). A small one looks at near samples; at 2 only means would count.
        unbiased: Leave out each sample's pair with itself (the U-statistic): 0 on average where p = q, and so
            negative half of the time. False keeps them (the V-statistic): not negative, and of order 1/n where p = q.
        block: Rows and columns of the distance matrix held at a time.

    Raises:
        ValueError: If ``beta`` is out of its range or the block is not positive.

    Example:
        >>> x, y = torch.zeros(4, 1), torch.ones(4, 1)
        >>> EnergyDistance().squared(x, y)  # 2 - 0 - 0
        tensor(2.)
    """

    beta: float = 1.0
    unbiased: bool = True
    block: int = 256

    name: ClassVar[str] = "energy"

    def __post_init__(self) -> None:
        if not 0 < self.beta < 2:
            raise ValueError(f"beta: expected a number inside (0, 2); got {self.beta}")
        if self.block < 1:
            raise ValueError(f"block: expected a positive int; got {self.block}")

    def squared(self, x: Any, y: Any) -> Tensor:
        """The squared distance of two sample sets.

        Args:
            x: Samples with shape (n, d) or (n,): tensor, array or frame.
            y: Samples with shape (m, d) or (m,).

        Returns:
            A scalar with the dtype of ``x``, once differentiable in both. Samples that coincide have no slope between
            them.

        Raises:
            TypeError: If samples are not numeric.
            ValueError: If they are refused (see ``inputs.as_pair``), or have fewer than 2 rows and ``unbiased`` is set.
        """
        x, y = as_pair(x, y, ("x", "y"), rows=2 if self.unbiased else 1)
        return energy_squared(x, y.to(x), self.beta, self.unbiased, self.block)


def energy_squared(x: Tensor, y: Tensor, beta: float = 1.0, unbiased: bool = True, block: int = 256) -> Tensor:
    """The squared distance of finite samples, unchecked (see :class:`EnergyDistance`).

    Args:
        x: Samples with shape (n, d).
        y: Samples with shape (m, d).
        beta: The power.
        unbiased: Whether pairs of a sample with itself are left out.
        block: Rows and columns held at a time.

    Returns:
        A scalar, once differentiable in x and y.
    """
    if beta == 1 and x.shape[1] == 1:
        return _OnTheLine.apply(x, y, unbiased)
    n, m = len(x), len(y)
    pairs_x, pairs_y = (k * (k - 1) if unbiased else k**2 for k in (n, m))
    between, within_x, within_y = (_DistanceSum.apply(a, b, beta, block) for a, b in ((x, y), (x, None), (y, None)))
    return (2 * between / (n * m) - within_x / pairs_x - within_y / pairs_y).to(x.dtype)


class _DistanceSum(torch.autograd.Function):
    """Sum of |x_i - y_j|^beta over all pairs, or over those of x where y is None, in blocks; once differentiable.

    Squared distances come out of a matrix product, and a root magnifies its rounding where points are close: products
    are taken in float64, whatever the samples are in.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor | None, beta: float, block: int) -> Tensor:
        """The sum in float64; the gradients are summed on the way."""
        within = y is None
        dtype = x.dtype
        x = x.double()
        centre = (x if y is None else y.double()).mean(0)
        x = x - centre
        y = x if y is None else y.double() - centre
        want_x, want_y = ctx.needs_input_grad[0], ctx.needs_input_grad[1] and not within
        gradient_x = torch.zeros_like(x) if want_x else None
        gradient_y = gradient_x if within else torch.zeros_like(y) if want_y else None
        norms_x, norms_y = x.square().sum(1), y.square().sum(1)
        # what rounding alone makes of two points that coincide
        floor = 16 * torch.finfo(torch.float64).eps * (norms_x.max() + norms_y.max())
        total = torch.zeros((), dtype=torch.float64, device=x.device)
        for top in range(0, len(x), block):
            rows = x[top : top + block]
            for left in range(top if within else 0, len(y), block):
                columns = y[left : left + block]
                squared = torch.addmm(norms_y[left : left + block][None], rows, columns.T, alpha=-2)
                squared.add_(norms_x[top : top + block][:, None])
                squared.masked_fill_(squared <= floor, 0)
                mirrored = within and left > top
                if within and not mirrored:
                    squared.fill_diagonal_(0)
                value = squared.sqrt() if beta == 1 else squared.pow(beta / 2)
                total += (2 if mirrored else 1) * value.sum()
                if gradient_x is None and gradient_y is None:
                    continue
                slope = value.mul_(beta).div_(squared)
                slope.masked_fill_(squared == 0, 0)
                times = 2 if within else 1
                if gradient_x is not None:
                    gradient_x[top : top + block] += times * (rows * slope.sum(1)[:, None] - slope @ columns)
                if gradient_y is not None and (mirrored or not within):
                    gradient_y[left : left + block] += times * (columns * slope.sum(0)[:, None] - slope.T @ rows)
        ctx.save_for_backward(
            None if gradient_x is None else gradient_x.to(dtype),
            None if gradient_y is None or within else gradient_y.to(dtype),
        )
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """The stored gradients, scaled."""
        x, y = (None if gradient is None else gradient * upstream.to(gradient.dtype) for gradient in ctx.saved_tensors)
        return x, y, None, None


class _OnTheLine(torch.autograd.Function):
    """The squared distance with beta = 1 of samples on the line, from their sorted values."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, unbiased: bool) -> Tensor:
        """Twice the integral of (F - G)^2, corrected for pairs of a sample with itself."""
        dtype = x.dtype
        centre = y.double().mean()
        x, y = x[:, 0].double() - centre, y[:, 0].double() - centre
        n, m = len(x), len(y)
        sorted_x, sorted_y = x.sort().values, y.sort().values
        points = torch.cat([sorted_x, sorted_y]).sort().values
        gap = _share_below(sorted_x, points[:-1]) - _share_below(sorted_y, points[:-1])
        value = 2 * (gap.square() * points.diff()).sum()
        stretch_x, stretch_y = (1 / (k - 1) if unbiased else 0.0 for k in (n, m))
        if unbiased:
            value = value - stretch_x * _mean_distance(sorted_x) - stretch_y * _mean_distance(sorted_y)
        # each pulls at a sample with the share of its law on one side less that on the other
        slope_x, slope_y = (
            2 / len(at) * (_balance(other, at) - (1 + stretch) * _balance(own, at)) if wanted else None
            for at, own, other, stretch, wanted in (
                (x, sorted_x, sorted_y, stretch_x, ctx.needs_input_grad[0]),
                (y, sorted_y, sorted_x, stretch_y, ctx.needs_input_grad[1]),
            )
        )
        ctx.save_for_backward(
            None if slope_x is None else slope_x[:, None].to(dtype),
            None if slope_y is None else slope_y[:, None].to(dtype),
        )
        return value.to(dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """The stored gradients, scaled."""
        x, y = (None if gradient is None else gradient * upstream for gradient in ctx.saved_tensors)
        return x, y, None


def _share_below(ascending: Tensor, at: Tensor, right: bool = True) -> Tensor:
    return torch.searchsorted(ascending, at, right=right).double() / len(ascending)


def _balance(ascending: Tensor, at: Tensor) -> Tensor:
    """Mean of sign(at - sample)."""
    return _share_below(ascending, at) + _share_below(ascending, at, right=False) - 1


def _mean_distance(ascending: Tensor) -> Tensor:
    """Mean of |x - x'| over all pairs, those of a sample with itself too."""
    n = len(ascending)
    rank = torch.arange(1 - n, n, 2, dtype=ascending.dtype, device=ascending.device)
    return 2 * (rank * ascending).sum() / n**2
