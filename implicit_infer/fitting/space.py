r"""Where fits search: parameters free of bounds, in units of the prior.

.. math:: \theta = T(c + s \odot v), \qquad v \in \mathbb{R}^d,

with T the bijection onto the prior's support, so that no step can leave it, and c and s the mean and the standard
deviation of :math:`T^{-1}(\theta)` under the prior: one step size then suits all parameters, whatever their units.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions.transforms import Transform

from implicit_simulators import Simulator, unconstrained

DRAWS = 2000
"""Draws from the prior that its units are taken of."""


@dataclass(frozen=True)
class Space:
    """Maps between theta and v.

    Attributes:
        transform: T.
        centre: c, with shape (d,).
        scale: s, positive, with shape (d,).
    """

    transform: Transform
    centre: Tensor
    scale: Tensor

    @classmethod
    def of(cls, simulator: Simulator, seed: int = 0) -> Space:
        """Of a simulator's prior.

        Raises:
            TypeError: If the prior has no support that can be mapped to.
        """
        transform = unconstrained(simulator.prior)
        free = transform.inv(simulator.sample_prior(DRAWS, seed)).double()
        free = free[torch.isfinite(free).all(1)]
        scale = free.std(0)
        return cls(transform, free.mean(0).float(), torch.where(scale > 0, scale, 1.0).float())

    @property
    def dim(self) -> int:
        """Number of parameters, d."""
        return len(self.centre)

    def theta(self, v: Tensor) -> Tensor:
        """Parameters in the prior's support at v, both with shape (n, d); differentiable."""
        return self.transform(self.centre.to(v) + self.scale.to(v) * v.clamp(-30.0, 30.0))

    def free(self, theta: Tensor) -> Tensor:
        """V at parameters inside the support, both with shape (n, d)."""
        return (self.transform.inv(theta) - self.centre.to(theta)) / self.scale.to(theta)

    def start(self, start: Tensor | None) -> Tensor:
        """V where a search begins, with shape (d,): at ``start``, or in the middle of the prior."""
        return torch.zeros(self.dim) if start is None else self.free(start[None].float())[0]
