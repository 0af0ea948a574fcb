"""Densities q over standardised, unconstrained parameters that can be drawn from with a slope in their own weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


class NormalFamily(nn.Module):
    r"""The normal :math:`N(m, L L^\top)`, which starts as the standard one.

    Args:
        d: Number of parameters.
        seed: Not used: there is nothing to draw.
    """

    def __init__(self, d: int, seed: int = 0) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(d))
        self.log_diagonal = nn.Parameter(torch.zeros(d))
        self.lower = nn.Parameter(torch.zeros(d * (d - 1) // 2))
        self.d = d

    def root(self) -> Tensor:
        """L, with shape (d, d)."""
        row, column = torch.tril_indices(self.d, self.d, -1, device=self.mean.device)
        return torch.diag(self.log_diagonal.exp()).index_put((row, column), self.lower)

    def draw(self, n: int, random: torch.Generator) -> Tensor:
        """N draws, with shape (n, d)."""
        noise = torch.randn((n, self.d), generator=random, device=self.mean.device)
        return self.mean + noise @ self.root().T

    def draw_and_density(self, n: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """N draws with shape (n, d) and their log densities with shape (n,)."""
        v = self.draw(n, random)
        return v, self.density(v)

    def density(self, v: Tensor) -> Tensor:
        """Log densities with shape (n,) of v with shape (n, d)."""
        noise = torch.linalg.solve_triangular(self.root(), (v - self.mean).T, upper=False)
        return -0.5 * noise.square().sum(0) - self.log_diagonal.sum() - 0.5 * self.d * math.log(2 * math.pi)


class FlowFamily(nn.Module):
    """A neural spline flow (zuko), for more than one mode.

    Args:
        d: Number of parameters.
        seed: Seed of the initial weights.
    """

    def __init__(self, d: int, seed: int = 0) -> None:
        super().__init__()
        import zuko

        from implicit_estimators.seeds import forked

        with forked(seed):
            self.flow: Any = zuko.flows.NSF(d, transforms=3, hidden_features=(64, 64), bins=8)
        self.d = d

    def draw(self, n: int, random: torch.Generator) -> Tensor:
        """N draws, with shape (n, d)."""
        return self.draw_and_density(n, random)[0]

    def draw_and_density(self, n: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """N draws with shape (n, d) and their log densities with shape (n,)."""
        flow = self.flow()
        device = next(self.parameters()).device
        noise = torch.randn((n, self.d), generator=random, device=device)
        v, log_det = flow.transform.inv.call_and_ladj(noise)
        return v, flow.base.log_prob(noise) - log_det

    def density(self, v: Tensor) -> Tensor:
        """Log densities with shape (n,) of v with shape (n, d)."""
        density: Tensor = self.flow().log_prob(v)
        return density


Family = NormalFamily | FlowFamily
"""Either of them."""
