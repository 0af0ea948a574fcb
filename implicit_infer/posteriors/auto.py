r"""A default that chooses: learn the posterior or the likelihood, whichever is denser at held-out parameters.

1. A share of the budget is simulated from the prior. NLE and NPE both learn from it, one member each, and both are
   asked for the density of the parameters behind simulations that neither has seen,

   .. math:: \log q(u^* \mid x^*) \quad\text{against}\quad
       \log p(u^*) + \log q(x^* \mid u^*) - \log Z(x^*),

   in unconstrained space. The log score is proper: no density has a higher one on average than the posterior. NLE's
   constant Z is estimated by importance sampling from NPE's draws and the prior's. A single difference counts for no
   more than five nats, so that one far tail does not decide. NPE is taken where it is ahead by two standard errors.
2. The rest of the budget is spent where the posterior of the observation is, in the rounds of
   :mod:`implicit_infer.posteriors.sequential`, by the one that won. If simulations are given (``runs=``), all of them
   are learned from and there are no rounds: the posterior is then amortised.

``posterior.figures`` hold both scores and the choice.

References:
    | Strictly proper scoring rules, prediction, and estimation (Gneiting & Raftery, 2007), on the logarithmic score
    | https://doi.org/10.1198/016214506000001437
"""

from __future__ import annotations

import copy
import math
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
from implicit_simulators import Stream

ASIDE = 0.05
"""Share of the first simulations that decides, and that the two do not learn from before."""

MOST = 60
"""The most of them."""

SCORED = 1000
"""Points at which the likelihood of each is integrated: three quarters NPE's draws, the others the prior's."""

LARGEST = 5.0
"""Nats by which one simulation may speak for one of the two."""

SURE = 2.0
"""Standard errors by which NPE must be ahead: the rounds of a likelihood truncate nothing, so it is taken in doubt."""


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
        scores = log_scores(density, likelihood, theta, x, question.seed)
        differences = (scores[0] - scores[1]).clamp(-LARGEST, LARGEST)
        better, error = float(differences.mean()), float(differences.std(correction=0)) / math.sqrt(len(differences))
        chosen = "npe" if better > SURE * error else "nle"
        posterior: Posterior
        if chosen == "nle":
            posterior = go_on_with_likelihood(question, rounds, counts[1:], self.likelihood, likelihood, self.name)
        elif given:
            posterior = density
        else:
            posterior = go_on_with_density(question, rounds, counts[1:], self.density, density, self.name)
        means = {"npe": float(scores[0].mean()), "nle": float(scores[1].mean())}
        posterior.figures |= {"chosen": chosen, "scores": means, "advantage_of_npe": better, "standard_error": error}
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
def log_scores(
    density: NPEPosterior, likelihood: NLEPosterior, theta: Tensor, x: Tensor, seed: int
) -> tuple[Tensor, Tensor]:
    """Log densities of both posteriors at the parameters (B, d) behind simulations x that were not learned from.

    Args:
        density: The learned posterior.
        likelihood: The learned likelihood.
        theta: Parameters.
        x: Their simulations.
        seed: Seed of the integration points.

    Returns:
        Unconstrained log densities of the posterior and of the normalised likelihood times prior, each with shape (B,).
    """
    transform = density.coordinates.transform
    truth = transform.inv(theta)
    generator = Stream.of(seed, role="sample").torch()
    near = density.free_draws(3 * SCORED // 4, x, generator).transpose(0, 1)
    prior = density.simulator.sample_prior(SCORED // 4 * len(x), seed=generator)
    u = torch.cat((near, transform.inv(prior).unflatten(0, (len(x), -1)), truth[:, None]), 1)
    observables = likelihood.likelihood.observables
    raw = observables.rows(x).unflatten(0, (len(x), observables.points))
    joint = likelihood.log_prior(u) + likelihood.likelihood(u, raw)
    learned = density.free_log_prob(u, x)
    proposal = torch.logaddexp(learned + math.log(0.75), likelihood.log_prior(u) + math.log(0.25))
    ratio = torch.nan_to_num(joint - proposal, nan=-torch.inf, posinf=torch.inf)
    constant = ratio[:, :-1].logsumexp(1) - math.log(SCORED)
    return learned[:, -1], torch.nan_to_num(joint[:, -1] - constant, nan=-torch.inf)
