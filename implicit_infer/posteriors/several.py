r"""One theta and several independent observations: potentials that were learned of one observation add up.

.. math:: \log p(\theta \mid x_1, \ldots, x_m) = \log p(\theta) + \sum_{i=1}^m \left[ \log p(\theta \mid x_i)
    - \log p(\theta) \right] + \text{const}

Each bracket is a log-likelihood, or a log-ratio, up to what does not depend on theta; so any amortised posterior that
has a potential answers any number of observations, with nothing learned anew. Its errors add up as well: m times that
of one observation, while the posterior narrows. For many observations a posterior of
:class:`implicit_simulators.adapters.repeated.Repeated` with a set embedding is the surer way, at m simulations a row.

References:
    | Likelihood-free MCMC with amortized approximate ratio estimators (Hermans et al., 2020)
    | https://arxiv.org/abs/1903.04057
    | Compositional score modeling for simulation-based inference (Geffner, Papamakarios & Mnih, 2023), on how errors
      add up
    | https://arxiv.org/abs/2209.14249
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from implicit_infer.posteriors.base import Posterior
from implicit_infer.posteriors.mcmc import EnsembleSampler
from implicit_simulators import Repeated, Stream, unconstrained

CANDIDATES = 2000
"""Draws of the prior, and as many of the posteriors of single observations, that walkers may start from."""


def several_observations(
    posterior: Posterior, observed: Any, sampler: EnsembleSampler | None = None
) -> SeveralPosterior:
    r"""The posterior given several observations of one theta, from one that was learned of single observations.

    Args:
        posterior: A posterior that answers any observation and has a potential: "nre", "nle", "npe", ...
        observed: The observations, with shape (m, \*event_shape).
        sampler: How it is sampled; the default ensemble sampler if None.

    Returns:
        A posterior whose simulator is ``Repeated(posterior.simulator, m)``. No further simulation is spent.

    Raises:
        ValueError: If the observations have another shape or are not finite.
        NotImplementedError: If ``posterior`` has no potential.

    Example:
        >>> import implicit_infer as ii
        >>> posterior = ii.infer(simulator, observations[0], method="nre")     # doctest: +SKIP
        >>> ii.posteriors.several_observations(posterior, observations).sample((1000,))   # doctest: +SKIP
    """
    count = len(observed) if hasattr(observed, "__len__") else 1
    repeated = Repeated(posterior.simulator, max(1, count))
    observed = repeated.check_observation(observed)
    posterior.potential(posterior.simulator.sample_prior(1, seed=0), observed[0])
    return SeveralPosterior(
        repeated,
        observed,
        single=posterior,
        sampler=EnsembleSampler() if sampler is None else sampler,
        method=f"{posterior.method}, {count} observations",
        simulations=posterior.simulations,
        warnings=list(posterior.warnings),
    )


class SeveralPosterior(Posterior):
    """The prior times as many ratios as there are observations, sampled by MCMC in unconstrained space."""

    def __init__(self, *args: Any, single: Posterior, sampler: EnsembleSampler, **about: Any) -> None:
        super().__init__(*args, **about)
        self.single, self.sampler = single, sampler

    def _potential(self, theta: Tensor, x: Tensor) -> Tensor:
        prior = self.single.simulator.prior
        support: Any = prior.support
        inside = support.check(theta)
        legal = torch.where(inside[:, None], theta, prior.mean)
        log_prior = prior.log_prob(legal)
        told = sum(self.single.potential(legal, one) - log_prior for one in x)
        return torch.where(inside, log_prior + told, -torch.inf)

    def _sample(self, n: int, x: Tensor, stream: Stream, progress: bool) -> Tensor:
        transform = unconstrained(self.single.simulator.prior)
        generator = stream.torch()

        def density(u: Tensor) -> Tensor:
            rows = u.flatten(0, 1)
            theta = transform(rows)
            logs = [self._potential(part, one) for part, one in zip(theta.view(*u.shape), x, strict=True)]
            return torch.stack(logs) + transform.log_abs_det_jacobian(rows, theta).view(u.shape[:2])

        start = torch.stack([self._start(one, generator) for one in x])
        u, self.figures["mcmc_acceptance"] = self.sampler.sample(density, start, n, generator, progress)
        return transform(u)

    def _start(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Walkers (W, d) that are resampled, in steps, from draws of the prior and of single posteriors."""
        simulator, transform = self.single.simulator, unconstrained(self.single.simulator.prior)
        chosen = x[torch.randperm(len(x), generator=generator)[:10]]
        each = -(-CANDIDATES // len(chosen))
        drawn = self.single.sample_batched((each,), chosen, seed=generator).flatten(0, 1)
        theta = torch.cat((simulator.sample_prior(CANDIDATES, seed=generator), drawn))
        u = transform.inv(theta)
        potential = self._potential(theta, x) + transform.log_abs_det_jacobian(u, theta)
        # tempered until the walkers can start from enough candidates; the chain forgets the start
        log_weight = torch.nan_to_num(potential, nan=-torch.inf).log_softmax(0)
        for _ in range(30):
            weight = log_weight.softmax(0)
            if 1 / weight.square().sum() >= self.sampler.walkers / 4:
                break
            log_weight = log_weight / 1.5
        walkers = torch.multinomial(weight, self.sampler.walkers, replacement=True, generator=generator)
        return u[walkers] + 0.05 * u[walkers].std(0) * torch.randn(u[walkers].shape, generator=generator)
