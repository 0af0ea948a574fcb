r"""A network of a point and a time, for what changes along a path of distributions: :math:`f(x, t)`.

The time enters as sines and cosines that scale and shift every hidden layer, and a linear map of x with a gain that
depends on t runs alongside, so that f goes on linearly where no sample led the way.

References:
    | FiLM: Visual Reasoning with a General Conditioning Layer (Perez, Strub, de Vries, Dumoulin and Courville, 2018)
    | https://arxiv.org/abs/1709.07871
    | Denoising Diffusion Probabilistic Models (Ho, Jain and Abbeel, 2020), for the sines and cosines
    | https://arxiv.org/abs/2006.11239
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from implicit_estimators.seeds import Seed, forked, resolve_seed

FREQUENCIES = 4
"""Sines and cosines of the time."""
EMBEDDING = 32
"""Width of the layer that the time goes through."""


class TimeNetwork(nn.Module):
    r"""Hidden layers :math:`h \leftarrow [h +] \operatorname{silu}((1 + a(t)) \odot W h + b(t))`, then linear.

    A hidden layer's input is added to its output where the widths agree.

    Args:
        inputs: Width d of the points.
        outputs: Width of the output.
        hidden: Widths of the hidden layers, at least one.
        seed: Seed of the initial weights; torch's global generator is left as it was.
        device: Where the weights lie.

    Raises:
        ValueError: If there is no hidden layer or a width is not positive.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: Sequence[int] = (128, 128),
        *,
        seed: Seed = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if not hidden or min(inputs, outputs, *hidden) < 1:
            raise ValueError(f"hidden: expected one or more positive widths; got {tuple(hidden)}")
        self.widths = list(hidden)
        with forked(resolve_seed(seed)):
            self.time = nn.Sequential(nn.Linear(2 * FREQUENCIES + 1, EMBEDDING), nn.SiLU())
            self.modulation = nn.Linear(EMBEDDING, 2 * sum(hidden))
            self.layers = nn.ModuleList(
                nn.Linear(before, after) for before, after in zip([inputs, *hidden], hidden, strict=False)
            )
            self.last = nn.Linear(hidden[-1], outputs)
            self.gain = nn.Linear(EMBEDDING, outputs)
            self.skip = nn.Linear(inputs, outputs, bias=False)
            nn.init.zeros_(self.skip.weight)
        self.to(device=device)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Values of shape (n, outputs) at points of shape (n, inputs) and times in [0, 1] of shape (n, 1) or (1, 1)."""
        angles = math.pi * t * torch.arange(1, FREQUENCIES + 1, device=t.device, dtype=t.dtype)
        time = self.time(torch.cat([t - 0.5, angles.sin(), angles.cos()], -1))
        modulation = self.modulation(time).split([2 * width for width in self.widths], -1)
        h = x
        for layer, scale_and_shift in zip(self.layers, modulation, strict=True):
            scale, shift = scale_and_shift.chunk(2, -1)
            out = nn.functional.silu(layer(h) * (1 + scale) + shift)
            h = h + out if h is not x and h.shape[-1] == out.shape[-1] else out
        return self.last(h) + self.skip(x) * self.gain(time)
