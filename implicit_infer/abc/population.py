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

    def measured(self, distances: Tensor) -> Population:
        """The same points by another distance."""
        return replace(self, distances=distances)

    def merged(self) -> Population:
        """Every point once, with the weights of its copies."""
        _, which, counts = torch.unique(self.phi, dim=0, return_inverse=True, return_counts=True)
        if len(counts) == len(self):
            return self
        log_weights = self.log_weights.new_zeros(len(counts)).index_add_(0, which, self.log_weights.exp()).log()
        rows = torch.arange(len(self), device=which.device)
        first = torch.full_like(counts, len(self)).scatter_reduce_(0, which, rows, "amin")
        return Population(self.phi[first], log_weights, self.distances[first], self.features[first])

    def within(self, tolerance: float) -> Population:
        """The points whose simulations lie within a tolerance."""
        return self.take(self.distances <= tolerance)

    def covariance(self) -> tuple[Tensor, Tensor]:
        """Weighted mean (p,) and covariance (p, p)."""
        weights = self.log_weights.exp()
        mean = weights @ self.phi
        centred = self.phi - mean
        return mean, (centred * weights[:, None]).T @ centred

    def propose(self, n: int, factor: Tensor, generator: torch.Generator) -> Tensor:
        """``n`` points of the mixture: a weighted choice of ancestors, each moved by the kernel; shape (n, p).

        Args:
            n: How many.
            factor: Cholesky factor (p, p) of the kernel's covariance, or (k, p, p) where each point has its own.
            generator: Source of the random numbers, on the CPU: the same on any device.
        """
        edges = self.log_weights.exp().cumsum(0)
        uniform = torch.rand(n, generator=generator, dtype=torch.float64).to(edges) * edges[-1]
        ancestors = torch.searchsorted(edges, uniform).clamp_max(len(self) - 1)
        noise = torch.randn((n, factor.shape[-1]), generator=generator, dtype=torch.float64).to(edges)
        if factor.ndim == 2:
            return self.phi[ancestors] + noise @ factor.T
        return self.phi[ancestors] + torch.einsum("nab,nb->na", factor[ancestors], noise)

    def log_mixture(self, phi: Tensor, factor: Tensor) -> Tensor:
        """Log density of the mixture at phi with shape (n, p), with shape (n,)."""
        return self._log_common(phi, factor) if factor.ndim == 2 else self._log_own(phi, factor)

    def _log_common(self, phi: Tensor, factor: Tensor) -> Tensor:
        """One kernel for all: squared distances by one product of matrices."""
        whitened, centres = (torch.linalg.solve_triangular(factor, at.T, upper=False).T for at in (phi, self.phi))
        # about the common mean, so that |a|^2 + |b|^2 - 2ab keeps its digits
        origin = centres.mean(0)
        whitened, centres = whitened - origin, centres - origin
        bias = self.log_weights - 0.5 * centres.square().sum(1)
        rows = max(1, PAIRS // len(self))
        parts = [torch.logsumexp(torch.addmm(bias, part, centres.T), dim=1) for part in whitened.split(rows)]
        normaliser = factor.diagonal().log().sum() + 0.5 * len(factor) * math.log(2 * math.pi)
        return torch.cat(parts) - 0.5 * whitened.square().sum(1) - normaliser

    def _log_own(self, phi: Tensor, factor: Tensor) -> Tensor:
        """A kernel for each: every point is whitened by every kernel."""
        k, p = self.phi.shape
        eye = torch.eye(p, dtype=factor.dtype, device=factor.device)
        inverse = torch.linalg.solve_triangular(factor, eye.expand(k, p, p), upper=False)
        origin = self.phi.mean(0)
        centres = torch.einsum("kab,kb->ka", inverse, self.phi - origin)
        log_volume = factor.diagonal(dim1=1, dim2=2).log().sum(1) + 0.5 * p * math.log(2 * math.pi)
        bias, flat = self.log_weights - log_volume, inverse.reshape(k * p, p).T
        rows = max(1, PAIRS // (k * p))
        parts = [
            torch.logsumexp(bias - 0.5 * ((part @ flat).view(-1, k, p) - centres).square().sum(2), dim=1)
            for part in (phi - origin).split(rows)
        ]
        return torch.cat(parts)


def tolerance_at(population: Population, share: float) -> float:
    r"""The smallest tolerance at which the effective sample size is still a share of what it is now.

    .. math:: \min \{ \epsilon : \mathrm{ESS}(w_i 1\{d_i \le \epsilon\}) \ge \alpha\, \mathrm{ESS}(w_i) \},
        \qquad \mathrm{ESS}(w) = \Big(\sum_i w_i\Big)^2 \Big/ \sum_i w_i^2

    References:
        | An adaptive sequential Monte Carlo method for approximate Bayesian computation (Del Moral et al., 2012)
        | https://doi.org/10.1007/s11222-011-9271-y
    """
    distances, order = population.distances.sort()
    weights = population.log_weights.exp()[order]
    ess = weights.cumsum(0).square() / weights.square().cumsum(0)
    # rounding must not cost a step where weights are equal
    enough = (ess >= share * (1 - 1e-9) * ess[-1]).nonzero()[0]
    return float(distances[enough])


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
