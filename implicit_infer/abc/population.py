r"""One generation of sequential Monte Carlo ABC: weighted points, the kernel that moves them, and their weights.

A point :math:`\phi^*` of the next generation is drawn from the mixture
:math:`q(\phi) = \sum_j w_j\, N(\phi; \phi_j, \Sigma)` and kept if its simulation is near enough. Its importance weight
makes up for not having been drawn from the prior:

.. math:: w_i^* \propto \frac{p(\phi_i^*)}{\sum_j w_j\, N(\phi_i^*; \phi_j, \Sigma)}

References:
    | Adaptive approximate Bayesian computation (Beaumont, Cornuet, Marin & Robert, 2009)
    | https://doi.org/10.1093/biomet/asp052
    | On optimality of kernels for approximate Bayesian computation using SMC (Filippi et al., 2013)
    | https://doi.org/10.1515/sagmb-2012-0069
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

PAIRS = 2**21
"""Pairs of points whose kernel is held in memory at once."""

POINT = 1e-10
"""Relative spread below which a population is one point: much less than float32 parameters can tell apart."""


@dataclass(frozen=True)
class Population:
    """Weighted points with their simulations' distances.

    Attributes:
        phi: Points in unconstrained space, with shape (k, p) and dtype float64.
        log_weights: Log weights that sum to one, with shape (k,).
        distances: Distances to the observation, with shape (k,).
        features: Summaries of the simulations, with shape (k, f).
    """

    phi: Tensor
    log_weights: Tensor
    distances: Tensor
    features: Tensor

    def __len__(self) -> int:
        return len(self.phi)

    @property
    def ess(self) -> float:
        """Effective sample size of the weights."""
        return float(torch.exp(-(2 * self.log_weights).logsumexp(0))) if len(self) else 0.0

    def take(self, which: Tensor) -> Population:
        """The points at an index or mask, with weights that sum to one again."""
        log_weights = self.log_weights[which]
        log_weights = log_weights - log_weights.logsumexp(0)
        return Population(self.phi[which], log_weights, self.distances[which], self.features[which])

    def covariance(self) -> tuple[Tensor, Tensor]:
        """Weighted mean (p,) and covariance (p, p)."""
        weights = self.log_weights.exp()
        mean = weights @ self.phi
        centred = self.phi - mean
        return mean, (centred * weights[:, None]).T @ centred

    def propose(self, n: int, factor: Tensor, generator: torch.Generator) -> Tensor:
        """``n`` points of the mixture: a weighted choice of ancestors, each moved by the kernel; shape (n, p)."""
        edges = self.log_weights.exp().cumsum(0)
        uniform = torch.rand(n, generator=generator, dtype=torch.float64) * edges[-1]
        ancestors = torch.searchsorted(edges, uniform).clamp_max(len(self) - 1)
        noise = torch.randn((n, len(factor)), generator=generator, dtype=torch.float64)
        return self.phi[ancestors] + noise @ factor.T

    def log_mixture(self, phi: Tensor, factor: Tensor) -> Tensor:
        """Log density of the mixture at phi with shape (n, p), with shape (n,)."""
        whitened, centres = (torch.linalg.solve_triangular(factor, at.T, upper=False).T for at in (phi, self.phi))
        # about the common mean, so that |a|^2 + |b|^2 - 2ab keeps its digits
        origin = centres.mean(0)
        whitened, centres = whitened - origin, centres - origin
        bias = self.log_weights - 0.5 * centres.square().sum(1)
        rows = max(1, PAIRS // len(self))
        parts = [torch.logsumexp(torch.addmm(bias, part, centres.T), dim=1) for part in whitened.split(rows)]
        normaliser = factor.diagonal().log().sum() + 0.5 * len(factor) * math.log(2 * math.pi)
        return torch.cat(parts) - 0.5 * whitened.square().sum(1) - normaliser


def kernel_factor(population: Population, tolerance: float, kernel: str) -> Tensor | None:
    r"""Cholesky factor of the kernel's covariance, or None if the population has collapsed onto a point.

    "twice": twice the weighted covariance of the population (Beaumont et al., 2009). "optimal": the covariance of the
    moves from the population to its own members within the next tolerance, which is closest to the next target in
    Kullback-Leibler divergence (Filippi et al., 2013):

    .. math:: \Sigma = \sum_{j,k} w_j \tilde w_k (\tilde\phi_k - \phi_j)(\tilde\phi_k - \phi_j)^\top
    """
    mean, covariance = population.covariance()
    if kernel == "twice":
        covariance = 2 * covariance
    else:
        near, spread = population.take(population.distances <= tolerance).covariance()
        covariance = covariance + spread + torch.outer(near - mean, near - mean)
    scale = covariance.diagonal()
    if not (scale > (POINT * (1 + mean.abs())) ** 2).any():
        return None
    for jitter in (0.0, 1e-10, 1e-8, 1e-6, 1e-4):
        factor, failed = torch.linalg.cholesky_ex(covariance + torch.diag(jitter * scale.clamp_min(scale.mean())))
        if not failed:
            return factor
    return None


def mix(old: Population, fresh: Population, size: int) -> tuple[Population, float]:
    r"""Join two populations at the smallest tolerance that leaves ``size`` points; the tolerance comes second.

    Points of either that lie within the tolerance are weighted draws of the same target, so any mixture of the two is
    one, too. They share the weight in proportion to their effective sample sizes.
    """
    distances = torch.cat([old.distances, fresh.distances])
    tolerance = float(distances.kthvalue(min(size, len(distances))).values)
    near = [part.take(part.distances <= tolerance) for part in (old, fresh) if (part.distances <= tolerance).any()]
    total = sum(part.ess for part in near)
    shares = [replace(part, log_weights=part.log_weights + math.log(part.ess / total)) for part in near]
    return joined(shares), tolerance


def joined(parts: Sequence[Population]) -> Population:
    """Populations one after the other, with weights that sum to one over all."""
    phi = torch.cat([part.phi for part in parts])
    log_weights = torch.cat([part.log_weights for part in parts])
    distances = torch.cat([part.distances for part in parts])
    features = torch.cat([part.features for part in parts])
    return Population(phi, log_weights - log_weights.logsumexp(0), distances, features)
