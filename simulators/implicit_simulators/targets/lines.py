r"""Parallel lines: the pair of distributions that share no point, and yet are near each other.

The data are :math:`(0, Z)` and the model :math:`(\theta, Z)` with :math:`Z \sim U(0, 1)`: two upright unit segments.
Whatever the distance between them, ratios and most divergences see only that it is not zero:

.. math:: W_1 = |\theta|, \qquad \mathrm{JS} = \log 2, \quad \mathrm{KL} = \infty, \quad \mathrm{TV} = 1
    \quad (\theta \ne 0)

so that only the first has a gradient that leads to :math:`\theta = 0`.

References:
    | Wasserstein generative adversarial networks, example 1 (Arjovsky, Chintala & Bottou, 2017)
    | https://arxiv.org/abs/1701.07875
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from implicit_simulators.streams import Stream
from implicit_simulators.targets.base import Target


class Lines(Target):
    """An upright unit segment in the plane; it has no density.

    Args:
        offset: Its first coordinate: 0 for the data, theta for the model.

    Raises:
        ValueError: If ``offset`` is not finite.
    """

    name = "lines"

    def __init__(self, offset: float = 0.0) -> None:
        if not math.isfinite(offset):
            raise ValueError(f"offset: expected a finite number; got {offset}")
        self.offset = float(offset)

    def _sample(self, n: int, stream: Stream, device: torch.device) -> Tensor:
        height = torch.rand(n, generator=stream.torch(device), device=device)
        return torch.stack((torch.full_like(height, self.offset), height), 1)

    def generator(self, theta: float = 1.0) -> LineGenerator:
        """A model that starts ``theta`` away."""
        return LineGenerator(self.offset + theta)

    def distances(self, theta: float) -> dict[str, float]:
        """What is known of the distance to the segment at ``theta``; divergences in nats."""
        gap = abs(theta - self.offset)
        apart = gap > 0
        return {
            "wasserstein": gap,
            "js": math.log(2) if apart else 0.0,
            "kl": math.inf if apart else 0.0,
            "tv": 1.0 if apart else 0.0,
        }

    def settings(self) -> dict[str, Any]:
        """The first coordinate."""
        return {"offset": self.offset}


class LineGenerator(nn.Module):
    r"""The generator :math:`z \mapsto (\theta, \Phi(z_1))`, whose one parameter is :math:`\theta`.

    Args:
        theta: Where it starts.
    """

    def __init__(self, theta: float = 1.0) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(float(theta)))

    def forward(self, z: Tensor) -> Tensor:
        """Samples with shape (n, 2) from standard normal latents with shape (n, latent)."""
        return torch.stack((self.theta.expand(len(z)).to(z), torch.special.ndtr(z[:, 0])), 1)
