"""Samples as users have them (tensors, arrays, frames), turned into one kind of tensor or refused in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_samples(value: Any, name: str, *, rows: int = 1, width: int | None = None) -> Tensor:
    """``value`` as a finite floating tensor with shape (n, d).

    Floating tensors and arrays keep their precision, so that nothing is lost before it has been standardised;
    integers and booleans become float32 where that is exact, else float64. Tensors keep their device and graph.

    Args:
        value: A tensor, an array, a frame or a nested sequence of numbers, with shape (n, d), or (n,) for d = 1.
        name: What to call it in errors.
        rows: Smallest number of rows.
        width: The d that is expected, if any.

    Returns:
        The samples.

    Raises:
        TypeError: If ``value`` is not numeric.
        ValueError: If its shape is another, it has too few rows, or it holds NaN or infinity.
    """
    samples = _as_tensor(value, name)
    if samples.ndim == 1:
        samples = samples[:, None]
    if samples.ndim != 2 or samples.shape[1] == 0:
        raise ValueError(f"{name}: expected samples of shape (n, d) or (n,); got {tuple(samples.shape)}")
    if len(samples) < rows:
        raise ValueError(f"{name}: expected at least {rows} {'row' if rows == 1 else 'rows'}; got {len(samples)}")
    if width is not None and samples.shape[1] != width:
        raise ValueError(f"{name}: expected {width} columns; got {samples.shape[1]}")
    finite = torch.isfinite(samples).all(1)
    if not finite.all():
        bad = len(samples) - int(finite.sum())
        raise ValueError(f"{name}: expected finite values; {bad} of {len(samples)} rows hold NaN or infinity")
    return samples


def as_pair(
    p: Any, q: Any, names: tuple[str, str] = ("p", "q"), *, rows: int = 1, width: int | None = None
) -> tuple[Tensor, Tensor]:
    """Samples of p and of q as tensors of one width (see :func:`as_samples`).

    Raises:
        TypeError: If either is not numeric.
        ValueError: If either is refused, their widths differ, or two frames name their columns differently.
    """
    both = ", ".join(names)
    columns = [list(map(str, frame.columns)) for frame in (p, q) if hasattr(frame, "columns")]
    if len(columns) == 2 and columns[0] != columns[1]:
        raise ValueError(f"{both}: expected frames with the same columns in order; got {columns[0]}, {columns[1]}")
    first, second = (as_samples(x, name, rows=rows, width=width) for x, name in zip((p, q), names, strict=True))
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"{both}: expected as many columns in both; got {first.shape[1]} and {second.shape[1]}")
    return first, second


def _as_tensor(value: Any, name: str) -> Tensor:
    if not isinstance(value, Tensor):
        if hasattr(value, "to_numpy"):
            value = value.to_numpy()
        elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            try:
                value = np.asarray(value)
            except ValueError as error:
                raise TypeError(f"{name}: expected numbers in rows of one length; got a ragged sequence") from error
        if not isinstance(value, np.ndarray):
            raise TypeError(f"{name}: expected a tensor, an array or a frame; got {type(value).__name__}")
        if value.dtype == object:  # frames with columns of several types
            try:
                value = value.astype(np.float64)
            except (TypeError, ValueError) as error:
                raise TypeError(f"{name}: expected numbers; got values that are not") from error
        if value.dtype.kind not in "fiub":
            raise TypeError(f"{name}: expected real numbers; got dtype {value.dtype}")
        if value.dtype.kind == "f":
            kept: type = np.float64 if value.dtype.itemsize >= 8 else np.float32
        else:
            kept = np.float64 if value.dtype == np.uint64 else np.int64
        value = np.ascontiguousarray(value.astype(kept, copy=False))
        # torch warns of arrays that nobody may write to, as pandas hands out
        value = torch.from_numpy(value if value.flags.writeable else value.copy())
    if value.is_complex():
        raise TypeError(f"{name}: expected real numbers; got dtype {value.dtype}")
    if not value.is_floating_point():
        value = value.long()
        exact = value.numel() == 0 or int(value.abs().max()) <= 2**24
        return value.to(torch.float32 if exact else torch.float64)
    return value if value.dtype in (torch.float32, torch.float64) else value.float()
