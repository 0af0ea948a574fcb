r"""SMC-ABC: generations of particles whose tolerance falls, so that simulations are spent where they count.

The first generation is rejection from the prior. Each later one draws from a kernel estimate of the one before, keeps
what lands within a tolerance that is a quantile of the distances before, and weights it (see ``population.py``).

**Exact budget.** The budget mostly runs out in the middle of a generation. What that generation has simulated is not
thrown away, and its tolerance is not forced: its simulations and those of the generation before are joined at the
smallest tolerance that leaves the asked number of particles. Every simulation that was begun has ended and counts, so
the kept ones are not those that happened to be quick; a completed generation keeps its first accepted particles in the
order in which they were begun.

References:
    | Sequential Monte Carlo without likelihoods (Sisson, Fan & Tanaka, 2007; correction 2009)
    | https://doi.org/10.1073/pnas.0607208104
    | Adaptive approximate Bayesian computation (Beaumont, Cornuet, Marin & Robert, 2009)
    | https://doi.org/10.1093/biomet/asp052
    | ABC scheme for parameter inference and model selection in dynamical systems (Toni et al., 2009)
    | https://doi.org/10.1098/rsif.2008.0172
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from implicit_infer.abc.adjustment import Adjustment, resolve_adjustment
from implicit_infer.abc.distances import Distance, PNorm
from implicit_infer.abc.particles import Particles
from implicit_infer.abc.population import Population, joined, kernel_factor, mix
from implicit_infer.abc.posterior import ParticlePosterior
from implicit_infer.abc.space import UnconstrainedPrior
from implicit_infer.executors import run_blocks
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.progress import Bar, track
from implicit_infer.runs import Runs
from implicit_infer.simulate import simulate
from implicit_infer.stored import StoredRuns
from implicit_simulators import Stream

LOW_ESS = 0.2
"""Share of the particles below which the effective sample size is worth a warning."""

BATCH = 10_000
"""The most rows held in memory at once."""

REDRAWS = 100


@dataclass(frozen=True)
class SMCABC(Method):
    r"""Population Monte Carlo with a tolerance that falls by a quantile in each generation.

    Draws are the weighted particles of the last generation and nothing else: no kernel is put on them afterwards,
    which would widen the posterior. There are therefore at most ``particles`` distinct draws.

    Args:
        particles: Particles of a generation; None takes 1 % of the budget, but at least 100.
        quantile: The next tolerance is this quantile of the present distances, in (0, 1). The first generation
            simulates ``particles / quantile`` times and keeps the nearest. (Few, steep steps: 0.2 is the SBI
            benchmark's setting.)
        distance: How simulations are compared with the observation; its scales are fitted to the first generation.
        kernel: Covariance of the moves: "twice" that of the population (Beaumont et al., 2009), or the "optimal" one of
            Filippi et al. (2013).
        tolerance: Stop after the generation that reaches this tolerance.
        acceptance: Stop when fewer than this share of a generation's simulations are accepted.
        adjust: Regression adjustment of the last particles, by its name in :mod:`implicit_infer.abc.adjustment`
            ("linear", ...) or with its settings; "none" leaves them.

    Raises:
        ValueError: If a setting is out of its range.
    """

    name: ClassVar[str] = "smc-abc"
    amortised: ClassVar[bool] = False

    particles: int | None = None
    quantile: float = 0.2
    distance: Distance = field(default_factory=PNorm)
    kernel: Literal["twice", "optimal"] = "twice"
    tolerance: float = 0.0
    acceptance: float = 0.0
    adjust: str | Adjustment = "none"

    def __post_init__(self) -> None:
        if self.particles is not None and self.particles < 2:
            raise ValueError(f"particles: expected an int of at least 2; got {self.particles}")
        if not 0 < self.quantile < 1:
            raise ValueError(f"quantile: expected a number in (0, 1); got {self.quantile}")
        if self.kernel not in ("twice", "optimal"):
            raise ValueError(f"kernel: expected 'twice' or 'optimal'; got {self.kernel!r}")
        if not self.tolerance >= 0:
            raise ValueError(f"tolerance: expected a non-negative number; got {self.tolerance}")
        if not 0 <= self.acceptance < 1:
            raise ValueError(f"acceptance: expected a number in [0, 1); got {self.acceptance}")
        resolve_adjustment(self.adjust)

    def size(self, budget: int) -> int:
        """Particles of a generation at this budget."""
        return min(self.particles or max(math.ceil(budget / 100), 100), budget)

    def infer(self, question: Question) -> SMCPosterior:
        """Run at ``question.observed`` and spend at most ``question.budget`` simulations.

        Raises:
            ValueError: If every simulation of the first generation failed, or the observation's summaries are not
                finite.
            TypeError: If the prior has no density on a continuous support.
        """
        return SMCPosterior(self, question)


class SMCPosterior(ParticlePosterior):
    """Particles for one observation; for another the whole algorithm is run again, with the same budget.

    ``simulations`` counts those of further runs, too.

    Args:
        settings: The method.
        question: What was asked.
    """

    def __init__(self, settings: SMCABC, question: Question) -> None:
        super().__init__(question.simulator, question.observed, method=settings.name, simulations=0)
        self.settings, self.question = settings, question
        run = self._run(question)
        self._particles = run.particles()
        self.figures.update(run.figures())
        self.warnings.extend(run.warnings())

    def particles(self, x: Tensor | None = None, seed: int = 0) -> Particles:
        """The last generation for one observation, found anew with ``seed`` unless it is the one asked about."""
        if x is None or torch.equal(x, self.observed):
            return self._particles
        return self._run(replace(self.question, observed=x, seed=seed, progress=False)).particles()

    def _run(self, question: Question) -> Run:
        run = Run(self.settings, question)
        run.all_generations()
        self.simulations += run.spent
        return run


class Run:
    """One run of the algorithm at one observation."""

    def __init__(self, settings: SMCABC, question: Question) -> None:
        self.settings, self.question, self.simulator = settings, question, question.simulator
        self.prior = UnconstrainedPrior(question.simulator)
        self.size = settings.size(question.budget)
        # moves and their simulations have a root of their own: the bank may have been made with the question's seed
        self.root = Stream.of(question.seed, 0, "sample").key
        self.batches = self.blocks = self.spent = self.failed = 0
        self.generations: list[dict[str, float]] = []
        self.stopped = ""
        self.population: Population

    def all_generations(self) -> None:
        """Run until something stops it."""
        with track(self.settings.name, total=self.question.budget, show=self.question.progress) as bar:
            self._first_generation(bar)
            while not self.stopped:
                self._next_generation(bar)

    def particles(self) -> Particles:
        """The last generation, adjusted if that was asked for."""
        last = self.population
        phi, log_weights = last.phi, last.log_weights
        adjustment = resolve_adjustment(self.settings.adjust)
        if adjustment is not None:
            regressors, observed = (self.measure.regressors(part) for part in (last.features, self.observed[None]))
            phi, log_weights = adjustment.adjust(
                phi, regressors, observed[0], last.distances, log_weights, self.question.seed
            )
        return Particles(self.prior.back(phi), log_weights)

    def _first_generation(self, bar: Bar) -> None:
        n = min(math.ceil(self.size / self.settings.quantile), self.question.budget)
        runs = self._prior_runs(n)
        distance = self.settings.distance
        features = distance.features(self.simulator, runs.x)
        self.observed = distance.features(self.simulator, self.question.observed[None])[0]
        if not torch.isfinite(self.observed).all():
            raise ValueError("observed: its summary statistics are not finite")
        self.measure = distance.fit(features, self.prior.to(runs.theta))
        distances = self.measure(features, self.observed)
        nearest, rows = distances.topk(min(self.size, n), largest=False)
        rows = rows[torch.isfinite(nearest)]
        equal = torch.full((len(rows),), -math.log(len(rows)), dtype=torch.float64)
        self.population = Population(self.prior.to(runs.theta[rows]), equal, distances[rows], features[rows])
        self.spent += n
        self.failed += int((~torch.isfinite(features).all(1)).sum())
        self._record(float(nearest[torch.isfinite(nearest)].max()), n, len(rows) / n)
        bar.update(n, tolerance=self.tolerance)

    def _prior_runs(self, n: int) -> Runs:
        if self.question.bank is not None:
            first = self.question.bank.first(n)
            return first.in_memory() if isinstance(first, StoredRuns) else first
        return simulate(self.simulator, n, seed=self.question.seed, workers=self.question.workers, progress=False)

    def _next_generation(self, bar: Bar) -> None:
        """Move the population to the next tolerance, or to as small a one as the rest of the budget allows."""
        old, begun = self.population, self.spent
        if self.spent >= self.question.budget:
            self.stopped = "the budget is spent"
            return
        if self.tolerance <= self.settings.tolerance:
            self.stopped = f"the tolerance of {self.settings.tolerance:.4g} is reached"
            return
        tolerance = self._next_tolerance()
        if tolerance is None:
            self.stopped = "all distances are equal, so the tolerance cannot fall"
            return
        factor = kernel_factor(old, tolerance, self.settings.kernel)
        if factor is None:
            self.stopped = "the particles have collapsed onto one point"
            return

        fresh: list[Population] = []
        accepted = 0
        while accepted < self.size:
            proposed = self.spent - begun
            rate = accepted / proposed if accepted else self.generations[-1]["acceptance"] / max(1, len(fresh))
            if proposed >= self.size and accepted < self.settings.acceptance * proposed:
                self.stopped = f"fewer than {self.settings.acceptance:.2g} of the simulations are accepted"
            if self.spent >= self.question.budget:
                self.stopped = "the budget is spent"
            if self.stopped:
                break
            fresh.append(self._batch(old, factor, _batch_size(self.size - accepted, self.size, rate)))
            accepted += int((fresh[-1].distances <= tolerance).sum())
            bar.update(self.spent - begun - proposed, tolerance=tolerance, acceptance=accepted / (self.spent - begun))

        found = joined(fresh)
        near = (found.distances <= tolerance).nonzero()[:, 0]
        if len(near) >= self.size:
            self.population = found.take(near[: self.size])
        else:
            self.population, tolerance = mix(old, found, self.size)
        self._record(tolerance, self.spent - begun, accepted / (self.spent - begun))

    def _next_tolerance(self) -> float | None:
        """The quantile of the distances, or the largest distance that is smaller than the present tolerance."""
        distances = self.population.distances
        k = max(1, math.ceil(self.settings.quantile * len(distances)))
        wanted = max(float(distances.kthvalue(k).values), self.settings.tolerance)
        if wanted < self.tolerance:
            return wanted
        smaller = distances[distances < self.tolerance]
        return float(smaller.max()) if len(smaller) else None

    def _batch(self, old: Population, factor: Tensor, n: int) -> Population:
        """Simulate ``n`` moves, or as many as the budget allows; those no farther than the old tolerance, in order."""
        n = min(n, self.question.budget - self.spent)
        phi, log_prior = self._moves(old, factor, n)
        features = self.settings.distance.features(self.simulator, self._simulate(self.prior.back(phi)))
        self.batches += 1
        self.failed += int((~torch.isfinite(features).all(1)).sum())
        distances = self.measure(features, self.observed)
        near = distances <= self.tolerance
        log_weights = log_prior[near] - old.log_mixture(phi[near], factor)
        return Population(phi[near], log_weights, distances[near], features[near])

    def _moves(self, old: Population, factor: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """Points of the mixture and their log prior; what rounds out of the support is drawn again, not simulated."""
        generator = Stream.of(self.root, self.batches, "sample").torch()
        phi = old.propose(n, factor, generator)
        log_prior = self.prior.log_prob(phi)
        for _ in range(REDRAWS):
            outside = ~torch.isfinite(log_prior)
            if not outside.any():
                return phi, log_prior
            phi[outside] = old.propose(int(outside.sum()), factor, generator)
            log_prior[outside] = self.prior.log_prob(phi[outside])
        raise RuntimeError(f"prior: no finite log_prob at {REDRAWS} successive moves inside its support")

    def _simulate(self, theta: Tensor) -> Tensor:
        """X of theta, block by block in any order; each block has the stream of its place in the run."""
        parts = theta.split(self.simulator.block)
        numbered = enumerate(parts, start=self.blocks)
        made = run_blocks(self.simulator, numbered, self.root, workers=self.question.workers)
        blocks = sorted(made, key=lambda block: block.index)
        self.blocks += len(parts)
        self.spent += len(theta)
        return torch.cat([block.x for block in blocks])

    def _record(self, tolerance: float, simulations: int, acceptance: float) -> None:
        self.tolerance = tolerance
        ess = self.population.ess
        self.generations.append(
            {"tolerance": tolerance, "simulations": simulations, "acceptance": acceptance, "ess": ess}
        )

    def figures(self) -> dict[str, Any]:
        """What the run says of itself; lists have one entry for each generation."""
        paths = {name: [generation[name] for generation in self.generations] for name in self.generations[0]}
        return {
            "particles": len(self.population),
            "ess": self.population.ess,
            "tolerance": self.tolerance,
            "generations": len(self.generations),
            "failed": self.failed,
            "stopped": self.stopped,
            "paths": paths,
        }

    def warnings(self) -> list[str]:
        """What a user should read."""
        found = []
        n, ess = len(self.population), self.population.ess
        if ess < LOW_ESS * n:
            found.append(f"the weights have collapsed: {n} particles are worth {ess:.0f}; take more particles")
        if len(self.generations) == 1:
            found.append(f"only the first generation was run, which is rejection ABC: {self.stopped}")
        elif self.stopped != "the budget is spent":
            found.append(f"stopped after {self.spent} of {self.question.budget} simulations: {self.stopped}")
        if self.failed:
            found.append(f"{self.failed} of {self.spent} simulations failed and can never be accepted")
        adjustment = resolve_adjustment(self.settings.adjust)
        if adjustment is not None:
            regressors = self.measure.regressors(self.observed[None]).shape[1]
            found.extend(filter(None, [adjustment.doubts(n, regressors)]))
        return found


def _batch_size(missing: int, size: int, rate: float) -> int:
    """How many to simulate next: not quite enough at first, so that little is simulated in vain at the end."""
    aim = 0.9 * missing if missing > 0.2 * size else missing + math.sqrt(missing)
    return min(math.ceil(aim / max(rate, aim / BATCH)), BATCH)
