r"""The permutation test of p = q by maximum mean discrepancy, with a kernel chosen for power on rows set aside.

If p = q, labels mean nothing: the statistic has the same law under every assignment of the pooled rows to the two
sets, and the share of random assignments with a value at least as large is a p-value, exact at any sample size. The
kernel may be chosen on other rows (:func:`implicit_estimators.discrepancies.mmd_power.most_powerful`), never on these.

All assignments are evaluated at once: with K the pooled kernel matrix without its diagonal and s an assignment's
indicator, :math:`s^T K s` and :math:`s^T K 1` are all that the statistic needs.

References:
    | A Kernel Two-Sample Test (Gretton et al., 2012)
    | https://jmlr.org/papers/v13/gretton12a.html
    | Generative Models and Model Criticism via Optimized Maximum Mean Discrepancy (Sutherland et al., 2017)
    | https://arxiv.org/abs/1611.04488
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.discrepancies.mmd_power import ROWS, most_powerful
from implicit_estimators.inputs import as_pair
from implicit_estimators.kernels import Kernel
from implicit_estimators.seeds import Seed, resolve_seed, stream


@dataclass(frozen=True)
class MMDTest:
    """What came of a test of p = q.

    Attributes:
        p_value: Share of assignments (the observed one among them) with a statistic at least as large.
        statistic: The unbiased squared discrepancy of the rows that were tested.
        n_x: Rows of x that were tested.
        n_y: Rows of y that were tested.
        permutations: Random assignments.
        kernel: The kernel.
    """

    p_value: float
    statistic: float
    n_x: int
    n_y: int
    permutations: int
    kernel: Kernel


def mmd_test(
    x: Any, y: Any, kernel: Kernel | None = None, *, permutations: int = 999, share: float = 0.5, seed: Seed = None
) -> MMDTest:
    """Test whether x and y are samples of one distribution.

    Args:
        x: Samples with shape (n, d) or (n,), independent of one another.
        y: Samples with shape (m, d) or (m,).
        kernel: The kernel; None chooses the most powerful of several Gaussians, on rows set aside for that.
        permutations: Random assignments; the p-value is at least 1 / (permutations + 1).
        share: Share of each set that is tested, where a kernel is chosen on the rest.
        seed: An int, a ``torch.Generator`` or None.

    Returns:
        The p-value, the statistic and the kernel.

    Raises:
        TypeError: If samples are not numeric.
        ValueError: If widths differ, values are not finite, a set has too few rows (8, or 2 with a kernel), or a
            setting is out of its range.
    """
    x, y = as_pair(x, y, ("x", "y"), rows=8 if kernel is None else 2)
    x, y = x.detach(), y.detach().to(x)
    if permutations < 1:
        raise ValueError(f"permutations: expected a positive int; got {permutations}")
    if not 0 < share < 1:
        raise ValueError(f"share: expected a share inside (0, 1); got {share}")
    root = resolve_seed(seed)
    if kernel is None:
        draw = stream(root, "split")
        orders = [torch.randperm(len(side), generator=draw).to(side.device) for side in (x, y)]
        # 4 rows to choose by, and 2 to test
        kept = [min(max(round(share * len(side)), 2), len(side) - 4) for side in (x, y)]
        other_x, other_y = (side[order[k:]] for side, order, k in zip((x, y), orders, kept, strict=True))
        kernel = most_powerful(other_x, other_y, seed=root)
        x, y = (side[order[:k]] for side, order, k in zip((x, y), orders, kept, strict=True))
    statistics = _statistics(x, y, kernel, permutations, stream(root, "draws"))
    # sums in another order differ in their last digits, and ties must count
    slack = 1e-9 * float(statistics.abs().max())
    above = int((statistics[1:] >= statistics[0] - slack).sum())
    return MMDTest((1 + above) / (1 + permutations), float(statistics[0]), len(x), len(y), permutations, kernel)


def _statistics(x: Tensor, y: Tensor, kernel: Kernel, permutations: int, draw: torch.Generator) -> Tensor:
    """The unbiased statistic of the observed assignment and of random ones, with shape (1 + permutations,)."""
    n, m, pooled = len(x), len(y), torch.cat([x, y])
    first = torch.zeros(n + m, 1 + permutations, dtype=torch.float64, device=x.device)
    first[:n, 0] = 1
    for column in range(1, 1 + permutations):
        first[torch.randperm(n + m, generator=draw)[:n].to(x.device), column] = 1
    inside, rows = torch.zeros(1 + permutations, dtype=torch.float64, device=x.device), []
    for top in range(0, n + m, ROWS):
        some = pooled[top : top + ROWS]
        block = kernel.matrix(some, pooled).double()
        own = torch.arange(len(some), device=x.device)
        block[own, top + own] = 0
        inside += ((block @ first) * first[top : top + ROWS]).sum(0)
        rows.append(block.sum(1))
    sums = torch.cat(rows)
    touching = sums @ first  # pairs with at least one sample in the first set, those inside twice
    between, outside = touching - inside, sums.sum() - 2 * touching + inside
    return inside / (n * (n - 1)) + outside / (m * (m - 1)) - 2 * between / (n * m)
