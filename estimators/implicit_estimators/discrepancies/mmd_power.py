r"""How sure a maximum mean discrepancy is: the variance of the unbiased statistic, and the kernel that tells most.

.. math:: \mathrm{power} \approx \Phi\left(\frac{\mathrm{MMD}^2}{\sqrt V} - \frac{c_\alpha}{n \sqrt V}\right), \quad
    V = \mathrm{Var}\left[\widehat{\mathrm{MMD}}^2\right]

For more than few samples the first term decides, so the most powerful kernel is the one with the largest
:math:`\mathrm{MMD}^2 / \sqrt V` (where p differs from q: at p = q it is the noise that is largest). It must be chosen
on other samples than the test is made with.

V is a polynomial of degree two in expectations of products of kernels, such as
:math:`\mathbb{E}[k(x_1, x_2) k(x_1, x_3)]`. Each is estimated by the mean over all choices of *different* samples,
which sums over rows of the kernel matrices give in :math:`O(n^2)`, so the estimate of V is unbiased for any sizes of
the two sets. (Sutherland et al. 2017 give it for equal sizes; the general form follows from the same counting.) Being
unbiased it can be negative; the ratio uses a floor.

References:
    | Generative Models and Model Criticism via Optimized Maximum Mean Discrepancy (Sutherland et al., 2017)
    | https://arxiv.org/abs/1611.04488
    | Unbiased estimators for the variance of MMD estimators (Sutherland and Deka, 2019)
    | https://arxiv.org/abs/1906.02104
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.inputs import as_pair
from implicit_estimators.kernels import LADDER, Gaussian, Kernel, ladder, median_distance
from implicit_estimators.seeds import Seed

ROWS = 1024
"""Rows of the kernel matrices held at a time."""

FLOOR = 1e-8
"""The smallest variance in the ratio, times the size of the smaller set, in units of the squared kernel."""


def mmd_variance(x: Any, y: Any, kernel: Kernel) -> Tensor:
    r"""The unbiased estimate of the variance of the unbiased statistic of these samples.

    .. math:: V = \mathrm{Var}[U_x] + \mathrm{Var}[U_y] + 4 \mathrm{Var}[A] - 4 \mathrm{Cov}[U_x, A] -
        4 \mathrm{Cov}[U_y, A]

    with :math:`U` the means within the sets and A the mean between them.

    Args:
        x: Samples with shape (n, d) or (n,).
        y: Samples with shape (m, d) or (m,).
        kernel: The kernel.

    Returns:
        A scalar in float64, differentiable in both where they ask for it (which holds all pairs).

    Raises:
        TypeError: If samples are not numeric.
        ValueError: If they are refused (see ``inputs.as_pair``), or have fewer than 4 rows.
    """
    return _moments(*_pair(x, y), kernel)[1]


def power_criterion(x: Any, y: Any, kernel: Kernel) -> Tensor:
    r"""The criterion :math:`\mathrm{MMD}^2 / \sqrt V`, by which the test's power grows.

    Args:
        x: Samples with shape (n, d) or (n,).
        y: Samples with shape (m, d) or (m,).
        kernel: The kernel.

    Returns:
        A scalar in float64, differentiable in both where they ask for it (which holds all pairs).

    Raises:
        TypeError: If samples are not numeric.
        ValueError: If they are refused (see ``inputs.as_pair``), or have fewer than 4 rows.
    """
    value, variance = _moments(*_pair(x, y), kernel)
    return value / variance.clamp(min=FLOOR / min(len(x), len(y))).sqrt()


def most_powerful(x: Any, y: Any, kernels: Sequence[Kernel] | None = None, seed: Seed = 0) -> Kernel:
    """The kernel with the largest criterion: to be used on *other* samples.

    Args:
        x: Samples with shape (n, d) or (n,).
        y: Samples with shape (m, d) or (m,).
        kernels: What to choose from; None for Gaussians with a bandwidth each, and all of them, around the median
            distance.
        seed: Seed of the at most 1,000 samples of each that the median is taken of.

    Returns:
        One of them.

    Raises:
        TypeError: If samples are not numeric.
        ValueError: If there are no kernels, or samples are refused, or have fewer than 4 rows.
    """
    x, y = (side.detach() for side in _pair(x, y))
    if kernels is None:
        widths = ladder(median_distance(x, y, seed), (0.0625, 0.125, *LADDER))
        kernels = [Gaussian(widths), *(Gaussian((width,)) for width in widths)]
    if not kernels:
        raise ValueError("kernels: expected at least one; got none")
    return max(kernels, key=lambda kernel: float(power_criterion(x, y, kernel)))


def _pair(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    x, y = as_pair(x, y, ("x", "y"), rows=4)
    return x, y.to(x)


def _moments(x: Tensor, y: Tensor, kernel: Kernel) -> tuple[Tensor, Tensor]:
    """The unbiased statistic, and the unbiased estimate of its variance."""
    n, m = len(x), len(y)
    within_x, within_y, between = _Sums.of(x, None, kernel), _Sums.of(y, None, kernel), _Sums.of(x, y, kernel)
    mean_x, variance_x = _within(within_x, n)
    mean_y, variance_y = _within(within_y, m)
    mean, variance = _between(between, n, m)
    shared_x = _shared(within_x, between.rows, between, n, m)
    shared_y = _shared(within_y, between.columns, between, m, n)
    value = mean_x + mean_y - 2 * mean
    return value, variance_x + variance_y + 4 * variance - 4 * shared_x - 4 * shared_y


class _Sums:
    """Sums over a kernel matrix, without its diagonal within one set: of rows, of columns, of squares."""

    def __init__(self, rows: Tensor, columns: Tensor, squares: Tensor) -> None:
        self.rows, self.columns, self.squares = rows, columns, squares
        self.all = rows.sum()

    @classmethod
    def of(cls, x: Tensor, y: Tensor | None, kernel: Kernel) -> _Sums:
        """Summed in blocks of rows."""
        rows, columns, squares = [], torch.zeros((), dtype=torch.float64, device=x.device), 0 * x[0, 0].double()
        for top in range(0, len(x), ROWS):
            some = x[top : top + ROWS]
            block = kernel.matrix(some, x if y is None else y).double()
            if y is None:
                own = torch.arange(len(some), device=x.device)
                block = block.index_put((own, top + own), block.new_zeros(()))
            rows.append(block.sum(1))
            columns = columns + block.sum(0)
            squares = squares + block.square().sum()
        return cls(torch.cat(rows), columns, squares)


def _within(sums: _Sums, n: int) -> tuple[Tensor, Tensor]:
    """U and the variance of U: (4 (n - 2) zeta_1 + 2 zeta_2) / n (n - 1)."""
    corner = (sums.rows.square().sum() - sums.squares) / (n * (n - 1) * (n - 2))  # E k(1, 2) k(1, 3)
    square = sums.squares / (n * (n - 1))  # E k(1, 2)^2
    apart = sums.all.square() - 4 * sums.rows.square().sum() + 2 * sums.squares
    mean_squared = apart / (n * (n - 1) * (n - 2) * (n - 3))  # E k(1, 2) k(3, 4)
    variance = (4 * (n - 2) * (corner - mean_squared) + 2 * (square - mean_squared)) / (n * (n - 1))
    return sums.all / (n * (n - 1)), variance


def _between(sums: _Sums, n: int, m: int) -> tuple[Tensor, Tensor]:
    """A and the variance of A: ((m - 1) zeta_10 + (n - 1) zeta_01 + zeta_11) / n m."""
    row, column = sums.rows.square().sum(), sums.columns.square().sum()
    same_x = (row - sums.squares) / (n * m * (m - 1))  # E k(1, 1') k(1, 2')
    same_y = (column - sums.squares) / (n * m * (n - 1))  # E k(1, 1') k(2, 1')
    square = sums.squares / (n * m)
    mean_squared = (sums.all.square() - row - column + sums.squares) / (n * (n - 1) * m * (m - 1))
    variance = (m - 1) * (same_x - mean_squared) + (n - 1) * (same_y - mean_squared) + square - mean_squared
    return sums.all / (n * m), variance / (n * m)


def _shared(within: _Sums, across: Tensor, between: _Sums, n: int, m: int) -> Tensor:
    """Cov[U, A] = 2 / n (E k(1, 2) k(1, 1') - E k(1, 2) E k(3, 1')); ``across`` are sums over the other set."""
    product = within.rows @ across
    corner = product / (n * (n - 1) * m)
    apart = (within.all * between.all - 2 * product) / (n * (n - 1) * (n - 2) * m)
    return 2 / n * (corner - apart)
