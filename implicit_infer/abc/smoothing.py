r"""Draws that all differ from particles that are few: each particle stands for a normal law of its neighbours' shape.

A kernel of one width widens what it is put on, and smears thin or split posteriors most. Here each particle has its
own, from its L nearest neighbours (mean :math:`\mu_i` and covariance :math:`\Sigma_i`, weighted), and is drawn towards
them by as much as the noise spreads:

.. math:: \phi^* = \mu_i + \sqrt{1 - h^2} \, (\phi_i - \mu_i) + h \, \Sigma_i^{1/2} z, \qquad
    h^2 = \left( \frac{4}{(d + 2) L} \right)^{2 / (d + 4)},

with i chosen by weight, z standard normal, and h the normal-reference width of L points. At last an affine map, near
the identity, gives the law of :math:`\phi^*` exactly the mean and covariance that the particles have. Normal
posteriors stay normal, curves stay thin, and modes that lie apart stay apart as long as each has more than L particles.
It is done in unconstrained space.

References:
    | Combined parameter and state estimation in simulation-based filtering (Liu & West, 2001)
    | https://doi.org/10.1007/978-1-4757-3437-9_10
    | Manifold Parzen windows (Vincent & Bengio, 2002)
    | https://papers.nips.cc/paper/2203-manifold-parzen-windows
"""

from __future__ import annotations

import torch
from torch import Tensor

PAIRS = 2**22
"""Distances between particles that are held at once."""

SHARE = 0.02
"""Neighbours as a share of the effective sample size, but at least 2 d + 4 of them."""


def smoothed(phi: Tensor, log_weights: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Draws from weighted particles, no two alike.

    Args:
        phi: Particles in unconstrained space, with shape (k, d).
        log_weights: Their log weights, with shape (k,).
        n: How many draws.
        generator: What draws.

    Returns:
        Draws with shape (n, d), float64. Where at most 2 d + 4 particles have weight, or they do not spread in every
        direction, particles themselves.
    """
    weights = log_weights.double().softmax(0)
    alive = weights > 0
    phi, weights = phi.double()[alive], weights[alive]
    (k, d), device = phi.shape, phi.device
    picked = torch.multinomial(weights, n, replacement=True, generator=generator)
    fewest = 2 * d + 4
    mean, root = _moments(phi, weights)
    if k <= fewest or root is None:
        return phi[picked]
    z = torch.linalg.solve_triangular(root, (phi - mean).T, upper=False).T
    count = min(k, max(fewest, round(SHARE * float(1 / weights.square().sum()))))
    width = min(1.0, (4 / ((d + 2) * count)) ** (2 / (d + 4)))
    centres, factors, spread = z.clone(), z.new_empty(k, d, d), z.new_zeros(d, d)
    floor = 1e-10 * torch.eye(d, dtype=z.dtype, device=device)
    for rows in torch.arange(k, device=device).split(max(1, PAIRS // k)):
        near = torch.cdist(z[rows], z).topk(count, dim=1, largest=False).indices
        around, share = z[near], weights[near] / weights[near].sum(1, keepdim=True)
        middle = (share[:, :, None] * around).sum(1)
        offset = (around - middle[:, None]) * share[:, :, None].sqrt()
        covariance = offset.transpose(1, 2) @ offset
        centres[rows] = middle + (1 - width) ** 0.5 * (z[rows] - middle)
        factors[rows] = torch.linalg.cholesky(covariance + floor) * width**0.5
        spread += width * (weights[rows, None, None] * covariance).sum(0)
    centre = weights @ centres
    offset = centres - centre
    whole = torch.linalg.cholesky(spread + (offset * weights[:, None]).T @ offset + floor)
    noise = torch.randn((n, d, 1), generator=generator, dtype=z.dtype, device=device)
    drawn = centres[picked] - centre + (factors[picked] @ noise)[:, :, 0]
    return mean + torch.linalg.solve_triangular(whole, drawn.T, upper=False).T @ root.T


def _moments(phi: Tensor, weights: Tensor) -> tuple[Tensor, Tensor | None]:
    """Mean and Cholesky factor of the covariance, None where it is singular."""
    mean = weights @ phi
    offset = phi - mean
    covariance = (offset * weights[:, None]).T @ offset
    root, failed = torch.linalg.cholesky_ex(covariance)
    # less than this is rounding: of other directions, or of the mean
    least = torch.maximum(1e-8 * covariance.diagonal().sqrt(), 1e-12 * (1 + mean.abs()))
    singular = bool(failed) or bool((root.diagonal() <= least).any())
    return mean, None if singular else root
