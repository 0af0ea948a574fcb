r"""Generalised Bayes: a posterior that a scoring rule of the simulations defines, in place of the likelihood.

.. math:: \pi_w(\theta \mid y) \propto p(\theta) \exp\left(-w\, S(P_\theta, y)\right)

It needs no normality and no tolerance, and with a bounded score no outlier decides it. It is not the Bayesian
posterior: where it concentrates is right, how fast is set by w. The weight is chosen so that the step from one
parameter to another weighs as much as in a reference posterior, here that of a synthetic likelihood:

.. math:: w = \operatorname{median}_{\theta, \theta' \sim p} \frac{\log \hat p_N(y \mid \theta)
    - \log \hat p_N(y \mid \theta')}{S(P_{\theta'}, y) - S(P_\theta, y)}

Where the simulator says that x consists of independent points (``Simulator.points``), y is those points, each of them
is scored, and every point of every simulation is a draw of :math:`P_\theta`; else y is the vector of summaries. Each
column is divided by its robust scale over simulations from the prior.

The score is estimated from m simulations at each state of the chains of :mod:`implicit_infer.abc.pseudo_marginal`,
whose target is :math:`p(\theta)\, \mathbb{E} \exp(-w \hat S)`: wider than the formula for few simulations, and with it
in the limit.

References:
    | Generalized Bayesian likelihood-free inference (Pacchiardi, Khoo & Dutta, 2024)
    | https://arxiv.org/abs/2104.03889
    | A general framework for updating belief distributions (Bissiri, Holmes & Walker, 2016)
    | https://doi.org/10.1111/rssb.12158
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from implicit_infer.abc.chain_posterior import ChainPosterior
from implicit_infer.abc.distances import Distance, inverse, robust_scale
from implicit_infer.abc.pseudo_marginal import ChainSettings, NoisyChains
from implicit_infer.abc.replicates import Replicates
from implicit_infer.abc.scoring_rules import EnergyScore, ScoringRule
from implicit_infer.abc.synthetic.covariance import Optimal, standardised
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.progress import Bar

PILOT = 0.1
"""Share of the budget for the pilot that scales, bandwidth and weight are taken from."""

PILOTS = (10, 200)
"""The fewest and the most parameters of the pilot."""


@dataclass(frozen=True)
class ScoringRuleBayes(Method):
    """Generalised Bayes with a scoring rule, by chains on its estimate.

    Args:
        rule: The score: :class:`implicit_infer.abc.scoring_rules.EnergyScore` or ``KernelScore``.
        weight: w; None chooses it from a pilot.
        replicates: Simulations at each state, m; None takes a five-hundredth of the budget, at least 20 and at most
            100.
        points: Whether the independent points that x consists of, if it does, are scored one by one.
        chains: How the budget is spent.

    Raises:
        ValueError: If ``weight`` is not positive or ``replicates`` is below 2.
    """

    name: ClassVar[str] = "scoring-rule"
    amortised: ClassVar[bool] = False

    rule: ScoringRule = field(default_factory=EnergyScore)
    weight: float | None = None
    replicates: int | None = None
    points: bool = True
    chains: ChainSettings = field(default_factory=ChainSettings)

    def __post_init__(self) -> None:
        if self.weight is not None and not self.weight > 0:
            raise ValueError(f"weight: expected a positive number or None; got {self.weight}")
        if self.replicates is not None and self.replicates < 2:
            raise ValueError(f"replicates: expected an int of at least 2 or None; got {self.replicates}")

    def infer(self, question: Question) -> ChainPosterior:
        """Run the chains at ``question.observed`` and spend at most ``question.budget`` simulations.

        Simulations that were made before are of no use here: each is at a parameter of its own.

        Raises:
            ValueError: If the budget is too small for the chains, the observation is not finite where it is scored, or
                no weight can be told from the pilot.
            TypeError: If the prior has no density on a continuous support.
        """
        return ChainPosterior(self, question)

    def chains_at(self, question: Question, bar: Bar) -> NoisyChains:
        """One run of the chains; what :class:`implicit_infer.abc.chain_posterior.ChainPosterior` asks for."""
        simulator, summarised = question.simulator, Distance()
        points = simulator.points if self.points else 1

        def view(x: Tensor) -> Tensor:
            if points > 1:
                return x.reshape(len(x), points, -1).double()
            return summarised.features(simulator, x)[:, None].double()

        observed = view(question.observed[None])[0]
        if not torch.isfinite(observed).all():
            raise ValueError("observed: its summary statistics are not finite")
        m = self.replicates or max(20, min(100, question.budget // 500))
        m = -(-m // self.chains.groups) * self.chains.groups
        replicates = Replicates(question, view, m, self.chains.groups)
        least, most = PILOTS
        number = max(least, min(most, int(PILOT * question.budget) // m))
        if number * m > question.budget // 2:
            raise ValueError(f"budget: expected at least {2 * number * m} for {m} replicates; got {question.budget}")
        made = replicates.at(simulator.sample_prior(number, question.seed, 2))
        factor = inverse(robust_scale(_finite(made)))
        observed, made = observed * factor, made * factor
        rule = self.rule.fitted(made)
        weight = self.weight if self.weight is not None else matching_weight(rule, made, observed)

        def estimate(draws: Tensor) -> Tensor:
            share = torch.isfinite(draws).all(2).double().mean(1)
            # failed simulations cannot be the observation: the probability of none is a factor, as in a likelihood
            return (share.log() - weight * rule(draws * factor, observed)).nan_to_num(nan=-torch.inf, neginf=-torch.inf)

        chains = NoisyChains(self.chains, question, replicates, estimate, bar)
        chains.figures["weight"] = weight
        return chains


def matching_weight(rule: ScoringRule, draws: Tensor, observed: Tensor) -> float:
    """The weight at which differences of scores are worth those of a normal log-likelihood, in the median.

    Args:
        rule: The score.
        draws: Of P parameters of the prior, with shape (P, r, k).
        observed: Points with shape (p, k).

    Raises:
        ValueError: If the median is not a positive number: the two do not agree on which parameters are better.
    """
    score, reference = rule(draws, observed), _normal(draws, observed)
    fine = torch.isfinite(score) & torch.isfinite(reference)
    score, reference = score[fine], reference[fine]
    above = torch.triu_indices(len(score), len(score), 1)
    ratio = (reference[above[0]] - reference[above[1]]) / (score[above[1]] - score[above[0]])
    ratio = ratio[torch.isfinite(ratio)]
    weight = float(ratio.median()) if len(ratio) else 0.0
    if not weight > 0:
        raise ValueError(
            f"weight: the pilot's scores and normal log-likelihoods disagree (median ratio {weight:.3g}): give a weight"
        )
    return weight


def _normal(draws: Tensor, observed: Tensor) -> Tensor:
    """The normal log-likelihood of all points (p, k), up to a constant, by the moments of each set of draws; (P,)."""
    z, valid, mean, scale = standardised(draws)
    factor, failed = torch.linalg.cholesky_ex(Optimal()(z, valid))
    away = ((observed.double() - mean[:, None]) / scale[:, None]).mT
    square = torch.linalg.solve_triangular(factor, away, upper=False).square().sum((1, 2))
    log_det = factor.diagonal(dim1=1, dim2=2).log().sum(1) + scale.log().sum(1)
    few = valid.sum(1) < 3
    return torch.where((failed != 0) | few, torch.nan, -0.5 * square - len(observed) * log_det)


def _finite(draws: Tensor) -> Tensor:
    rows = draws.flatten(0, 1)
    rows = rows[torch.isfinite(rows).all(1)]
    if not len(rows):
        raise ValueError(f"simulator: none of {draws.shape[0] * draws.shape[1]} simulations from the prior is finite")
    return rows
