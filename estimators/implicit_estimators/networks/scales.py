r"""Inputs at many scales, where one set of samples is so narrow that a network could not see into it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

NARROW = 0.1
"""Spread, in units of both sets together, below which a set gets inputs of its own."""
FACTOR = 4.0
"""From one scale to the next."""


class Scales(nn.Module):
    r"""Appends :math:`z / \sqrt{1 + z^2}` with :math:`z = (x_j - m_j) / s_j` for chosen columns j, centres and scales.

    Args:
        columns: The columns j, with shape (k,); one appears as often as it has scales.
        location: m, with shape (k,).
        scale: s, positive, with shape (k,).
        width: Columns of the input.
    """

    columns: Tensor
    location: Tensor
    scale: Tensor

    def __init__(self, columns: Tensor, location: Tensor, scale: Tensor, width: int) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("columns", columns)
        self.register_buffer("location", location)
        self.register_buffer("scale", scale)

    @classmethod
    def fit(cls, *samples: Tensor) -> Scales:
        """Choose columns in which a set is much narrower than all together, each set with shape (n, d), of order one.

        Scales run from that of the set to 1 around its mean. A set that does not vary at all has no scale there, and
        gets none.
        """
        columns, location, scale = [], [], []
        for side in samples:
            means, spreads = side.double().mean(0), side.double().std(0, correction=0)
            for j in ((spreads < NARROW) & (spreads > 1e-7 * means.abs()) & (spreads > 1e-12)).nonzero()[:, 0].tolist():
                finest = float(spreads[j])
                count = math.ceil(-math.log(finest) / math.log(FACTOR))
                columns += [j] * count
                location += [float(means[j])] * count
                scale += [finest * FACTOR**i for i in range(count)]
        device = samples[0].device
        return cls(
            torch.tensor(columns, dtype=torch.long, device=device),
            torch.tensor(location, dtype=torch.float32, device=device),
            torch.tensor(scale, dtype=torch.float32, device=device),
            samples[0].shape[1],
        )

    @property
    def outputs(self) -> int:
        """Columns of the output."""
        return self.width + len(self.columns)

    def forward(self, x: Tensor) -> Tensor:
        r"""Map x of shape (\*, width) to shape (\*, outputs)."""
        z = (x[..., self.columns] - self.location) / self.scale
        return torch.cat([x, z / torch.hypot(z, torch.ones_like(z))], -1)
