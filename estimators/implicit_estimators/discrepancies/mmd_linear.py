r"""Maximum mean discrepancy in linear time: means over disjoint pairs, or blocks, of samples, which are independent.

.. math:: \mathrm{MMD}_l^2 = \frac{2}{n} \sum_{i=1}^{n/2} h(z_{2i-1}, z_{2i}), \quad
    h(z, z') = k(x, x') + k(y, y') - k(x, y') - k(x', y)

What is averaged is independent, so the value is normal with a variance that the terms themselves tell; it is much
larger than that of the statistic over all pairs. Blocks of B samples, with all pairs within each, are in between.

References:
    | A Kernel Two-Sample Test (Gretton et al., 2012), section 6
    | https://jmlr.org/papers/v13/gretton12a.html
    | B-tests: Low Variance Kernel Two-Sample Tests (Zaremba, Gretton and Blaschko, 2013)
    | https://arxiv.org/abs/1307.1954
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from implicit_estimators.estimate import Estimate
from implicit_estimators.inputs import as_pair
from implicit_estimators.kernels import Gaussian, Kernel


@dataclass(frozen=True)
class LinearMMD:
    r"""The mean of h over disjoint pairs of samples: unbiased, in O(n) time and memory.

    Samples are taken in their order, which has to be random; of the larger set, rows without a partner are left out.

    Args:
        kernel: The kernel.

    Example:
        >>> import torch
        >>> x, y = torch.zeros(4, 1), torch.ones(4, 1)
        >>> LinearMMD(Gaussian((1.0,))).squared(x, y)  # 1 + 1 - 2 exp(-1/2)
        tensor(0.7869)
    """

    kernel: Kernel = field(default_factory=Gaussian)

    name: ClassVar[str] = "linear-mmd"

    def squared(self, x: Any, y: Any) -> Tensor:
        """The squared discrepancy.

        Args:
            x: Samples with shape (n, d) or (n,): tensor, array or frame.
            y: Samples with shape (m, d) or (m,).

        Returns:
            A scalar with the dtype of ``x``, differentiable in both.

        Raises:
            TypeError: If samples are not numeric.
            ValueError: If they are refused (see ``inputs.as_pair``), or have fewer than 2 rows.
        """
        return self.terms(x, y).mean()

    def estimate(self, x: Any, y: Any) -> Estimate:
        """The squared discrepancy as a number, with the standard error that its terms tell (infinite for one).

        Args:
            x: As for :meth:`squared`.
            y: As for :meth:`squared`.

        Raises:
            TypeError: If samples are not numeric.
            ValueError: If they are refused.
        """
        return Estimate.mean(self.terms(x, y).detach())

    def terms(self, x: Any, y: Any) -> Tensor:
        """What is averaged: h for each pair of samples of both sets, with shape (min(n, m) // 2,)."""
        x, y = as_pair(x, y, ("x", "y"), rows=2)
        half = min(len(x), len(y)) // 2
        x, y = x[: 2 * half], y[: 2 * half].to(x)
        first_x, second_x, first_y, second_y = x[::2], x[1::2], y[::2], y[1::2]
        k = self.kernel.paired
        return k(first_x, second_x) + k(first_y, second_y) - k(first_x, second_y) - k(second_x, first_y)


@dataclass(frozen=True)
class BlockMMD:
    r"""The mean of the unbiased statistic over disjoint blocks of samples, in O(n B) time.

    Args:
        kernel: The kernel.
        block: Samples of each set in a block, B; None for the root of the size of the smaller set.

    Raises:
        ValueError: If the block is smaller than 2.

    Example:
        >>> import torch
        >>> x, y = torch.zeros(9, 1), torch.ones(9, 1)
        >>> BlockMMD(Gaussian((1.0,))).squared(x, y)  # 1 + 1 - 2 exp(-1/2)
        tensor(0.7869)
    """

    kernel: Kernel = field(default_factory=Gaussian)
    block: int | None = None

    name: ClassVar[str] = "block-mmd"

    def __post_init__(self) -> None:
        if self.block is not None and self.block < 2:
            raise ValueError(f"block: expected None or an int of at least 2; got {self.block}")

    def squared(self, x: Any, y: Any) -> Tensor:
        """The squared discrepancy.

        Args:
            x: Samples with shape (n, d) or (n,): tensor, array or frame.
            y: Samples with shape (m, d) or (m,).

        Returns:
            A scalar with the dtype of ``x``, differentiable in both.

        Raises:
            TypeError: If samples are not numeric.
            ValueError: If they are refused (see ``inputs.as_pair``), or have fewer rows than a block.
        """
        return self.terms(x, y).mean()

    def estimate(self, x: Any, y: Any) -> Estimate:
        """The squared discrepancy as a number, with the standard error that its blocks tell (infinite for one).

        Args:
            x: As for :meth:`squared`.
            y: As for :meth:`squared`.

        Raises:
            TypeError: If samples are not numeric.
            ValueError: If they are refused, or have fewer rows than a block.
        """
        return Estimate.mean(self.terms(x, y).detach())

    def terms(self, x: Any, y: Any) -> Tensor:
        """What is averaged: the unbiased statistic of each block, with shape (min(n, m) // B,)."""
        x, y = as_pair(x, y, ("x", "y"), rows=max(2, self.block or 2))
        smaller = min(len(x), len(y))
        size = max(2, int(smaller**0.5)) if self.block is None else self.block
        count = smaller // size
        x, y = (side[: count * size].reshape(count, size, -1) for side in (x, y.to(x)))
        apart = ~torch.eye(size, dtype=torch.bool, device=x.device)
        within = [(self.kernel.matrix(side, side) * apart).sum((1, 2)) / (size * (size - 1)) for side in (x, y)]
        return within[0] + within[1] - 2 * self.kernel.matrix(x, y).mean((1, 2))
