r"""The swiss roll: a curve that winds about itself, with a little noise; one connected set without modes.

.. math:: x = \frac{t\,(\cos t, \sin t) + 0.25\,\xi}{7.5}, \quad t = \tfrac{3\pi}{2} (1 + 2U), \quad
    U \sim U(0, 1), \quad \xi \sim N(0, I)

It is the first and last coordinate of scikit-learn's ``make_swiss_roll(noise=0.25)``, divided by 7.5, as in the code of
Gulrajani et al.

References:
    | Improved training of Wasserstein GANs (Gulrajani et al., 2017)
    | https://arxiv.org/abs/1704.00028
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from implicit_simulators.engines.noise import row_normal
from implicit_simulators.streams import Stream
from implicit_simulators.targets.base import Target

SHRINK = 7.5
"""A little more than the standard deviation of either coordinate."""

NODES = 3000
"""Places along the curve by which its density is summed: about three in a standard deviation of the default noise."""


class SwissRoll(Target):
    """A spiral of one and a half turns.

    Args:
        noise: Standard deviation of the noise, before the division by 7.5.

    Raises:
        ValueError: If ``noise`` is not positive.
    """

    name = "swiss-roll"

    def __init__(self, noise: float = 0.25) -> None:
        if not 0 < noise < math.inf:
            raise ValueError(f"noise: expected a positive number; got {noise}")
        self.noise = float(noise)

    def _sample(self, n: int, stream: Stream, device: torch.device) -> Tensor:
        along = torch.rand(n, generator=stream.torch(device), device=device)
        noise = row_normal((n, 2), Stream.of(stream.key, role="observe").torch(device))
        return _curve(along) + self.noise / SHRINK * noise

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density at ``x`` with shape (n, 2), by the midpoint rule along the curve; result (n,)."""
        nodes = max(NODES, math.ceil(NODES * 0.25 / self.noise))
        along = (torch.arange(nodes, dtype=x.dtype, device=x.device) + 0.5) / nodes
        scale = self.noise / SHRINK
        squares = torch.cdist(x, _curve(along), compute_mode="donot_use_mm_for_euclid_dist") ** 2
        return torch.logsumexp(-0.5 * squares / scale**2, 1) - math.log(2 * math.pi * scale**2 * nodes)

    def settings(self) -> dict[str, Any]:
        """The noise."""
        return {"noise": self.noise}


def _curve(along: Tensor) -> Tensor:
    """Points of the curve with shape (n, 2), for places from 0 to 1 with shape (n,)."""
    t = 1.5 * math.pi * (1 + 2 * along)
    return torch.stack((t * t.cos(), t * t.sin()), 1) / SHRINK
