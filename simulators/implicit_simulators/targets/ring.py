r"""Gaussians on a ring: the target on which generators first showed that they forget modes.

.. math:: m_j = R\,(\cos \tfrac{2\pi j}{k}, \sin \tfrac{2\pi j}{k}), \quad j = 0, \ldots, k - 1

The ring of eight of Metz et al. has R = 2 and standard deviation 0.02, here the default; VEEGAN and PacGAN take R = 1
and 0.01, the same at half the size. Much public code places the modes at ``linspace(0, 2 * pi, 8)``, whose last angle
is its first: a ring of seven, of which one mode has twice the weight.

References:
    | Unrolled generative adversarial networks (Metz, Poole, Pfau & Sohl-Dickstein, 2017)
    | https://arxiv.org/abs/1611.02163
    | PacGAN: the power of two samples in generative adversarial networks (Lin, Khetan, Fanti & Oh, 2018)
    | https://arxiv.org/abs/1712.04086
"""

from __future__ import annotations

import math
from typing import Any

import torch

from implicit_simulators.targets.mixture import Mixture


class Ring(Mixture):
    """Equal Gaussians, equally far apart on a circle.

    Args:
        count: Gaussians, k.
        radius: Radius of the circle, R.
        scale: Standard deviation of each.

    Raises:
        ValueError: If a number is not positive.
    """

    name = "ring"

    def __init__(self, count: int = 8, radius: float = 2.0, scale: float = 0.02) -> None:
        if not (count == int(count) and count > 0):
            raise ValueError(f"count: expected a positive int; got {count}")
        if not 0 < radius < math.inf:
            raise ValueError(f"radius: expected a positive number; got {radius}")
        self.count, self.radius = int(count), float(radius)
        angle = 2 * math.pi * torch.arange(self.count, dtype=torch.float64) / self.count
        super().__init__((self.radius * torch.stack((angle.cos(), angle.sin()), 1)).float(), scale)

    def settings(self) -> dict[str, Any]:
        """Gaussians, radius and standard deviation."""
        return {"count": self.count, "radius": self.radius, "scale": self.scale}
