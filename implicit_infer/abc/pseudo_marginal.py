r"""Markov chains on a likelihood that simulations estimate anew at every point, within an exact budget.

A chain that keeps the estimate of its state, and compares it with a fresh one of the proposal, targets

.. math:: \pi(\phi) \propto p(\phi)\, \mathbb{E}\left[\hat L(\phi)\right]

whatever the noise of :math:`\hat L` (Andrieu & Roberts, 2009). Noise costs mixing alone: a state whose estimate came
out too high is left late. All chains move at once, so that every step is one batch of simulations.
The budget is spent so:

1. *prior*: points of the prior, one estimate each; chains start where they are likely, tempered;
2. *annealing*: :math:`p(\phi) \hat L(\phi)^\beta` with :math:`\beta` raised so that each rise keeps half of the
   effective sample size; chains are resampled by the rise and move by the covariance of all of them (a sequential Monte
   Carlo sampler), so that modes keep their shares;
3. *sampling*: at :math:`\beta = 1` and with the moves fixed from then on, every state is kept.

Half of the moves are a normal random walk, half are independent draws of a multivariate t law with the mean and
covariance of all chains, which mix at once where the posterior is like it. Of each move both ends are kept, the
proposal with its probability of being accepted as weight and the state with the rest (waste recycling): no estimate,
each of which took m simulations, is without use.

With ``groups``, the simulations of a state are split by their random numbers, of which a proposal renews one group
only. The noise of the two estimates is then shared for the most part and cancels in their ratio (the block form of the
correlated pseudo-marginal method), as far as the simulator is smooth in theta for fixed random numbers.

References:
    | The pseudo-marginal approach for efficient Monte Carlo computations (Andrieu & Roberts, 2009)
    | https://doi.org/10.1214/07-AOS574
    | The block pseudo-marginal sampler (Tran, Kohn, Quiroz & Villani, 2016)
    | https://arxiv.org/abs/1603.02485
    | Sequential Monte Carlo samplers (Del Moral, Doucet & Jasra, 2006)
    | https://doi.org/10.1111/j.1467-9868.2006.00553.x
    | Does waste recycling really improve the multi-proposal Metropolis-Hastings algorithm? (Delmas & Jourdain, 2009)
    | https://arxiv.org/abs/math/0611949
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_infer.abc.particles import Particles
from implicit_infer.abc.replicates import Replicates
from implicit_infer.abc.space import UnconstrainedPrior
from implicit_infer.posteriors.method import Question
from implicit_infer.progress import Bar
from implicit_simulators import Stream

Estimate = Callable[[Tensor], Tensor]
"""From simulations (n, r, k) of n points to log-likelihood estimates (n,), finite or minus infinity."""

LEAST = 8
"""Estimates for each chain, below which there is nothing to sample with."""

REPEATS = 10
"""Estimates at one point that tell the noise."""

NOISY = 3.0
"""Standard deviation of log-likelihood estimates above which chains stick (optimal is 1 to 2)."""

TARGET = 0.25
"""Acceptance that the walk's length is tuned to while annealing."""

DISAGREE = 1.2
"""Split R-hat that is said: chains are many and short, for which it scatters by a tenth."""

FREEDOM = 5.0
"""Degrees of freedom of the t law that half of the moves are drawn from."""

SETTLING = 4
"""Steps at full temperature before the moves are fixed."""


@dataclass(frozen=True)
class ChainSettings:
    """How the chains spend the budget.

    Args:
        chains: Chains that move together; None takes one for 40 estimates that the budget pays, at least 10 and twice
            the number of parameters and one, at most 1,000.
        start: Share of the budget for points of the prior.
        anneal: Share of the budget at which annealing ends at the latest; what is left of it goes to sampling.
        groups: Groups of random numbers, of which a proposal renews one; 1 renews all.

    Raises:
        ValueError: If a number is out of its range.
    """

    chains: int | None = None
    start: float = 0.15
    anneal: float = 0.5
    groups: int = 1

    def __post_init__(self) -> None:
        if self.chains is not None and self.chains < 2:
            raise ValueError(f"chains: expected an int of at least 2 or None; got {self.chains}")
        if not 0 < self.start < self.anneal < 1:
            raise ValueError(f"start, anneal: expected 0 < start < anneal < 1; got {self.start}, {self.anneal}")
        if self.groups < 1:
            raise ValueError(f"groups: expected a positive int; got {self.groups}")

    def number(self, estimates: int, dim: int) -> int:
        """Chains for so many estimates in all."""
        return self.chains or max(10, 2 * (dim + 1), min(1000, estimates // 40))


@dataclass(frozen=True)
class State:
    """Where the chains are.

    Attributes:
        phi: Points in unconstrained space, with shape (C, p).
        log_prior: Their log prior density, with shape (C,).
        value: The log-likelihood estimates they were accepted with, with shape (C,).
        numbers: Their blocks of random numbers, with shape (C, groups).
    """

    phi: Tensor
    log_prior: Tensor
    value: Tensor
    numbers: Tensor

    def take(self, rows: Tensor) -> State:
        """The states at an index."""
        return State(self.phi[rows], self.log_prior[rows], self.value[rows], self.numbers[rows])

    def where(self, take: Tensor, other: State) -> State:
        """The other's states where ``take`` (C,), and else these."""
        many = take[:, None]
        return State(
            torch.where(many, other.phi, self.phi),
            torch.where(take, other.log_prior, self.log_prior),
            torch.where(take, other.value, self.value),
            torch.where(many, other.numbers, self.numbers),
        )


@dataclass(frozen=True)
class Move:
    """A step of all chains.

    Attributes:
        before: Where they were, with shape (C, p).
        proposal: Where they might have gone, with shape (C, p).
        chance: The probability of going there, with shape (C,).
        take: Which went, with shape (C,).
        drawn: Which proposals were independent of where the chain was, with shape (C,).
    """

    before: Tensor
    proposal: Tensor
    chance: Tensor
    take: Tensor
    drawn: Tensor


class NoisyChains:
    """One run.

    Args:
        settings: How the budget is spent.
        question: What is asked.
        replicates: Simulates; what it has spent already counts.
        estimate: The log-likelihood's estimate.
        bar: Is told of progress.

    Raises:
        ValueError: If the budget is too small for the chains, or no point of the prior has a likelihood.
    """

    def __init__(
        self, settings: ChainSettings, question: Question, replicates: Replicates, estimate: Estimate, bar: Bar
    ) -> None:
        self.settings, self.replicates, self.estimate, self.bar = settings, replicates, estimate, bar
        self.question = question
        self.prior = UnconstrainedPrior(question.simulator)
        self.random = Stream.of(question.seed, 2, "sample").torch()
        self.total = replicates.affordable
        self.chains = settings.number(self.total, question.simulator.dim)
        if self.total < LEAST * self.chains:
            raise ValueError(
                f"budget: expected at least {question.budget + (LEAST * self.chains - self.total) * replicates.count} "
                f"simulations for {self.chains} chains with {replicates.count} replicates at each point; "
                f"got {question.budget}"
            )
        self.beta, self.log_scale, self.temperatures = 0.0, 0.0, 0
        self.cut = False
        self.centre = self.factor = torch.zeros(0)
        self.state = self._start()
        self._anneal()
        self.noise = self._noise()
        self.particles, self.figures = self._sample()

    def _left(self) -> int:
        return self.replicates.affordable

    def _evaluate(self, phi: Tensor, log_prior: Tensor, numbers: Tensor) -> State:
        """Estimates at phi; without simulations where the prior has no density."""
        value = torch.full_like(log_prior, -torch.inf)
        inside = torch.isfinite(log_prior)
        if inside.any():
            made = self.replicates.at(self.prior.back(phi[inside]), numbers[inside])
            value[inside] = self.estimate(made).to(value)
        self.bar.update(self.replicates.spent - self.bar.done)
        return State(phi, log_prior, value, numbers)

    def _start(self) -> State:
        n = max(self.chains, round(self.settings.start * self.total))
        phi = self.prior.to(self.question.simulator.sample_prior(n, self.question.seed, 1))
        first = self._evaluate(phi, self.prior.log_prob(phi), self.replicates.fresh(n, self.settings.groups))
        if not torch.isfinite(first.value).any():
            raise ValueError(f"observed: none of {n} points of the prior gives the observation any likelihood")
        self.beta = _rise(first.value, 1.0, self.chains)
        return first.take(self._resampled(self.beta * first.value, self.chains))

    def _anneal(self) -> None:
        end = self.total - round(self.settings.anneal * self.total)
        settled: list[Tensor] = []
        while len(settled) < SETTLING:
            self.temperatures += 1
            if self._left() <= end + SETTLING * self.chains and self.beta < 1:
                # no simulations left to go on slowly
                weight = ((1 - self.beta) * self.state.value).softmax(0)
                self.cut = float(1 / weight.square().sum()) < 0.1 * self.chains
                rise = 1 - self.beta
            else:
                rise = min(1 - self.beta, _rise(self.state.value, 1 - self.beta, self.chains / 2))
            self.beta = 1.0 if rise >= 1 - self.beta else self.beta + rise
            if rise > 0:
                self.state = self.state.take(self._resampled(rise * self.state.value, self.chains))
            for _ in range(2 if self.beta < 1 else 1):
                self._adapt(self.state.phi)
                move = self._step()
                walked = move.take[~move.drawn].double()
                self.log_scale += 0.7 * (float(walked.mean()) - TARGET) if len(walked) else 0.0
            if self.beta == 1:
                settled.append(self.state.phi)
        self._adapt(torch.cat(settled))

    def _adapt(self, phi: Tensor) -> None:
        """Mean and covariance of the moves from where the chains are; kept where they have too few places."""
        spread = torch.atleast_2d(phi.T.cov())
        least = 1e-10 * (1 + phi.abs().mean(0)).square()
        if len(self.factor) and len(phi.unique(dim=0)) < 2 * (phi.shape[1] + 1):
            return
        self.centre = phi.mean(0)
        factor, failed = torch.linalg.cholesky_ex(spread + least.diag() + 1e-6 * spread.diagonal().diag())
        self.factor = spread.diagonal().add(least).sqrt().diag() if bool(failed) else factor

    def _step(self) -> Move:
        """Move every chain once."""
        c, p = self.state.phi.shape
        length = 2.38 / math.sqrt(p) * math.exp(self.log_scale)
        noise = torch.randn((c, p), generator=self.random, dtype=torch.float64) @ self.factor.T
        chance = torch.rand((2, c), generator=self.random, dtype=torch.float64)
        # a fifth of the walks is short: chains at the edge of a bent posterior find their way back
        walk = self.state.phi + torch.where(chance[0] < 0.1, 0.1 * length, length)[:, None] * noise
        normals = torch.randn((c, int(FREEDOM)), generator=self.random, dtype=torch.float64)
        draw = self.centre + noise / normals.square().mean(1, keepdim=True).sqrt()
        drawn = chance[0] > 0.5
        phi = torch.where(drawn[:, None], draw, walk)
        numbers = self.state.numbers.clone()
        group = torch.randint(self.settings.groups, (c,), generator=self.random)
        numbers[torch.arange(c), group] = self.replicates.fresh(c)
        before, proposal = self.state, self._evaluate(phi, self.prior.log_prob(phi), numbers)
        log_ratio = proposal.log_prior - before.log_prior + self.beta * (proposal.value - before.value)
        log_ratio = log_ratio + torch.where(drawn, self._log_t(before.phi) - self._log_t(phi), 0.0)
        # minus infinity less minus infinity, where neither has a likelihood, is no number: refused
        chance_of = log_ratio.nan_to_num(nan=-torch.inf, posinf=0.0).clamp_max(0.0).exp()
        take = chance[1] < chance_of
        self.state = before.where(take, proposal)
        return Move(before.phi, phi, chance_of, take, drawn)

    def _log_t(self, phi: Tensor) -> Tensor:
        white = torch.linalg.solve_triangular(self.factor, (phi - self.centre).T, upper=False)
        return -0.5 * (FREEDOM + len(white)) * (white.square().sum(0) / FREEDOM).log1p()

    def _noise(self) -> float | None:
        """Standard deviation of estimates at the chains' mean, where the budget allows for it."""
        if self._left() < REPEATS + 5 * self.chains:
            return None
        mean = self.state.phi.mean(0).expand(REPEATS, -1)
        at = self._evaluate(mean, self.prior.log_prob(mean), self.replicates.fresh(REPEATS, self.settings.groups))
        return float(at.value.std()) if torch.isfinite(at.value).all() else math.inf

    def _sample(self) -> tuple[Particles, dict[str, Any]]:
        """Keep every state until the budget is spent."""
        steps = self._left() // self.chains
        points, weights, trace, accepted = [], [], [], 0
        for _ in range(steps):
            move = self._step()
            points += [move.before, move.proposal]
            weights += [1 - move.chance, move.chance]
            trace.append(self.state.phi)
            accepted += int(move.take.sum())
        # a state that several moves began from is one particle
        phi, which = torch.cat(points).unique(dim=0, return_inverse=True)
        weight = torch.zeros(len(phi), dtype=torch.float64).index_add_(0, which, torch.cat(weights))
        kept = weight > 0
        found = Particles(self.prior.back(phi[kept]), weight[kept].log())
        figures: dict[str, Any] = {
            "chains": self.chains,
            "steps": steps,
            "acceptance": accepted / max(1, steps * self.chains),
            "temperatures": self.temperatures,
            "replicates": self.replicates.count,
            "log_likelihood_noise": self.noise,
            "failed": self.replicates.failed,
        }
        return found, figures | _mixing(torch.stack(trace))

    def _resampled(self, log_weights: Tensor, n: int) -> Tensor:
        """Systematic resampling: ``n`` indices."""
        edges = log_weights.double().softmax(0).cumsum(0)
        points = (torch.arange(n) + torch.rand((), generator=self.random, dtype=torch.float64)) / n
        return torch.searchsorted(edges, points * edges[-1]).clamp_max(len(edges) - 1)

    def warnings(self) -> list[str]:
        """What a user should read."""
        found, figures = [], self.figures
        if self.cut:
            found.append("the budget did not last to anneal slowly: chains may sit at the wrong place; simulate more")
        if self.noise is not None and self.noise > NOISY:
            found.append(
                f"log-likelihood estimates scatter by {self.noise:.2g}, so that chains stick (1 to 2 is best): take "
                "more replicates or fewer summaries"
            )
        if figures["split_r_hat"] is not None and figures["split_r_hat"] > DISAGREE:
            found.append(f"the chains disagree: split R-hat is {figures['split_r_hat']:.3f} for the worst parameter")
        if figures["ess"] < 100:
            found.append(f"the chains' states are worth {figures['ess']:.0f} independent draws; simulate more")
        if self.replicates.failed:
            found.append(
                f"{self.replicates.failed} of {self.replicates.spent} simulations failed; the likelihood takes them "
                "for ones that cannot be the observation"
            )
        return found


def _rise(value: Tensor, most: float, ess: float) -> float:
    """The largest power of the likelihood, up to ``most``, whose weights are worth ``ess``, by bisection."""

    def worth(power: float) -> float:
        weight = (power * value.nan_to_num(neginf=-1e300)).softmax(0)
        return float(1 / weight.square().sum())

    if worth(most) >= ess:
        return most
    low, high = 0.0, most
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if worth(middle) >= ess else (low, middle)
    # points without likelihood are left behind by the smallest power already
    return max(low, 1e-6 * most)


def _mixing(trace: Tensor) -> dict[str, float | None]:
    """Effective sample size and split R-hat of the worst parameter, of a trace (T, C, p)."""
    from pyro.ops.stats import effective_sample_size, split_gelman_rubin

    steps, chains, _ = trace.shape
    if steps < 8 or not (trace.var(dim=(0, 1)) > 0).all():
        return {"ess": float(min(chains, len(trace.flatten(0, 1).unique(dim=0)))), "split_r_hat": None}
    ess = float(effective_sample_size(trace, sample_dim=0, chain_dim=1).min())
    r_hat = float(split_gelman_rubin(trace, sample_dim=0, chain_dim=1).max())
    # an estimate from few steps may exceed what there is
    return {"ess": min(ess, float(steps * chains)), "split_r_hat": r_hat}
