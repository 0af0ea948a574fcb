"""Sorting many rows at once, with where each value came from: the work that transport on a line consists of.

On a CPU, NumPy sorts with vector instructions and torch does not; the difference is tenfold. NumPy's sort of indices
is several times slower than its sort of values, so float32 values travel with their index in one 64-bit integer.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

SIGN = np.int32(0x7FFFFFFF)
INDEX = np.int64(0xFFFFFFFF)


def sort_rows(values: Tensor) -> Tensor:
    """Each row in ascending order.

    Args:
        values: Finite numbers with shape (k, n).

    Returns:
        The same numbers, without gradient.
    """
    values = values.detach()
    if values.device.type != "cpu":
        return values.sort(dim=1).values
    return torch.from_numpy(np.sort(values.numpy(), axis=1))


def sort_rows_with_order(values: Tensor) -> tuple[Tensor, Tensor]:
    """Each row in ascending order, and the position in ``values`` that each number came from.

    Args:
        values: Finite numbers with shape (k, n), float32 or float64.

    Returns:
        Numbers and positions (int64), both with shape (k, n), without gradient.
    """
    values = values.detach()
    if values.device.type != "cpu":
        found = values.sort(dim=1)
        return found.values, found.indices
    array = values.numpy()
    if array.dtype != np.float32:
        order = np.argsort(array, axis=1)
        return torch.from_numpy(np.take_along_axis(array, order, axis=1)), torch.from_numpy(order)
    bits = np.ascontiguousarray(array).view(np.int32)
    # integers in the order of the floats: below zero, more bits mean a smaller number
    keys = (bits ^ ((bits >> 31) & SIGN)).astype(np.int64)
    keys <<= 32
    keys |= np.arange(array.shape[1], dtype=np.int64)
    keys.sort(axis=1)
    top = (keys >> 32).astype(np.int32)
    keys &= INDEX
    top ^= (top >> 31) & SIGN
    return torch.from_numpy(top.view(np.float32)), torch.from_numpy(keys)
