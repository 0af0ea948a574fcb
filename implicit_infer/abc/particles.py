"""Weighted particles: what every ABC method ends with, and how draws are taken from them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Particles:
    r"""Weighted points that stand for a distribution.

    Attributes:
        theta: The points, with shape (k, d).
        log_weights: Their log weights up to a constant, with shape (k,).
    """

    theta: Tensor
    log_weights: Tensor

    def __len__(self) -> int:
        return len(self.theta)

    @property
    def weights(self) -> Tensor:
        """Weights that sum to one, with shape (k,) and dtype float64."""
        return self.log_weights.double().softmax(0)

    @property
    def ess(self) -> float:
        r"""Effective sample size :math:`1 / \sum_i w_i^2` (Kong, 1992): how many equal weights would do as well."""
        return float(1 / self.weights.square().sum())

    def pick(self, n: int, generator: torch.Generator) -> Tensor:
        r"""Indices of ``n`` draws by systematic resampling of the shuffled particles, in random order, shape (n,).

        Particle i is taken :math:`\lfloor n w_i \rfloor` or :math:`\lceil n w_i \rceil` times, :math:`n w_i` on
        average. With equal weights, up to k draws are therefore drawn without replacement, and more repeat all
        particles equally often.
        """
        order = torch.randperm(len(self), generator=generator)
        edges = self.weights[order].cumsum(0)
        points = (torch.arange(n, dtype=torch.float64) + torch.rand((), generator=generator, dtype=torch.float64)) / n
        # edges end at 1 up to rounding: the last draw may not fall off
        picked = order[torch.searchsorted(edges, points).clamp_max(len(self) - 1)]
        return picked[torch.randperm(n, generator=generator)]


def repeated(draws: int, distinct: int, particles: Particles) -> str:
    """What to say when ``draws`` draws come from fewer distinct particles."""
    return (
        f"{draws} draws were asked for and {distinct} of them differ: there are {len(particles)} particles "
        f"(effective sample size {particles.ess:.0f}); repeated draws alone make two-sample tests such as C2ST "
        "score worse"
    )
