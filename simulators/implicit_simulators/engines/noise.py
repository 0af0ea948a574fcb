"""Normal noise that belongs to rows: the first n rows are the same numbers however many follow."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_CHUNK = 16
"""Torch makes normal numbers in sixteens on a CPU, and makes the last sixteen anew where the count is no multiple."""


def row_normal(
    shape: tuple[int, ...] | torch.Size, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Tensor:
    r"""Standard normal noise with shape ``shape`` on the generator's device, row after row.

    ``torch.randn((5, 3))`` and the first five rows of ``torch.randn((6, 3))`` differ from the same generator, so that
    what a simulator draws for a row would depend on how many rows its block has. These do not (on a CPU; accelerators
    number their draws by the size of the launch). A second call takes up where the first ended, which does depend on
    the number of rows: draw all that a row needs in one call, or from another generator.

    Args:
        shape: Rows first.
        generator: Where the numbers come from.
        dtype: Floating type of the result.

    Returns:
        Noise with shape ``shape``.
    """
    count = math.prod(shape)
    padded = max(_CHUNK, -(-count // _CHUNK) * _CHUNK)
    noise = torch.randn(padded, generator=generator, device=generator.device, dtype=dtype)
    return noise[:count].reshape(shape)
