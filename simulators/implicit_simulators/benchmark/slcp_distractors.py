r"""SLCP with distractors: the eight informative numbers hidden among ninety-two that say nothing about theta.

The distractors are one draw from a mixture of twenty Student t distributions with two degrees of freedom (so heavy a
tail that it has no variance) in 92 dimensions, and the hundred numbers are shuffled by a fixed permutation:

.. math:: x = \Pi(y_1, \ldots, y_8, z_1, \ldots, z_{92}), \quad y \mid \theta \sim \text{SLCP}, \quad
    z \sim \frac{1}{20} \sum_{k=1}^{20} t_2(\mu_k, L_k L_k^\top)

The parameters of the mixture and the permutation were drawn once, with NumPy's old generator at seed 42. That generator
is frozen, so they are drawn here again. They are the benchmark's to the last digit or the one before.

References:
    | Benchmarking simulation-based inference, T.4 (Lueckmann et al., 2021)
    | https://arxiv.org/abs/2101.04653
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from implicit_simulators.benchmark.slcp import SLCP
from implicit_simulators.engines.noise import row_normal
from implicit_simulators.engines.products import row_product
from implicit_simulators.streams import Stream

DISTRACTORS, COMPONENTS = 92, 20


class Mixture(NamedTuple):
    """The fixed parameters of the distractors.

    Attributes:
        loc: Means of the components, with shape (20, 92).
        scale_tril: Lower triangular scales, with shape (20, 92, 92). The diagonals have negative entries: the benchmark
            adds normal numbers to positive ones. For drawing, signs do not matter.
        permutation: Which of the eight and the ninety-two, in this order, stands in each place of x, with shape (100,).
    """

    loc: Tensor
    scale_tril: Tensor
    permutation: Tensor


class SLCPDistractors(SLCP):
    """Infer what SLCP infers, from data of which 92 in a hundred are noise.

    The posterior is that of SLCP at ``informative(x)``.
    """

    name = "slcp-distractors"
    points = 1  # four of the hundred numbers' pairs are, but who infers is not to know which
    event_shape = torch.Size([SLCP.event_shape[0] + DISTRACTORS])

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        points = super()._simulate(theta, stream)
        noise = _distractors(len(theta), Stream.of(stream.key, role="observe")).to(points)
        return torch.cat((points, noise), 1)[:, mixture().permutation.to(theta.device)]

    def informative(self, x: Tensor) -> Tensor:
        r"""The eight of the hundred numbers that depend on theta, in SLCP's order: from (\*, 100) to (\*, 8)."""
        place = mixture().permutation.argsort()[: SLCP.event_shape[0]]
        return x[..., place.to(x.device)]

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        r"""Log p(x | theta) less the log density of the distractors, which does not depend on theta.

        That density is left out because it cannot be had from data with a float's digits: the condition numbers of the
        mixture's scales are up to 5e18.

        Args:
            theta: Parameters with shape (n, 5).
            x: Data with shape (100,) or (n, 100).

        Returns:
            The log likelihood of the eight informative numbers, with shape (n,).
        """
        return super().log_likelihood(theta, self.informative(x))


@lru_cache(maxsize=1)
def mixture() -> Mixture:
    """The parameters of the distractors, in float64, on the CPU."""
    random = np.random.RandomState(42)
    loc = np.stack([15 * random.normal(size=DISTRACTORS) for _ in range(COMPONENTS)])
    scale_tril = np.stack([3 * _triangle(random) for _ in range(COMPONENTS)])
    permutation = random.permutation(SLCP.event_shape[0] + DISTRACTORS)
    return Mixture(torch.from_numpy(loc), torch.from_numpy(scale_tril), torch.from_numpy(permutation))


def _triangle(random: np.random.RandomState) -> np.ndarray:
    below = np.tril(random.normal(size=(DISTRACTORS, DISTRACTORS)))
    return below + np.diag(np.exp(random.normal(size=DISTRACTORS)))


def _distractors(n: int, stream: Stream) -> Tensor:
    """Draws from the mixture in float64, with shape (n, 92).

    A t vector with two degrees of freedom is a normal one over the root of half a chi-squared variable with two, and
    that half is exponential.
    """
    parameters = mixture()
    normal = row_normal((n, DISTRACTORS), stream.torch(), torch.float64)
    uniform = torch.from_numpy(stream.numpy().random((n, 2)))
    component = (COMPONENTS * uniform[:, 0]).long()
    t = normal / (-torch.log1p(-uniform[:, 1:])).clamp_min(torch.finfo(torch.float64).tiny).sqrt()
    z = parameters.loc[component]
    for k in range(COMPONENTS):
        rows = (component == k).nonzero()[:, 0]
        z[rows] += row_product(t[rows], parameters.scale_tril[k].T)
    return z
