r"""The two players of a conditional game over (v, s), and what each of them is given.

The generator makes v, the free coordinates of :class:`Coordinates`, of noise and what is known of x. The critic looks
at the same point through :class:`Sight`: where a parameter is bounded, on its own scale and not on the unconstrained
one. The map from an interval to the line stretches what lies near its ends without limit, and a penalty on the
critic's slope would mean something else there than in the middle.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from implicit_estimators.critics import ConditionalCritic
from implicit_infer.posteriors.coordinates import Coordinates

FAR = 1e3
"""Unconstrained values at which the image of a bounded parameter has long reached its ends."""


class ConditionalGenerator(nn.Module):
    """Noise and what is given of x to parameters: v = network(z, given) in the coordinates of :class:`Coordinates`.

    Args:
        coordinates: Gives the width of v.
        latent: Width of the noise.
        given: Width of what is given of x.
        hidden: Widths of the hidden layers.
        activation: Name of the activation.
        seed: Seed of the initial weights.
    """

    def __init__(
        self, coordinates: Coordinates, latent: int, given: int, hidden: Sequence[int], activation: str, seed: int
    ) -> None:
        super().__init__()
        self.latent = latent
        self.network = ConditionalCritic(
            latent, given, hidden, outputs=coordinates.parameters_dim, activation=activation, seed=seed
        )
        self.width = coordinates.parameters_dim

    def forward(self, z: Tensor, given: Tensor) -> Tensor:
        """V of shape (n, d) for noise z (n, latent) and rows (n, k) of what is given."""
        return self.network(z, given).reshape(-1, self.width)


class Sight(nn.Module):
    r"""What the critic sees of (v, s): u, where bounded on the scale of theta, less its regression on s, whitened.

    .. math:: w = R^{-1} (y - B s - c), \quad
        y_i = \sigma(u_i) \text{ if the range of } \theta_i \text{ is bounded, else } u_i

    Args:
        coordinates: The maps between v and theta.
        v: Free coordinates of simulations, with shape (n, d).
        s: Their summaries, with shape (n, k).
        ridge: Ridge penalty of the regression, relative to n.
    """

    slope: Tensor
    intercept: Tensor
    whiten: Tensor
    bounded: Tensor
    their_spread: Tensor
    their_slope: Tensor
    their_intercept: Tensor

    def __init__(self, coordinates: Coordinates, v: Tensor, s: Tensor, ridge: float = 1e-4) -> None:
        super().__init__()
        self.register_buffer("bounded", bounded(coordinates, v))
        # copies, which lie on another device than the coordinates while a game is played
        for name in ("spread", "slope", "intercept"):
            self.register_buffer(f"their_{name}", getattr(coordinates, name).clone())
        y = self._raw(v, s).double()
        n, k = s.shape
        centre_s, centre_y = s.double().mean(0), y.mean(0)
        inner = s.double() - centre_s
        gram = inner.T @ inner + ridge * n * torch.eye(k, dtype=torch.float64, device=s.device)
        slope = torch.linalg.solve(gram, inner.T @ (y - centre_y)).T
        left = y - centre_y - inner @ slope.T
        covariance = left.T @ left / n
        # a floor for what the summaries determine exactly
        floor = covariance.diagonal().clamp_min(1e-12).diag() * 1e-6
        whiten = torch.linalg.inv(torch.linalg.cholesky(covariance + floor))
        for name, value in (("slope", slope), ("intercept", centre_y - slope @ centre_s), ("whiten", whiten)):
            self.register_buffer(name, value.to(v.dtype))

    def forward(self, v: Tensor, s: Tensor) -> Tensor:
        """W with shape (n, d) for v with shape (n, d) and s with shape (n, k)."""
        return (self._raw(v, s) - s @ self.slope.T - self.intercept) @ self.whiten.T

    def _raw(self, v: Tensor, s: Tensor) -> Tensor:
        u = v @ self.their_spread.T + s @ self.their_slope.T + self.their_intercept
        return torch.where(self.bounded, u.sigmoid(), u)


def bounded(coordinates: Coordinates, like: Tensor) -> Tensor:
    """Which parameters have a bounded range, with shape (d,) and dtype bool."""
    ends = like.new_full((2, coordinates.parameters_dim), FAR)
    ends[0] = -FAR
    low, high = coordinates.transform(ends).double()
    return torch.isfinite(low) & torch.isfinite(high) & (high - low < FAR)
