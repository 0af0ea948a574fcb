r"""How far marginals lie apart, in units of the reference's spread: a distance that does not saturate where C2ST does.

A classifier tells two sharp distributions apart perfectly long before one of them is useless; the Wasserstein distance
of the marginals goes on growing with the error.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from implicit_simulators.base import as_tensor


def marginal_wasserstein(samples: Any, reference: Any) -> Tensor:
    r"""The 1-Wasserstein distance of each marginal, over the reference's standard deviation.

    .. math:: W_j = \frac{1}{\sigma_j} \int_0^1 \left| F_{p,j}^{-1}(a) - F_{q,j}^{-1}(a) \right| da

    0 is perfect; a shift by one posterior standard deviation gives 1. Two sets of n draws of one normal law differ by
    about :math:`1.8 / \sqrt{n}`.

    Args:
        samples: Draws with shape (n, d).
        reference: Draws of the reference with shape (m, d).

    Returns:
        Distances with shape (d,).

    Raises:
        ValueError: If a set has fewer than two rows, is not finite, or the widths differ.
    """
    p, q = as_tensor(samples, "samples").detach().cpu(), as_tensor(reference, "reference").detach().cpu()
    if p.ndim != 2 or q.ndim != 2 or p.shape[1] != q.shape[1] or min(len(p), len(q)) < 2:
        shapes = f"{tuple(p.shape)} and {tuple(q.shape)}"
        raise ValueError(f"samples, reference: expected shapes (n, d) and (m, d) with n, m > 1; got {shapes}")
    if not (torch.isfinite(p).all() and torch.isfinite(q).all()):
        raise ValueError("samples, reference: expected finite values")
    # exact for any sizes: both quantile functions are constant between the union of their steps
    levels = torch.cat((_steps(len(p)), _steps(len(q)))).unique()
    middle = (levels[1:] + levels[:-1]) / 2
    width = (levels[1:] - levels[:-1])[:, None]
    gap = _quantiles(p, middle) - _quantiles(q, middle)
    return ((gap.abs() * width).sum(0) / q.double().std(0).clamp_min(1e-300)).float()


def _steps(n: int) -> Tensor:
    return torch.arange(n + 1, dtype=torch.float64) / n


def _quantiles(samples: Tensor, levels: Tensor) -> Tensor:
    rows = (levels * len(samples)).floor().long().clamp_max(len(samples) - 1)
    return samples.double().sort(0).values[rows]
