"""Every simulation that a local search has made, and those of them that lie near where it now is."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

MOST = 50_000
"""Most simulations that are given for one neighbourhood: the newest."""


@dataclass
class Neighbourhood:
    """A buffer of simulations by where they were made; failed ones are left out.

    Attributes:
        v: Places, each part with shape (n, d).
        theta: Parameters, the same.
        x: Simulations, each part with shape (n, *event_shape).
        failed: How many failed.
    """

    v: list[Tensor] = field(default_factory=list)
    theta: list[Tensor] = field(default_factory=list)
    x: list[Tensor] = field(default_factory=list)
    failed: int = 0

    def add(self, v: Tensor, theta: Tensor, x: Tensor) -> None:
        """Keep simulations."""
        fine = torch.isfinite(x.flatten(1)).all(1)
        self.failed += int((~fine).sum())
        for part, kept in ((self.v, v), (self.theta, theta), (self.x, x)):
            part.append(kept[fine])

    def near(self, v: Tensor, half_width: float) -> tuple[Tensor, Tensor, Tensor]:
        """Places, parameters and simulations of the box around v, with half_width to either side in each direction."""
        places = torch.cat(self.v)
        inside = ((places - v).abs() <= half_width * (1 + 1e-5)).all(1).nonzero()[-MOST:, 0]
        return places[inside], torch.cat(self.theta)[inside], torch.cat(self.x)[inside]
