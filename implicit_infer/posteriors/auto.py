r"""A default that chooses: learn the posterior or the likelihood, whichever predicts held-out parameters better.

1. A share of the budget is simulated from the prior. NLE and NPE both learn from it, and both draw from the posterior
   of simulations that neither has seen. The draws are scored by how near they come to the parameters that made the
   simulation (the energy score, which is proper: no law scores better on average than the posterior),

   .. math:: S = \mathbb{E} \|L^{-1} (u - u^*)\| - \tfrac12 \mathbb{E} \|L^{-1} (u - u')\|,

   in unconstrained space, where :math:`L L^\top` is the covariance of NPE's draws at the same x, so that every
   observation counts alike, however narrow its posterior.
2. The rest of the budget is spent where the posterior of the observation is, in the rounds of
   :mod:`implicit_infer.posteriors.sequential`, by the one that won. If simulations are given (``runs=``), all of them
   are learned from and there are no rounds: the posterior is then amortised.

``posterior.figures`` hold both scores and the choice.

References:
    | Strictly proper scoring rules, prediction, and estimation (Gneiting & Raftery, 2007), on the energy score
    | https://doi.org/10.1198/016214506000001437
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor

from implicit_infer.posteriors.base import Posterior
from implicit_infer.posteriors.density.fitting import DensitySettings
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.posteriors.nle import NLE, NLEPosterior
from implicit_infer.posteriors.npe import NPE, NPEPosterior
from implicit_infer.posteriors.sequential import (
    Rounds,
    go_on_with_density,
    go_on_with_likelihood,
    learn_likelihood,
    prior_runs,
    shares,
)

ASIDE = 0.05
"""Share of the first simulations that decides, and that the two do not learn from before."""

MOST = 60
"""The most of them."""

SCORED = 200
"""Draws of each posterior that a score is taken of."""


@dataclass(frozen=True)
class Auto(Method):
    """Choose between posterior and likelihood by held-out score, then simulate where the posterior is.

    Args:
        density: How a posterior density is learned.
        likelihood: How a likelihood is learned.
        rounds: Shares of the budget: of the prior, and of each round after.
    """

    density: NPE = field(default_factory=lambda: NPE(DensitySettings()))
    likelihood: NLE = field(default_factory=NLE)
    rounds: tuple[float, ...] = (0.4, 0.2, 0.2, 0.2)

    name = "auto"
    amortised = False

    def infer(self, question: Question) -> Posterior:
        """Spend ``question.budget`` simulations, or learn from those that are given."""
        given = question.bank is not None
        counts = [question.budget] if given else shares(question.budget, self.rounds)
        rounds = Rounds(question, prior_runs(question, counts[0]))
        aside = min(MOST, max(1, round(ASIDE * len(rounds.theta))))
        theta, x = rounds.theta[:aside], rounds.x[:aside]
        both = copy.copy(rounds)
        both.theta, both.x = rounds.theta[aside:], rounds.x[aside:]
        likelihood = learn_likelihood(question, both, self.likelihood, None, self.name)
        density = self._density(question, both)
        scores = dict(zip(("npe", "nle"), energy_scores(density, likelihood, theta, x, question.seed), strict=True))
        chosen = min(scores, key=lambda name: scores[name])
        posterior: Posterior
        if chosen == "nle":
            posterior = go_on_with_likelihood(question, rounds, counts[1:], self.likelihood, likelihood, self.name)
        elif given:
            posterior = density
        else:
            posterior = go_on_with_density(question, rounds, counts[1:], self.density, density, self.name)
        posterior.figures |= {"chosen": chosen, "scores": scores}
        return posterior

    def _density(self, question: Question, rounds: Rounds) -> NPEPosterior:
        ensemble, view, figures = self.density.learn(
            question.simulator,
            rounds.theta,
            rounds.x,
            seed=question.seed,
            device=question.device,
            progress=question.progress,
        )
        return NPEPosterior(
            question.simulator,
            question.observed,
            coordinates=view,
            ensemble=ensemble,
            method=self.name,
            simulations=rounds.spent,
            figures={"failed_simulations": rounds.failed, **figures},
        )


@torch.no_grad()
def energy_scores(
    density: NPEPosterior, likelihood: NLEPosterior, theta: Tensor, x: Tensor, seed: int
) -> tuple[float, float]:
    """Mean energy scores of both posteriors at simulations that were not learned from: less is better."""
    transform = density.coordinates.transform
    truth = transform.inv(theta)
    posteriors: tuple[Posterior, Posterior] = (density, likelihood)
    draws = [transform.inv(one.sample_batched((SCORED,), x, seed=seed)).transpose(0, 1) for one in posteriors]
    centred = draws[0] - draws[0].mean(1, keepdim=True)
    covariance = centred.mT @ centred / SCORED
    floor = 1e-6 * covariance.diagonal(dim1=1, dim2=2).clamp_min(1e-12)
    root = torch.linalg.cholesky(covariance + torch.diag_embed(floor))
    scores = [_energy(torch.linalg.solve_triangular(root, (u - truth[:, None]).mT, upper=False).mT) for u in draws]
    return float(scores[0].mean()), float(scores[1].mean())


def _energy(errors: Tensor) -> Tensor:
    """The score of each of B sets of draws, given as errors with shape (B, n, d)."""
    n = errors.shape[1]
    spread = torch.cdist(errors, errors).sum((1, 2)) / (n * (n - 1))
    return errors.norm(dim=2).mean(1) - 0.5 * spread
