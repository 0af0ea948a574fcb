r"""Sums of a kernel over all pairs, with their gradient in closed form, in memory that grows with the samples only.

.. math:: \sum_{i, j} k(x_i, y_j) \qquad \text{or, within one set,} \qquad \sum_{i \ne j} k(x_i, x_j)

All pairs of 10,000 samples are 10^8 kernel values. They are never held at once: blocks are summed and thrown away, and
so is their gradient, for which autograd would have to keep them. In single precision on the CPU the blocks are
compiled (:mod:`implicit_estimators.kernels.compiled`); elsewhere they are torch's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from implicit_estimators.kernels.base import Kernel

MOST_PAIRS = 2**24
"""Pairs of which second derivatives are offered: they hold all kernel values at once, some gigabytes here."""


def pair_sum(x: Tensor, y: Tensor | None, kernel: Kernel, block: int = 512) -> Tensor:
    r"""The sum over pairs.

    Values and gradients are once computed in blocks; a derivative of the gradient (``create_graph=True``) holds all
    pairs at once.

    Args:
        x: Samples with shape (n, d).
        y: Samples with shape (m, d); None for pairs of different samples of x, in half of the time.
        kernel: The kernel.
        block: Rows and columns held at a time, where the blocks are torch's.

    Returns:
        A scalar in float64, differentiable in x and y.

    Raises:
        RuntimeError: In a backward pass with ``create_graph=True``, with more than 2**24 pairs.
    """
    return _PairSum.apply(x, y, kernel, block)


class _PairSum(torch.autograd.Function):
    """The gradients are summed along with the values, for the blocks are gone afterwards."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor | None, kernel: Kernel, block: int) -> Tensor:
        """The sum, and the gradients that will be wanted."""
        want_x, want_y = ctx.needs_input_grad[0], ctx.needs_input_grad[1] and y is not None
        sums = _compiled_sums if _is_compiled(x, y, kernel) else _torch_sums
        total, gradient_x, gradient_y = sums(
            x.detach(), None if y is None else y.detach(), kernel, block, want_x, want_y
        )
        ctx.kernel = kernel
        ctx.save_for_backward(x, y, gradient_x, gradient_y)
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """The stored gradients, scaled; with a graph of their own, the gradients of torch's own sum."""
        (scale,) = upstream
        x, y, gradient_x, gradient_y = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *_differentiable(x, y, ctx.kernel, scale, ctx.needs_input_grad), None, None
        return (
            None if gradient_x is None else gradient_x * scale.to(gradient_x.dtype),
            None if gradient_y is None else gradient_y * scale.to(gradient_y.dtype),
            None,
            None,
        )


def _differentiable(
    x: Tensor, y: Tensor | None, kernel: Kernel, scale: Tensor, wanted: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None]:
    pairs = len(x) * len(x if y is None else y)
    if pairs > MOST_PAIRS:
        raise RuntimeError(
            f"create_graph: a derivative of the gradient would hold {pairs} kernel values; it is offered for at most "
            f"{MOST_PAIRS}"
        )
    total = kernel.matrix(x, x if y is None else y)
    if y is None:
        # a mask and not a difference of sums: what is on the diagonal may be much larger than the rest
        total = total.masked_fill(torch.eye(len(x), dtype=torch.bool, device=x.device), 0)
    inputs = [leaf for leaf, want in zip((x, y), wanted, strict=False) if want and leaf is not None]
    outcome = iter(torch.autograd.grad(total.sum(), inputs, scale.to(total.dtype), create_graph=True))
    first, second = (next(outcome) if want else None for want in wanted[:2])
    return first, second


def _is_compiled(x: Tensor, y: Tensor | None, kernel: Kernel) -> bool:
    single = all(s.dtype == torch.float32 and s.device.type == "cpu" for s in (x, y) if s is not None)
    if not single or kernel.compiled is None:
        return False
    import numba

    return not getattr(numba.config, "DISABLE_JIT", False)


def _compiled_sums(
    x: Tensor, y: Tensor | None, kernel: Kernel, block: int, want_x: bool, want_y: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    import numpy as np

    from implicit_estimators.kernels import compiled

    assert kernel.compiled is not None
    kind, parts, scale = kernel.compiled
    rows = np.ascontiguousarray(x.numpy())
    columns = rows if y is None else np.ascontiguousarray(y.numpy())
    gradients = [np.zeros(s.shape if want else (0, 0)) for s, want in ((rows, want_x), (columns, want_y))]
    total = compiled.pairs(rows, columns, y is None, kind, parts, *gradients, want_x, want_y)
    first, second = (
        torch.from_numpy(gradient).mul_(scale).float() if want else None
        for gradient, want in zip(gradients, (want_x, want_y), strict=True)
    )
    return torch.tensor(total * scale, dtype=torch.float64), first, second


def _torch_sums(
    x: Tensor, y: Tensor | None, kernel: Kernel, block: int, want_x: bool, want_y: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    within = y is None
    if kernel.radial:  # far from the origin, products of large numbers would cancel
        centre = (x if y is None else y).mean(0)
        x, y = x - centre, None if y is None else y - centre
    y = x if y is None else y
    gradient_x = torch.zeros_like(x) if want_x else None
    gradient_y = gradient_x if within else torch.zeros_like(y) if want_y else None
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    for top in range(0, len(x), block):
        rows = x[top : top + block]
        for left in range(top if within else 0, len(y), block):
            columns = y[left : left + block]
            diagonal, mirrored = within and left == top, within and left > top
            argument = _argument(kernel, rows, columns)
            count = 2 if mirrored else 1  # the block across the diagonal has the same pairs
            if gradient_x is None and gradient_y is None:
                value = kernel.of(argument)
                total += count * (value.fill_diagonal_(0) if diagonal else value).sum(dtype=torch.float64)
                continue
            value, weight = kernel.of_with_weight(
                argument.fill_diagonal_(0) if diagonal and kernel.radial else argument
            )
            if diagonal:
                value.fill_diagonal_(0)
                weight.fill_diagonal_(0)
            total += count * value.sum(dtype=torch.float64)
            times = 2 if within else 1
            if gradient_x is not None:
                gradient_x[top : top + block] += times * _pulled(kernel, weight, rows, columns)
            if gradient_y is not None and (mirrored or not within):
                gradient_y[left : left + block] += times * _pulled(kernel, weight.T, columns, rows)
    return total, gradient_x, None if within else gradient_y


def _argument(kernel: Kernel, rows: Tensor, columns: Tensor) -> Tensor:
    if kernel.smooth:
        return kernel.argument(rows, columns)
    # the same numbers as exact_squared_distances has, without its array of differences
    return torch.cdist(rows, columns, compute_mode="donot_use_mm_for_euclid_dist").square_()


def _pulled(kernel: Kernel, weight: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The gradient of the block's sum in its rows."""
    if kernel.radial:
        return weight @ columns - rows * weight.sum(1)[:, None]
    return weight @ columns * kernel.factor(rows.shape[1])
