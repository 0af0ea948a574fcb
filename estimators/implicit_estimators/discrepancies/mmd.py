r"""Maximum mean discrepancy: how far apart the mean kernel features of two sample sets are. Nothing to train.

.. math:: \mathrm{MMD}^2(p, q) = \mathbb{E}[k(x, x')] + \mathbb{E}[k(y, y')] - 2 \, \mathbb{E}[k(x, y)],
    \quad x, x' \sim p, \; y, y' \sim q

With a characteristic kernel it is 0 only if p = q. With Gaussian kernels it sees differences of the size of a
bandwidth, hence several of them, placed by the median distance between samples; in many dimensions all distances are
alike, and it sees little.

References:
    | A Kernel Two-Sample Test (Gretton et al., 2012)
    | https://jmlr.org/papers/v13/gretton12a.html
    | Generative Moment Matching Networks (Li, Swersky and Zemel, 2015)
    | https://arxiv.org/abs/1502.02761
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from implicit_estimators.inputs import as_pair, as_samples
from implicit_estimators.kernels import LADDER, Gaussian, Kernel, ladder, median_distance, pair_sum
from implicit_estimators.seeds import Seed


def mmd_squared(x: Tensor, y: Tensor, kernel: Kernel, unbiased: bool = True, block: int = 512) -> Tensor:
    """The squared discrepancy under one kernel, of samples that nobody looks at first: for training loops.

    Args:
        x: Samples with shape (n, d).
        y: Samples with shape (m, d).
        kernel: The kernel.
        unbiased: Leave out each sample's pair with itself; then n and m are at least 2.
        block: Rows and columns of the kernel matrix held at a time, where the sums are torch's.

    Returns:
        A scalar in float64, differentiable in both (:func:`implicit_estimators.kernels.pairs.pair_sum`).
    """
    between = pair_sum(x, y, kernel, block) / (len(x) * len(y))
    return _within(x, kernel, unbiased, block) + _within(y, kernel, unbiased, block) - 2 * between


def _within(x: Tensor, kernel: Kernel, unbiased: bool, block: int) -> Tensor:
    """The mean over pairs of one set."""
    n, apart = len(x), pair_sum(x, None, kernel, block)
    return apart / (n * (n - 1)) if unbiased else (apart + kernel.paired(x, x).double().sum()) / n**2


@dataclass(frozen=True)
class MMD:
    r"""Squared maximum mean discrepancy.

    Args:
        bandwidths: Bandwidths :math:`\ell` of Gaussian kernels, averaged; None places five by the median distance of
            the samples at hand. Fix them (:meth:`placed`) where values at different samples shall be compared, or
            descended.
        unbiased: Leave out each sample's pair with itself (the U-statistic): 0 on average where p = q, and so
            negative half of the time. False keeps them (the V-statistic): not negative, and of order 1/n where p = q.
        block: Rows and columns of the kernel matrix held at a time, where the sums are torch's.
        kernel: Another kernel in place of Gaussians.

    Raises:
        ValueError: If a bandwidth or the block is not positive, or both bandwidths and a kernel are given.

    Example:
        >>> x, y = torch.zeros(4, 1), torch.ones(4, 1)
        >>> MMD(bandwidths=(1.0,)).squared(x, y)  # 1 + 1 - 2 exp(-1/2)
        tensor(0.7869)
    """

    bandwidths: Sequence[float] | None = None
    unbiased: bool = True
    block: int = 512
    kernel: Kernel | None = None

    name: ClassVar[str] = "mmd"

    def __post_init__(self) -> None:
        if self.bandwidths is not None:
            Gaussian(tuple(self.bandwidths))
            if self.kernel is not None:
                raise ValueError(f"bandwidths, kernel: expected one of them; got {self.bandwidths} and {self.kernel}")
        if self.block < 1:
            raise ValueError(f"block: expected a positive int; got {self.block}")

    @classmethod
    def placed(
        cls,
        x: Any,
        y: Any,
        *,
        factors: Sequence[float] = LADDER,
        unbiased: bool = True,
        block: int = 512,
        seed: Seed = 0,
    ) -> MMD:
        """With bandwidths fixed at the median distance of some samples times ``factors``.

        Args:
            x: Samples with shape (n, d).
            y: Samples with shape (m, d).
            factors: Bandwidths in units of the median distance.
            unbiased: See the class.
            block: See the class.
            seed: Seed of the at most 1,000 samples of each that the median is taken of.
        """
        return cls(ladder(median_distance(*as_pair(x, y, ("x", "y")), seed), factors), unbiased, block)

    @property
    def fixed(self) -> Kernel | None:
        """The kernel, or None if it follows the samples."""
        return Gaussian(tuple(self.bandwidths)) if self.bandwidths is not None else self.kernel

    def kernel_for(self, x: Tensor, y: Tensor) -> Kernel:
        """The kernel, placed by these samples (n, d) and (m, d) unless it is fixed."""
        return self.fixed or Gaussian(ladder(median_distance(x, y, seed=0)))

    def squared(self, x: Any, y: Any) -> Tensor:
        """The squared discrepancy of two sample sets.

        Args:
            x: Samples with shape (n, d) or (n,): tensor, array or frame.
            y: Samples with shape (m, d) or (m,).

        Returns:
            A scalar with the dtype of ``x``, differentiable in both.

        Raises:
            TypeError: If samples are not numeric.
            ValueError: If they are refused (see ``inputs.as_pair``), or have fewer than 2 rows and ``unbiased`` is set.
        """
        x, y = as_pair(x, y, ("x", "y"), rows=2 if self.unbiased else 1)
        y = y.to(x)
        kernel = self.kernel_for(x, y)
        return mmd_squared(x, y, kernel, self.unbiased, self.block).to(x.dtype)

    def batched(self, xs: Tensor, y: Any) -> Tensor:
        r"""The squared discrepancy of many sample sets from one, as ABC needs it: no gradient.

        Args:
            xs: B sets, with shape (B, n, d).
            y: The one, with shape (m, d) or (m,).

        Returns:
            Discrepancies with shape (B,); NaN for sets that hold NaN.

        Raises:
            ValueError: If shapes do not fit, bandwidths are not fixed, or sets have fewer than 2 rows and
                ``unbiased`` is set.
        """
        y = as_samples(y, "y", rows=2 if self.unbiased else 1)
        if xs.ndim != 3 or xs.shape[2] != y.shape[1] or xs.shape[1] < (2 if self.unbiased else 1):
            raise ValueError(f"xs: expected shape (B, n, {y.shape[1]}); got {tuple(xs.shape)}")
        kernel = self.fixed
        if kernel is None:
            raise ValueError("bandwidths: sets are compared with each other; fix the bandwidths, as MMD.placed does")
        n, m = xs.shape[1], len(y)
        sets = max(1, 4 * self.block**2 // (n * max(n, m)))
        with torch.no_grad():
            y = y.to(xs)
            within_y, parts = _within(y, kernel, self.unbiased, self.block), []
            for some in xs.split(sets):
                own = kernel.matrix(some, some)
                own.diagonal(dim1=-2, dim2=-1).copy_(kernel.paired(some, some) * (not self.unbiased))
                within_x = own.sum((-2, -1), dtype=torch.float64) / (n * (n - 1) if self.unbiased else n**2)
                between = kernel.matrix(some, y).sum((-2, -1), dtype=torch.float64)
                parts.append(within_x + within_y - 2 * between / (n * m))
            return torch.cat(parts).to(xs.dtype)
