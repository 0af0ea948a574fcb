r"""What a plain ratio network sees of (theta, x): columns of order one, from both sides of the pair.

A parameter with two bounds is seen as it is, one without or with a single bound in the unconstrained space of
``coordinates``; both are standardised. A ratio does not change under an invertible map of theta, and it is only ever
evaluated in the prior's support, so that nothing leaks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from implicit_estimators.networks.standardise import Standardiser
from implicit_infer.posteriors.coordinates import HEAVY, Coordinates
from implicit_simulators import Simulator

FAR = 40.0
"""So far out in unconstrained space, a parameter with a bound has arrived there."""


class RatioInputs(nn.Module):
    r"""The maps from theta and x to a network's inputs, fitted to simulations.

    Args:
        simulator: Gives the prior's support and ``summarize``.
        theta: Parameters of the simulations, with shape (n, d).
        x: The simulations, with shape (n, \*event_shape), finite.

    Raises:
        ValueError: If there are fewer than two simulations.

    Attributes:
        coordinates: The unconstrained space and the linear regression there.
        bounded: Which parameters have two bounds, with shape (d,).
    """

    bounded: Tensor

    def __init__(self, simulator: Simulator, theta: Tensor, x: Tensor) -> None:
        super().__init__()
        self.coordinates = Coordinates(simulator, theta, x)
        d = self.coordinates.parameters_dim
        near, far = (self.coordinates.transform(torch.full((2, d), FAR) * torch.tensor([[k], [-k]])) for k in (1, 2))
        self.register_buffer("bounded", torch.isclose(near, far, rtol=1e-4, atol=1e-8).all(0))
        raw = torch.where(self.bounded, theta, self.coordinates.transform.inv(theta))
        found = Standardiser.fit(raw)
        self.standardise = Standardiser.fit(raw, robust=True) if (found(raw).abs() > HEAVY).any() else found

    def parameters_of(self, u: Tensor) -> Tensor:
        r"""The network's columns of unconstrained u, with shape (\*, d)."""
        if self.bounded.any():
            u = torch.where(self.bounded, self.coordinates.transform(u), u)
        return self.standardise(u)

    def summaries(self, x: Tensor) -> Tensor:
        r"""S with shape (n, k) for x with shape (n, \*event_shape)."""
        return self.coordinates.summaries(x)
