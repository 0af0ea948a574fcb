r"""Equal round Gaussians around given places: what the ring and the grid have in common.

.. math:: p(x) = \frac{1}{k} \sum_{j=1}^{k} N(x; m_j, s^2 I)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from implicit_simulators.engines.noise import row_normal
from implicit_simulators.streams import Stream
from implicit_simulators.targets.base import Target


class Mixture(Target):
    """Equal round Gaussians.

    Args:
        modes: Their means, with shape (k, dim).
        scale: Their standard deviation.

    Raises:
        ValueError: If ``scale`` is not positive.
    """

    scale: float

    def __init__(self, modes: Tensor, scale: float) -> None:
        if not 0 < scale < math.inf:
            raise ValueError(f"scale: expected a positive number; got {scale}")
        self._modes, self.scale, self.dim = modes, float(scale), modes.shape[1]

    @property
    def modes(self) -> Tensor:
        """The means, with shape (k, dim)."""
        return self._modes.clone()

    def _sample(self, n: int, stream: Stream, device: torch.device) -> Tensor:
        uniform = torch.rand(n, generator=stream.torch(device), device=device, dtype=torch.float64)
        modes = self._modes.to(device)
        noise = row_normal((n, self.dim), Stream.of(stream.key, role="observe").torch(device))
        return modes[(uniform * len(modes)).long()] + self.scale * noise

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density at ``x`` with shape (n, dim); result (n,)."""
        squares = ((x[:, None] - self._modes.to(x)) ** 2).sum(2) / self.scale**2
        each = -0.5 * squares - self.dim * math.log(self.scale * math.sqrt(2 * math.pi))
        return torch.logsumexp(each, 1) - math.log(len(self._modes))
