"""A normal law with unknown location and scale: the simulator of fits whose maximum likelihood is known."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Independent, Uniform

from implicit_simulators import Simulator
from implicit_simulators.streams import Stream


class LocationScale(Simulator):
    """Draws :math:`a + b z`; one x is ``length`` of them, which ``points`` says or keeps to itself."""

    name = "location-scale"
    parameter_names = ("location", "scale")
    differentiable = True

    def __init__(self, length: int = 1, points: int = 1) -> None:
        self.length, self.points = length, points
        self.event_shape = torch.Size([length])
        self.prior = Independent(Uniform(torch.tensor([-5.0, 0.1]), torch.tensor([5.0, 5.0])), 1)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        z = torch.randn(len(theta), self.length, generator=stream.torch())
        return theta[:, :1] + theta[:, 1:] * z

    def summarize(self, x: Tensor) -> Tensor:
        """Mean and, of several, the logarithm of the standard deviation."""
        flat = x.reshape(len(x), -1)
        return flat if self.length == 1 else torch.stack([flat.mean(1), flat.std(1).log()], 1)


def observations(m: int, location: float = 1.0, scale: float = 2.0, seed: int = 0, length: int = 1) -> Tensor:
    """Data from it, with shape (m, length)."""
    return LocationScale(length).simulate(torch.tensor([[location, scale]]).expand(m, 2), seed=seed)
