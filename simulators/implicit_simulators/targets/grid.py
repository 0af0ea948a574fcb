r"""Gaussians on a square grid: more modes than the ring, and one among the others that nothing sets apart.

The grid of 25 of VEEGAN and PacGAN has its modes at :math:`(-4 + 2i, -4 + 2j)`, i, j = 0, ..., 4, with standard
deviation 0.05.

References:
    | VEEGAN: reducing mode collapse in GANs using implicit variational learning (Srivastava et al., 2017)
    | https://arxiv.org/abs/1705.07761
    | PacGAN: the power of two samples in generative adversarial networks (Lin, Khetan, Fanti & Oh, 2018)
    | https://arxiv.org/abs/1712.04086
"""

from __future__ import annotations

import math
from typing import Any

import torch

from implicit_simulators.targets.mixture import Mixture


class Grid(Mixture):
    """Equal Gaussians on a square grid about the origin.

    Args:
        side: Gaussians along one side; there are ``side ** 2``.
        spacing: Distance between two neighbours.
        scale: Standard deviation of each.

    Raises:
        ValueError: If a number is not positive.
    """

    name = "grid"

    def __init__(self, side: int = 5, spacing: float = 2.0, scale: float = 0.05) -> None:
        if not (side == int(side) and side > 0):
            raise ValueError(f"side: expected a positive int; got {side}")
        if not 0 < spacing < math.inf:
            raise ValueError(f"spacing: expected a positive number; got {spacing}")
        self.side, self.spacing = int(side), float(spacing)
        places = self.spacing * (torch.arange(self.side) - (self.side - 1) / 2)
        super().__init__(torch.cartesian_prod(places, places).reshape(-1, 2), scale)

    def settings(self) -> dict[str, Any]:
        """Side, spacing and standard deviation."""
        return {"side": self.side, "spacing": self.spacing, "scale": self.scale}
