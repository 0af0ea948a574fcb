r"""Gaussian kernels of several bandwidths, summed over all pairs in blocks, with their gradient in closed form.

.. math:: k(x, y) = \frac{1}{B} \sum_b \exp\left(-\frac{\|x - y\|^2}{2 \ell_b^2}\right)

All pairs of 10,000 samples are 10^8 kernel values. They are never held at once: blocks of rows are summed and thrown
away, and so is their gradient, :math:`\sum_j w_{ij} (y_j - x_i)` with :math:`w = -2 \, \partial k / \partial \|x -
y\|^2`, which autograd would have to keep the blocks for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.seeds import Seed, generator

LADDER = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Bandwidths in units of the median distance: fine structure to overall shape, each half of the next."""


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    r"""Squared Euclidean distances of all pairs, by one matrix product.

    Both are centred on y's mean first: in :math:`|x|^2 + |y|^2 - 2 x \cdot y` far from the origin, large numbers
    would cancel.

    Args:
        x: Points with shape (\*, n, d).
        y: Points with shape (\*, m, d).

    Returns:
        Distances with shape (\*, n, m), not negative.
    """
    centre = y.mean(-2, keepdim=True)
    return _squared_distances(x - centre, y - centre)


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    squares = x.square().sum(-1).unsqueeze(-1) + y.square().sum(-1).unsqueeze(-2)
    return (squares - 2 * x @ y.mT).clamp(min=0)


def median_distance(x: Tensor, y: Tensor, seed: Seed = None, most: int = 1000) -> float:
    """Median distance between pairs of x and y together: the usual bandwidth (the "median heuristic").

    Args:
        x: Samples with shape (n, d).
        y: Samples with shape (m, d).
        seed: Seed of the subsample.
        most: Samples of each that are looked at.

    Returns:
        The median; where more than half of the pairs coincide, the mean; 1 if all do.

    Raises:
        ValueError: If there are fewer than 2 samples in all.
    """
    if len(x) + len(y) < 2:
        raise ValueError(f"x, y: expected at least 2 samples in all; got {len(x)} and {len(y)}")
    draw = generator(seed, x.device)
    some = [sample.detach()[torch.randperm(len(sample), generator=draw, device=x.device)[:most]] for sample in (x, y)]
    distances = torch.nn.functional.pdist(torch.cat(some))
    middle = float(distances.median()) or float(distances.mean())
    return middle or 1.0


def ladder(median: float, factors: Sequence[float] = LADDER) -> tuple[float, ...]:
    """Bandwidths: ``median`` times each of ``factors``."""
    return tuple(median * factor for factor in factors)


def gaussian_kernel(squared: Tensor, bandwidths: Sequence[float]) -> Tensor:
    r"""The kernel at squared distances.

    Args:
        squared: :math:`\|x - y\|^2`, any shape.
        bandwidths: :math:`\ell_b`, positive.

    Returns:
        Values with the same shape.
    """
    total = torch.zeros_like(squared)
    for part, _ in _parts(squared, bandwidths):
        total += part
    return total.div_(len(bandwidths))


def _kernel_and_slope(squared: Tensor, bandwidths: Sequence[float]) -> tuple[Tensor, Tensor]:
    r"""The kernel, and :math:`-2 \, \partial k / \partial \|x - y\|^2`."""
    total, slope = torch.zeros_like(squared), torch.zeros_like(squared)
    for part, bandwidth in _parts(squared, bandwidths):
        total += part
        slope.add_(part, alpha=1 / bandwidth**2)
    return total.div_(len(bandwidths)), slope.div_(len(bandwidths))


def _parts(squared: Tensor, bandwidths: Sequence[float]) -> Iterator[tuple[Tensor, float]]:
    """Each Gaussian and its bandwidth, widest first; the tensor is overwritten by the next."""
    part, wider = squared, math.inf
    for bandwidth in sorted(bandwidths, reverse=True):
        if math.isclose(wider, 2 * bandwidth, rel_tol=1e-6):
            part = part.square_().square_()  # half the bandwidth is the fourth power: cheaper than exp
        else:
            part = torch.exp(squared * (-0.5 / bandwidth**2))
        wider = bandwidth
        yield part, bandwidth


class _PairSum(torch.autograd.Function):
    """Sum of k(x_i, y_j) over all pairs, or over all pairs of x where y is None, in blocks; once differentiable."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor | None, bandwidths: Sequence[float], block: int) -> Tensor:
        """The sum; the gradients are summed on the way, for the blocks are gone afterwards."""
        within = y is None
        centre = (x if y is None else y).mean(0)  # far from the origin, products of large numbers would cancel
        x = x - centre
        y = x if y is None else y - centre
        want_x, want_y = ctx.needs_input_grad[0], ctx.needs_input_grad[1] and not within
        gradient_x = torch.zeros_like(x) if want_x else None
        gradient_y = gradient_x if within else torch.zeros_like(y) if want_y else None
        total = torch.zeros((), dtype=torch.float64, device=x.device)
        for top in range(0, len(x), block):
            rows = x[top : top + block]
            for left in range(top if within else 0, len(y), block):
                columns = y[left : left + block]
                squared = _squared_distances(rows, columns)
                mirrored = within and left > top  # the block across the diagonal has the same pairs
                if within and not mirrored:
                    squared.fill_diagonal_(0)
                count = 2 if mirrored else 1
                if gradient_x is None and gradient_y is None:
                    total += count * gaussian_kernel(squared, bandwidths).sum(dtype=torch.float64)
                    continue
                value, slope = _kernel_and_slope(squared, bandwidths)
                total += count * value.sum(dtype=torch.float64)
                times = 2 if within else 1
                if gradient_x is not None:
                    gradient_x[top : top + block] += times * (slope @ columns - rows * slope.sum(1)[:, None])
                if gradient_y is not None and (mirrored or not within):
                    gradient_y[left : left + block] += times * (slope.T @ rows - columns * slope.sum(0)[:, None])
        ctx.save_for_backward(gradient_x, None if within else gradient_y)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """The stored gradients, scaled."""
        x, y = (None if gradient is None else gradient * upstream.to(gradient.dtype) for gradient in ctx.saved_tensors)
        return x, y, None, None


def pair_sum(x: Tensor, y: Tensor | None, bandwidths: Sequence[float], block: int = 512) -> Tensor:
    r"""Sum of the kernel over all pairs, :math:`\sum_{ij} k(x_i, y_j)`.

    Memory grows with n + m and the square of ``block``, not with the number of pairs.

    Args:
        x: Samples with shape (n, d).
        y: Samples with shape (m, d); None for x itself, in half of the time, each point's pair with itself counting 1.
        bandwidths: Bandwidths, positive.
        block: Rows and columns held at a time.

    Returns:
        A scalar in float64, once differentiable in x and y.
    """
    return _PairSum.apply(x, y, tuple(bandwidths), block)
