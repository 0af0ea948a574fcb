r"""Metropolis moves of many particles at once that leave the ABC posterior at a tolerance as it is.

.. math:: \phi' \sim N(\phi, \Sigma), \quad x' \sim p(x \mid \phi'), \qquad
    P(\text{accept}) = \min\left(1, \frac{p(\phi')}{p(\phi)}\right) 1\{d(x', x_o) \le \epsilon\}

The coin for the prior's ratio is thrown first: where it fails, nothing need be simulated.

References:
    | Markov chain Monte Carlo without likelihoods (Marjoram, Molitor, Plagnol & Tavaré, 2003)
    | https://doi.org/10.1073/pnas.0306899100
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_infer.abc.kernels import cholesky
from implicit_infer.abc.population import Population
from implicit_infer.abc.run import Run
from implicit_simulators import Stream

WIDTH = 2.38
"""Of the steps, in the target's standard deviations, over the square root of the dimension (Gelman et al., 1996)."""


@dataclass(frozen=True)
class Walkers:
    """Particles that move, one for each chain.

    Attributes:
        phi: Where they are, with shape (k, p).
        log_prior: Their log prior density, with shape (k,).
        distances: Of their simulations, with shape (k,).
        features: Of their simulations, with shape (k, f).
    """

    phi: Tensor
    log_prior: Tensor
    distances: Tensor
    features: Tensor

    def population(self) -> Population:
        """The walkers as particles of equal weight."""
        equal = torch.full_like(self.log_prior, -math.log(len(self.log_prior)))
        return Population(self.phi, equal, self.distances, self.features)


def walkers_of(run: Run, population: Population) -> Walkers:
    """Particles whose weights are equal, ready to move."""
    return Walkers(population.phi, run.prior.log_prob(population.phi), population.distances, population.features)


def walk_factor(population: Population) -> Tensor | None:
    r"""Cholesky factor of :math:`2.38^2 / p` times the covariance of particles, or None if they are one point."""
    _, covariance = population.covariance()
    if not (covariance.diagonal() > 0).any():
        return None
    return cholesky(WIDTH**2 / len(covariance) * covariance, covariance.diagonal())


def step(run: Run, at: Walkers, factor: Tensor, tolerance: float, stream: Stream) -> tuple[Walkers, Tensor]:
    """Move every walker once; no more are simulated than the budget allows, and the others stay where they are.

    Args:
        run: Whose simulations, prior and distance they are.
        at: The walkers.
        factor: Cholesky factor of the steps' covariance, with shape (p, p).
        tolerance: Largest distance that is accepted.
        stream: Random numbers of this step.

    Returns:
        The walkers, and which of them have moved, with shape (k,).
    """
    generator = stream.torch()
    k, p = at.phi.shape
    noise = torch.randn((k, p), generator=generator, dtype=torch.float64).to(at.phi)
    coin = torch.rand(k, generator=generator, dtype=torch.float64).to(at.phi).log()
    proposed = at.phi + noise @ factor.T
    log_prior = run.prior.log_prob(proposed)
    tried = (coin < log_prior - at.log_prior).nonzero()[:, 0][: run.simulations.left]
    moved = torch.zeros(k, dtype=torch.bool, device=at.phi.device)
    if not len(tried):
        return at, moved
    rows, x = run.simulations.at(run.prior.back(proposed[tried]))
    tried = tried[rows]
    features = run.settings.distance.features(run.simulator, x)
    distances = run.measure(features, run.observed)
    run.simulations.count(features, distances)
    near = distances <= tolerance
    moved[tried[near]] = True
    phi, prior, far, kept = at.phi.clone(), at.log_prior.clone(), at.distances.clone(), at.features.clone()
    phi[moved], prior[moved], far[moved], kept[moved] = (
        proposed[moved],
        log_prior[moved],
        distances[near],
        features[near],
    )
    return Walkers(phi, prior, far, kept), moved
