"""Quantiles of many rows at once, for robust summaries; torch's own refuse more than 16 million numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def row_quantiles(x: Tensor, probabilities: Sequence[float]) -> Tensor:
    r"""Sample quantiles of each row, interpolated linearly between order statistics (Hyndman & Fan's type 7).

    .. math:: q_p = (1 - w)\,x_{(j)} + w\,x_{(j+1)}, \quad j = 1 + \lfloor (n - 1) p \rfloor, \quad
        w = (n - 1) p - \lfloor (n - 1) p \rfloor

    Differentiable in ``x``.

    Args:
        x: Samples with shape (rows, n).
        probabilities: k numbers in [0, 1].

    Returns:
        Quantiles with shape (rows, k), in the order of ``probabilities``.

    Raises:
        ValueError: If ``x`` has another shape or no columns, or a probability is not in [0, 1].

    Example:
        >>> row_quantiles(torch.tensor([[3.0, 1.0, 2.0]]), [0.0, 0.5, 0.75])
        tensor([[1.0000, 2.0000, 2.5000]])
    """
    if x.ndim != 2 or not x.shape[1]:
        raise ValueError(f"x: expected shape (rows, n), n > 0; got {tuple(x.shape)}")
    if not all(0 <= p <= 1 for p in probabilities):
        raise ValueError(f"probabilities: expected numbers in [0, 1]; got {list(probabilities)}")
    ordered = x.sort(dim=1).values
    place = torch.tensor(list(probabilities), dtype=torch.float64) * (x.shape[1] - 1)
    below = place.floor().long()
    above = (below + 1).clamp_max(x.shape[1] - 1)
    weight = (place - below).to(x)
    return torch.lerp(ordered[:, below.to(x.device)], ordered[:, above.to(x.device)], weight)
