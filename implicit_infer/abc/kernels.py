r"""How particles are moved: the covariance of the normal kernel, one for all particles or one for each.

A kernel is a function of a population and the next tolerance that gives covariances, with shape (p, p), or (k, p, p)
where each of the k particles has its own. With weights :math:`w_j`, and :math:`\tilde\phi_k` with weights
:math:`\tilde w_k` the particles that lie within the next tolerance:

.. math::
    \text{component-wise:} \quad & \Sigma = 2 \operatorname{diag} \operatorname{Var}_w(\phi) \\
    \text{twice:} \quad & \Sigma = 2 \operatorname{Cov}_w(\phi) \\
    \text{optimal:} \quad & \Sigma = \textstyle\sum_{j,k} w_j \tilde w_k
        (\tilde\phi_k - \phi_j)(\tilde\phi_k - \phi_j)^\top \\
    \text{local:} \quad & \Sigma_j = \textstyle\sum_{k \in N_j} w_k
        (\phi_k - \phi_j)(\phi_k - \phi_j)^\top / \sum_{k \in N_j} w_k \\
    \text{optimal-local:} \quad & \Sigma_j = \textstyle\sum_k \tilde w_k
        (\tilde\phi_k - \phi_j)(\tilde\phi_k - \phi_j)^\top

with :math:`N_j` the nearest neighbours of particle j in the population's own metric. Filippi et al. take the covariance
of the neighbours; here their moments are about the particle itself, as in "optimal-local", so that a particle at the
edge of the population can reach those that all lie to one side. To add a kernel, copy ``twice`` and name it in
``KERNELS``.

References:
    | Adaptive approximate Bayesian computation (Beaumont, Cornuet, Marin & Robert, 2009)
    | https://doi.org/10.1093/biomet/asp052
    | On optimality of kernels for approximate Bayesian computation using SMC (Filippi et al., 2013)
    | https://doi.org/10.1515/sagmb-2012-0069
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from implicit_infer.abc.population import Population

POINT = 1e-10
"""Relative spread below which a population is one point: much less than float32 parameters can tell apart."""

NEIGHBOURS = 0.25
"""Share of the population that are a particle's neighbours."""

ROWS = 256
"""Particles whose neighbours are looked for at once."""

Covariance = Callable[[Population, float], Tensor]


def component_wise(population: Population, tolerance: float) -> Tensor:
    """Twice each parameter's variance, and nothing between parameters (Beaumont et al., 2009)."""
    return 2 * population.covariance()[1].diagonal().diag()


def twice(population: Population, tolerance: float) -> Tensor:
    """Twice the covariance: the multivariate form."""
    return 2 * population.covariance()[1]


def optimal(population: Population, tolerance: float) -> Tensor:
    """Closest to the next target in Kullback-Leibler divergence, of all normal kernels with one covariance."""
    mean, covariance = population.covariance()
    near, spread = population.within(tolerance).covariance()
    return covariance + spread + torch.outer(near - mean, near - mean)


def local(population: Population, tolerance: float) -> Tensor:
    """Second moments of each particle's nearest neighbours about it."""
    k, p = population.phi.shape
    wanted = min(k, max(p + 2, round(NEIGHBOURS * k)))
    _, covariance = population.covariance()
    # whitened: which neighbours are near must not depend on the parameters' units
    values, vectors = torch.linalg.eigh(covariance)
    points = population.phi @ (vectors / values.clamp_min(values.max() * 1e-12).sqrt())
    weights, found = population.log_weights.exp(), []
    for rows in torch.arange(k, device=points.device).split(ROWS):
        near = torch.cdist(points[rows], points).topk(wanted, largest=False).indices
        moves = population.phi[near] - population.phi[rows, None]
        share = weights[near] / weights[near].sum(1, keepdim=True)
        found.append(torch.einsum("jk,jka,jkb->jab", share, moves, moves))
    return torch.cat(found)


def optimal_local(population: Population, tolerance: float) -> Tensor:
    """The optimal covariance for each particle by itself."""
    mean, spread = population.within(tolerance).covariance()
    offset = mean - population.phi
    return spread + offset[:, :, None] * offset[:, None, :]


KERNELS: dict[str, Covariance] = {
    "component-wise": component_wise,
    "twice": twice,
    "optimal": optimal,
    "local": local,
    "optimal-local": optimal_local,
}
"""Kernels by the name that ``SMCABC(kernel=...)`` takes."""


def kernel_factor(population: Population, tolerance: float, kernel: str) -> Tensor | None:
    """Cholesky factors (p, p) or (k, p, p) of a kernel, or None if the population has collapsed onto a point."""
    mean, covariance = population.covariance()
    if not (covariance.diagonal() > (POINT * (1 + mean.abs())) ** 2).any():
        return None
    return cholesky(KERNELS[kernel](population, tolerance), covariance.diagonal())


def cholesky(covariance: Tensor, scale: Tensor) -> Tensor | None:
    """Factors of covariances (..., p, p); what is flat is widened by a little of the variances ``scale`` (p,)."""
    scale = scale.clamp_min(scale.mean())
    for jitter in (0.0, 1e-10, 1e-8, 1e-6, 1e-4):
        factor, failed = torch.linalg.cholesky_ex(covariance + torch.diag(jitter * scale))
        if not failed.any():
            return factor
    return None
