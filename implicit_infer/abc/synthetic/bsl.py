r"""Bayesian synthetic likelihood: chains on a likelihood of the summaries that simulations at each point give.

.. math:: \pi(\theta \mid s_o) \propto p(\theta)\, \mathbb{E}\left[\hat p_m(s_o \mid \theta)\right]

No tolerance and no distance: where summaries are normal given theta (sums and means of many data often are), m tens of
simulations at a point tell the likelihood, whatever the number of summaries, which rejection pays for dearly. Where
they are not, the answer is wrong however many simulations there are. The chains are those of
:mod:`implicit_infer.abc.pseudo_marginal`.

References:
    | Bayesian synthetic likelihood (Price, Drovandi, Lee & Nott, 2018)
    | https://doi.org/10.1080/10618600.2017.1302882
    | Statistical inference for noisy nonlinear ecological dynamic systems (Wood, 2010)
    | https://doi.org/10.1038/nature09319
    | Robust Bayesian synthetic likelihood via a semi-parametric approach (An, Nott & Drovandi, 2020)
    | https://arxiv.org/abs/1809.05800
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from implicit_infer.abc.chain_posterior import ChainPosterior
from implicit_infer.abc.distances import Distance
from implicit_infer.abc.pseudo_marginal import ChainSettings, NoisyChains
from implicit_infer.abc.replicates import Replicates
from implicit_infer.abc.synthetic.base import LikelihoodEstimate
from implicit_infer.abc.synthetic.normal import NormalEstimate, UnbiasedEstimate
from implicit_infer.abc.synthetic.semiparametric import SemiParametricEstimate
from implicit_infer.abc.synthetic.whitening import pilot
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.progress import Bar

MOST = 50
"""Replicates that a large budget is given by itself."""


@dataclass(frozen=True)
class BSL(Method):
    """Bayesian synthetic likelihood: summaries taken for normal, their moments simulated at every point.

    Args:
        replicates: Simulations at each point, m; None takes 20, or 4 for each summary if that is more, and with large
            budgets a thousandth of the budget, at most 50.
        estimate: The likelihood's estimate from them, with its shrinkage:
            :class:`implicit_infer.abc.synthetic.normal.NormalEstimate` and its neighbours.
        whiten: Whether summaries are first made uncorrelated at a likely parameter, which up to a fifth of the budget
            is spent on; for use with shrinkage.
        chains: How the budget is spent.

    Raises:
        ValueError: If ``replicates`` is below 3.
    """

    name: ClassVar[str] = "bsl"
    amortised: ClassVar[bool] = False

    replicates: int | None = None
    estimate: LikelihoodEstimate = field(default_factory=NormalEstimate)
    whiten: bool = False
    chains: ChainSettings = field(default_factory=ChainSettings)

    def __post_init__(self) -> None:
        if self.replicates is not None and self.replicates < 3:
            raise ValueError(f"replicates: expected an int of at least 3 or None; got {self.replicates}")

    def count(self, budget: int, summaries: int) -> int:
        """Simulations at each point for so many summaries, a multiple of the groups.

        Raises:
            ValueError: If there are fewer than the estimate needs.
        """
        least = self.estimate.least(summaries)
        m = self.replicates or max(20, 4 * summaries, least, min(MOST, budget // 1000))
        if m < least:
            raise ValueError(f"replicates: expected at least {least} for {summaries} summaries; got {m}")
        return -(-m // self.chains.groups) * self.chains.groups

    def infer(self, question: Question) -> ChainPosterior:
        """Run the chains at ``question.observed`` and spend at most ``question.budget`` simulations.

        Simulations that were made before are of no use here: each is at a parameter of its own.

        Raises:
            ValueError: If the budget is too small for the chains, the observation's summaries are not finite, or no
                point of the prior gives them any likelihood.
            TypeError: If the prior has no density on a continuous support.
        """
        return ChainPosterior(self, question)

    def chains_at(self, question: Question, bar: Bar) -> NoisyChains:
        """One run of the chains; what :class:`implicit_infer.abc.chain_posterior.ChainPosterior` asks for."""
        summarised = Distance()
        observed = summarised.features(question.simulator, question.observed[None])[0].double()
        if not torch.isfinite(observed).all():
            raise ValueError("observed: its summary statistics are not finite")

        def view(x: Tensor) -> Tensor:
            return summarised.features(question.simulator, x)[:, None].double()

        m = self.count(question.budget, len(observed))
        replicates = Replicates(question, view, m, self.chains.groups)
        turned = pilot(replicates, observed) if self.whiten else None

        def estimate(summaries: Tensor) -> Tensor:
            if turned is None:
                return self.estimate(summaries, observed)
            return self.estimate(summaries @ turned.T, turned @ observed)

        return NoisyChains(self.chains, question, replicates, estimate, bar)


@dataclass(frozen=True)
class UnbiasedBSL(BSL):
    """Bayesian synthetic likelihood by the unbiased estimate of a normal density: the same target for any m.

    It takes no shrinkage, and needs four more replicates than there are summaries.
    """

    name: ClassVar[str] = "unbiased-bsl"

    estimate: LikelihoodEstimate = field(default_factory=UnbiasedEstimate)


@dataclass(frozen=True)
class SemiBSL(BSL):
    """Semi-parametric synthetic likelihood: a kernel density of each summary, and a Gaussian copula.

    For summaries that are not normal one by one. A kernel density needs more simulations than two moments do: 50 where
    ``replicates`` is None and the budget pays less.
    """

    name: ClassVar[str] = "semi-bsl"

    estimate: LikelihoodEstimate = field(default_factory=SemiParametricEstimate)

    def count(self, budget: int, summaries: int) -> int:
        """As for BSL, but at least 50 unless given."""
        m = super().count(budget, summaries)
        return m if self.replicates is not None else max(m, -(-50 // self.chains.groups) * self.chains.groups)
