r"""Rounds: simulate where the posterior of one observation is, as far as the simulations so far can tell.

Parameters of a later round come from the prior or from the posterior of the round before; nothing is corrected
afterwards, since what is learned does not depend on where they came from:

- *A likelihood* is the same whatever law theta has (``snle``). Half of a round are draws of the current posterior, half
  are such draws with noise of the posterior's own covariance, so that its edges are seen too. Simulations whose
  parameters lie outside of a box about the posterior, half as wide again on each side, are left out of training: what
  is learned is then nearly linear and normal.
- *A posterior density* is that of the prior it was trained with. ``tsnpe`` truncates the prior to the region where the
  current density exceeds its own :math:`10^{-3}` quantile at the observation, draws from it by rejection (or, where the
  region is tiny, by importance resampling from the current density), and trains on all simulations inside. There the
  truncated prior and the prior give one posterior, up to the mass that the region misses.

References:
    | Sequential neural likelihood (Papamakarios, Sterratt & Murray, 2019)
    | https://arxiv.org/abs/1805.07226
    | Truncated proposals for scalable and hassle-free simulation-based inference (Deistler et al., 2022)
    | https://arxiv.org/abs/2210.04815
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from implicit_infer.posteriors.method import Method, Question
from implicit_infer.posteriors.nle import NLE, NLEPosterior
from implicit_infer.posteriors.npe import NPE, NPEPosterior
from implicit_infer.runs import Runs
from implicit_simulators import Simulator, Stream, unconstrained

DRAWS = 2000
"""Draws of the current posterior that say where it is."""

QUANTILE = 1e-3
"""Share of its own draws that the density's region may miss."""

PRIOR_DRAWS = 2**20
"""Prior draws that are tried before the region is drawn from by importance resampling."""


def shares(budget: int, rounds: tuple[float, ...]) -> list[int]:
    """Simulations of each round, which add up to the budget.

    Raises:
        ValueError: If a share is not positive, or the budget does not give every round a simulation.
    """
    if not rounds or min(rounds) <= 0:
        raise ValueError(f"rounds: expected positive shares; got {rounds}")
    if budget < 2 * len(rounds):
        raise ValueError(f"budget: expected at least {2 * len(rounds)} for {len(rounds)} rounds; got {budget}")
    counts = [max(1, int(budget * share / sum(rounds))) for share in rounds]
    counts[0] += budget - sum(counts)
    return counts


class Rounds:
    """Simulations so far, and a door to more of them.

    Args:
        question: The question, whose budget the rounds share.
        runs: The first round's, from the prior.
    """

    def __init__(self, question: Question, runs: Runs) -> None:
        self.question = question
        self.theta, self.x = runs.valid()
        self.spent, self.failed, self.parts = len(runs), int(runs.failed.sum()), 0

    def simulate(self, u: Tensor) -> None:
        """Spend simulations at unconstrained parameters with shape (n, d)."""
        self.parts += 1
        theta = unconstrained(self.question.simulator.prior)(u)
        runs = self.question.simulate(theta, self.parts)
        theta, x = runs.valid()
        self.theta, self.x = torch.cat((self.theta, theta)), torch.cat((self.x, x))
        self.spent += len(runs)
        self.failed += int(runs.failed.sum())


@dataclass(frozen=True)
class SNLE(Method):
    """Sequential neural likelihood estimation.

    Args:
        likelihood: How the likelihood is learned in every round.
        rounds: Shares of the budget: of the prior, and of each round after.
    """

    likelihood: NLE = field(default_factory=NLE)
    rounds: tuple[float, ...] = (0.4, 0.2, 0.2, 0.2)

    name = "snle"
    amortised = False

    def infer(self, question: Question) -> NLEPosterior:
        """Spend ``question.budget`` simulations in rounds."""
        counts = shares(question.budget, self.rounds)
        rounds = Rounds(question, prior_runs(question, counts[0]))
        first = learn_likelihood(
            question, rounds, self.likelihood.alone() if counts[1:] else self.likelihood, None, self.name
        )
        return go_on_with_likelihood(question, rounds, counts[1:], self.likelihood, first, self.name)


@dataclass(frozen=True)
class TSNPE(Method):
    """Truncated sequential neural posterior estimation.

    Args:
        density: How the density is learned in every round.
        rounds: Shares of the budget: of the prior, and of each truncated prior after.
    """

    density: NPE = field(default_factory=NPE)
    rounds: tuple[float, ...] = (0.4, 0.3, 0.3)

    name = "tsnpe"
    amortised = False

    def infer(self, question: Question) -> TruncatedPosterior:
        """Spend ``question.budget`` simulations in rounds."""
        counts = shares(question.budget, self.rounds)
        rounds = Rounds(question, prior_runs(question, counts[0]))
        return go_on_with_density(question, rounds, counts[1:], self.density, None, self.name)


def prior_runs(question: Question, n: int) -> Runs:
    """The first ``n`` simulations from the prior, in memory."""
    runs = replace(question, budget=n).runs()
    return runs if isinstance(runs, Runs) else Runs(*_whole(runs), runs.seed, {}, question.simulator.parameter_names)


def _whole(runs: Any) -> tuple[Tensor, Tensor]:
    theta, x = zip(*runs.chunks(), strict=True)
    return torch.cat(theta), torch.cat(x)


def learn_likelihood(question: Question, rounds: Rounds, method: NLE, keep: Tensor | None, name: str) -> NLEPosterior:
    """A likelihood of the simulations so far, or of those in ``keep``."""
    theta, x = (rounds.theta, rounds.x) if keep is None else (rounds.theta[keep], rounds.x[keep])
    likelihood, figures = method.learn(
        question.simulator, theta, x, seed=question.seed, device=question.device, progress=question.progress
    )
    return NLEPosterior(
        question.simulator,
        question.observed,
        likelihood=likelihood,
        settings=method,
        method=name,
        simulations=rounds.spent,
        figures={"failed_simulations": rounds.failed, "trained_on": len(theta), **figures},
        warnings=[] if figures["finite"] else ["training stopped at a loss that was not finite"],
    )


def go_on_with_likelihood(
    question: Question,
    rounds: Rounds,
    counts: list[int],
    method: NLE,
    posterior: NLEPosterior,
    name: str,
) -> NLEPosterior:
    """Rounds of ``counts`` simulations at draws of the posterior before; one member is enough until the last."""
    transform = posterior.likelihood.observables.transform
    for i, count in enumerate(counts):
        generator = Stream.of(question.seed, i + 1, "sample").torch()
        draws = transform.inv(posterior.sample((max(DRAWS, count),), seed=generator))
        chosen = draws[torch.randperm(len(draws), generator=generator)[:count]]
        noise = torch.randn(chosen.shape, generator=generator) @ _root(draws).T
        wide = torch.arange(count)[:, None] % 2 == 1
        rounds.simulate(torch.where(wide, chosen + noise, chosen))
        keep = _in_box(transform.inv(rounds.theta), draws)
        # too few to learn from mean that the posterior is where nothing was simulated: all are used
        enough = int(keep.sum()) >= min(len(keep), max(200, count))
        last = i + 1 == len(counts)
        posterior = learn_likelihood(
            question, rounds, method if last else method.alone(), keep if enough else None, name
        )
        posterior.figures["rounds"] = i + 2
    return posterior


def go_on_with_density(
    question: Question,
    rounds: Rounds,
    counts: list[int],
    method: NPE,
    posterior: NPEPosterior | None,
    name: str,
) -> TruncatedPosterior:
    """Rounds of ``counts`` simulations from the truncated prior, from a density learned now or before."""
    regions: list[Region] = []
    posterior = posterior or _learn_density(question, rounds, method, regions, name)
    for i, count in enumerate(counts):
        generator = Stream.of(question.seed, i + 1, "sample").torch()
        region = Region.of(posterior, question.observed, generator)
        regions = [*regions, region]
        rounds.simulate(region.draw(question.simulator, count, generator, regions))
        posterior = _learn_density(question, rounds, method, regions, name)
        posterior.figures["rounds"] = i + 2
    if isinstance(posterior, TruncatedPosterior):
        return posterior
    return TruncatedPosterior.of(posterior, regions, name)


def _learn_density(
    question: Question, rounds: Rounds, method: NPE, regions: list[Region], name: str
) -> TruncatedPosterior:
    u = unconstrained(question.simulator.prior).inv(rounds.theta)
    keep = torch.ones(len(u), dtype=torch.bool)
    for region in regions:
        keep &= region.holds(u)
    ensemble, view, figures = method.learn(
        question.simulator,
        rounds.theta[keep],
        rounds.x[keep],
        seed=question.seed,
        device=question.device,
        progress=question.progress,
    )
    return TruncatedPosterior(
        question.simulator,
        question.observed,
        coordinates=view,
        ensemble=ensemble,
        regions=regions,
        method=name,
        simulations=rounds.spent,
        figures={"failed_simulations": rounds.failed, "trained_on": int(keep.sum()), **figures},
        warnings=[] if figures["finite"] else ["training stopped at a loss that was not finite"],
    )


@dataclass
class Region:
    """Where a density at one observation exceeds its own small quantile, inside a box about its draws.

    Attributes:
        posterior: The density.
        observed: The observation.
        threshold: The least log density.
        low: The box's corner, unconstrained.
        high: The other.
        draws: Draws of the density, unconstrained.
    """

    posterior: NPEPosterior
    observed: Tensor
    threshold: float
    low: Tensor
    high: Tensor
    draws: Tensor

    @classmethod
    def of(cls, posterior: NPEPosterior, observed: Tensor, generator: torch.Generator) -> Region:
        """The region of a density."""
        draws = posterior.free_draws(DRAWS, observed[None], generator)[:, 0]
        density = posterior.free_log_prob(draws[None], observed[None])[0]
        edge = 0.1 * (draws.amax(0) - draws.amin(0))
        threshold = float(density.quantile(QUANTILE))
        return cls(posterior, observed, threshold, draws.amin(0) - edge, draws.amax(0) + edge, draws)

    def holds(self, u: Tensor) -> Tensor:
        """Which rows of unconstrained u (n, d) lie inside."""
        inside = ((u >= self.low) & (u <= self.high)).all(1)
        index = inside.nonzero()[:, 0]
        if len(index):
            inside[index] = self.posterior.free_log_prob(u[index][None], self.observed[None])[0] >= self.threshold
        return inside

    def draw(self, simulator: Simulator, n: int, generator: torch.Generator, regions: list[Region]) -> Tensor:
        """``n`` unconstrained draws of the prior inside all regions."""
        transform, tried = unconstrained(simulator.prior), 0
        kept: list[Tensor] = []
        while sum(len(part) for part in kept) < n and tried < PRIOR_DRAWS:
            u = transform.inv(simulator.sample_prior(2**16, seed=generator))
            tried += len(u)
            for region in regions[::-1]:
                u = u[region.holds(u)]
            kept.append(u)
        found = torch.cat(kept)[:n]
        return torch.cat((found, self._resample(simulator, n - len(found), generator, regions)))

    def _resample(self, simulator: Simulator, n: int, generator: torch.Generator, regions: list[Region]) -> Tensor:
        """``n`` by importance resampling: eight times as many draws of the density, weighted by the prior over it."""
        if not n:
            return self.draws[:0]
        from implicit_infer.posteriors.nle import log_prior

        u = self.posterior.free_draws(8 * n, self.observed[None], generator)[:, 0]
        weight = log_prior(simulator, self.posterior.coordinates, u)
        weight = weight - self.posterior.free_log_prob(u[None], self.observed[None])[0]
        for region in regions:
            weight = torch.where(region.holds(u), weight, -torch.inf)
        return u[torch.multinomial(weight.softmax(0), n, generator=generator)]


class TruncatedPosterior(NPEPosterior):
    """A density trained with a prior truncated to regions about one observation; draws outside of them are refused."""

    def __init__(self, *args: Any, regions: list[Region], **about: Any) -> None:
        super().__init__(*args, **about)
        self.regions = regions

    @classmethod
    def of(cls, posterior: NPEPosterior, regions: list[Region], name: str) -> TruncatedPosterior:
        """An untruncated one."""
        return cls(
            posterior.simulator,
            posterior.observed,
            coordinates=posterior.view,
            ensemble=posterior.ensemble,
            regions=regions,
            method=name,
            simulations=posterior.simulations,
            figures=posterior.figures,
            warnings=posterior.warnings,
        )

    @torch.no_grad()
    def free_draws(self, n: int, x: Tensor, generator: torch.Generator) -> Tensor:
        """Draws inside the regions: what falls outside is drawn anew, for at most a hundred times."""
        draws = super().free_draws(n, x, generator)
        for _ in range(100 if self.regions else 0):
            flat = draws.flatten(0, 1)
            outside = ~torch.stack([region.holds(flat) for region in self.regions]).all(0)
            if not bool(outside.any()):
                break
            again = super().free_draws(n, x, generator)
            draws = torch.where(outside.reshape(n, -1)[..., None], again, draws)
        return draws


def _root(draws: Tensor) -> Tensor:
    """Cholesky factor of the draws' covariance."""
    covariance = draws.T.cov().reshape(draws.shape[1], -1)
    return torch.linalg.cholesky(covariance + 1e-6 * covariance.diagonal().clamp_min(1e-12).diag())


def _in_box(u: Tensor, draws: Tensor) -> Tensor:
    """Which rows lie in the box about the draws, half as wide again on each side."""
    low, high = draws.amin(0), draws.amax(0)
    edge = 0.5 * (high - low)
    return ((u >= low - edge) & (u <= high + edge)).all(1)
