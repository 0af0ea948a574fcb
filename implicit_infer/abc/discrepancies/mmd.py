r"""Maximum mean discrepancy of data sets (K2-ABC): how far apart their mean kernel features are.

.. math:: \mathrm{MMD}^2 = \frac1{m^2} \sum_{ij} k(x_i, x_j) + \frac1{m^2} \sum_{ij} k(y_i, y_j)
    - \frac2{m^2} \sum_{ij} k(x_i, y_j), \qquad k(x, y) = \exp\left(-\frac{|x - y|^2}{2 \ell^2}\right),

with the bandwidth :math:`\ell` the median distance between observed points. The paper weights all simulations by
:math:`\exp(-\mathrm{MMD}^2 / \epsilon)`; here they are ranked like those of any distance, which a hard threshold on the
same number is.

References:
    | K2-ABC: Approximate Bayesian computation with kernel embeddings (Park, Jitkrittum & Sejdinovic, 2016)
    | https://arxiv.org/abs/1502.02558
    | Random features for large-scale kernel machines (Rahimi & Recht, 2007)
    | https://papers.nips.cc/paper/3182-random-features-for-large-scale-kernel-machines
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_estimators.discrepancies.mmd import MMD
from implicit_estimators.kernels import median_distance
from implicit_infer.abc.discrepancies.base import Compare, SetDistance


@dataclass(frozen=True)
class KernelMMD(SetDistance):
    r"""Maximum mean discrepancy with Gaussian kernels, :math:`\mathrm{sign}(\mathrm{MMD}^2) |\mathrm{MMD}^2|^{1/2}`.

    Args:
        bandwidths: Bandwidths in units of the median distance between observed points; their kernels are averaged.
        unbiased: Leave out each point's pair with itself, as in the paper. The square is then 0 on average between sets
            of one law, and may be negative; otherwise it is not. The order of simulations hardly differs.
        random_features: Number of random Fourier features that the kernel is approximated by, or None for the exact
            sums over pairs: the time grows like m in place of :math:`m^2`.
        seed: Seed of the random features.

    Raises:
        ValueError: If a setting is out of its range.
    """

    bandwidths: tuple[float, ...] = (1.0,)
    unbiased: bool = False
    random_features: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.bandwidths or not all(0 < bandwidth < math.inf for bandwidth in self.bandwidths):
            raise ValueError(f"bandwidths: expected positive numbers, at least one; got {self.bandwidths}")
        if self.random_features is not None and self.random_features < 1:
            raise ValueError(f"random_features: expected a positive int; got {self.random_features}")

    def against(self, observed: Tensor) -> Compare:
        """See :class:`SetDistance`."""
        median = median_distance(observed, observed[:0], seed=self.seed)
        bandwidths = tuple(median * factor for factor in self.bandwidths)
        if self.random_features is not None:
            return self._by_features(observed, bandwidths, self.random_features)
        mmd = MMD(bandwidths, unbiased=self.unbiased)
        return lambda sets: _root(mmd.batched(sets, observed))

    def _by_features(self, observed: Tensor, bandwidths: tuple[float, ...], count: int) -> Compare:
        generator = torch.Generator(observed.device).manual_seed(self.seed)
        drawn = torch.randn((observed.shape[1], count), generator=generator, device=observed.device)
        phases = 2 * math.pi * torch.rand(count, generator=generator, device=observed.device)
        cycle = torch.tensor(bandwidths, device=observed.device)[
            torch.arange(count, device=observed.device) % len(bandwidths)
        ]
        frequencies, phases = (drawn / cycle).to(observed), phases.to(observed)
        m = observed.shape[0]

        def mean_features(sets: Tensor) -> Tensor:
            return (sets @ frequencies + phases).cos_().mean(-2) * math.sqrt(2 / count)

        def itself(sets: Tensor) -> Tensor:
            """Mean over points of the squared length of their own features."""
            return (sets @ frequencies + phases).cos_().square_().sum(-1).mean(-1) * (2 / count)

        def squared_length(sets: Tensor, mean: Tensor) -> Tensor:
            length = mean.square().sum(-1)
            return (m * length - itself(sets)) / (m - 1) if self.unbiased else length

        target = mean_features(observed)
        own = squared_length(observed, target)

        def compare(sets: Tensor) -> Tensor:
            mean = mean_features(sets)
            return _root(squared_length(sets, mean) + own - 2 * mean @ target)

        return compare

    def held(self, m: int, p: int) -> int:
        """See :class:`SetDistance`."""
        return m * (self.random_features or m)


def _root(squared: Tensor) -> Tensor:
    return squared.sign() * squared.abs().sqrt()
