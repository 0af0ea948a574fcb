"""What every sequential ABC run is: generation after generation until something stops it, kept on disk if asked."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from implicit_infer.abc.adjustment import resolve_adjustment
from implicit_infer.abc.distances import Measure
from implicit_infer.abc.generations import Generations
from implicit_infer.abc.particles import Particles
from implicit_infer.abc.population import Population
from implicit_infer.abc.posterior import ParticlePosterior
from implicit_infer.abc.simulations import Halt, Simulations
from implicit_infer.abc.space import UnconstrainedPrior
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.progress import track

LOW_ESS = 0.2
"""Share of the particles below which the effective sample size is worth a warning."""

ENDS = ("the budget is spent", "the time is over", "it was interrupted")
"""What stops a run that a larger budget, or more time, lets go on."""


class Run:
    """One run at one observation. Children write ``first`` and ``following``, and what else they must remember.

    Args:
        settings: The method, with at least ``distance``, ``adjust`` and ``max_time``.
        question: What was asked.
        size: Particles of a generation.
    """

    few: ClassVar[str] = "take more particles"
    """What helps against weights that have collapsed; empty where there are none."""

    def __init__(self, settings: Any, question: Question, size: int) -> None:
        self.settings, self.question, self.simulator, self.size = settings, question, question.simulator, size
        self.prior = UnconstrainedPrior(question.simulator)
        self.adjustment = resolve_adjustment(settings.adjust)
        self.halt = Halt(settings.max_time)
        self.simulations = Simulations(question, self.halt)
        self.observed = settings.distance.features(self.simulator, question.observed[None])[0]
        if not torch.isfinite(self.observed).all():
            raise ValueError("observed: its summary statistics are not finite")
        self.generations: list[dict[str, float]] = []
        self.stopped = ""
        self.population: Population
        self.fits: list[tuple[Measure, float]] = []
        """Distances and their tolerances, within all of which every particle lies; the last is in force."""
        self.kept: dict[str, Tensor] = {}
        """What the generation in hand must leave on disk besides the particles."""
        self._begun = time.monotonic()

    @property
    def measure(self) -> Measure:
        """The distance in force."""
        return self.fits[-1][0]

    @property
    def tolerance(self) -> float:
        """The tolerance in force."""
        return self.fits[-1][1]

    def first(self) -> None:
        """Make the first generation, from the prior."""
        raise NotImplementedError(f"{type(self).__name__} must write first")

    def following(self) -> None:
        """Make the next generation, or set ``stopped``."""
        raise NotImplementedError(f"{type(self).__name__} must write following")

    def all_generations(self) -> None:
        """Run until something stops it, from the first generation or from where a checkpoint left off."""
        with contextlib.ExitStack() as stack:
            store = None
            if self.question.checkpoint is not None:
                store = Generations(self.question.checkpoint, self.settings, self.question)
                stack.enter_context(store.claimed())
                self._go_on(store.read(self.question.observed.device))
            show = self.question.progress
            bar = stack.enter_context(track(self.settings.name, total=self.question.budget, show=show))
            bar.update(self.simulations.spent)
            self.simulations.bar = bar
            stack.enter_context(self.halt.listening())
            while not self.stopped:
                before = len(self.generations)
                if before:
                    self.following()
                else:
                    self.first()
                bar.update(0, tolerance=self.tolerance)
                if store is not None and len(self.generations) > before:
                    store.write(before, *self._leave())

    def fit(self, features: Tensor, theta: Tensor) -> Measure:
        """Fit the distance to simulations, and have them kept: whoever goes on must fit it again.

        Args:
            features: Of the simulations, with shape (n, k).
            theta: Their parameters in unconstrained space, with shape (n, p).
        """
        self.kept = {"fitted_features": features}
        if self.settings.distance.learned:
            self.kept["fitted_theta"] = theta
        return self.settings.distance.fit(features, theta)

    def record(self, simulations: int, acceptance: float, ess: float | None = None, **more: float) -> None:
        """Note how a generation went, and why the run stops with it, if it does."""
        now = time.monotonic()
        last = self.simulations
        self.generations.append(
            {
                "tolerance": self.tolerance,
                "distance": float(self.population.distances.double().median()),
                "simulations": simulations,
                "acceptance": acceptance,
                "ess": self.population.ess if ess is None else ess,
                "failed": last.failed - sum(int(one["failed"]) for one in self.generations),
                "undefined": last.undefined - sum(int(one["undefined"]) for one in self.generations),
                "seconds": now - self._begun,
                **more,
            }
        )
        self._begun = now

    def particles(self) -> Particles:
        """The particles, adjusted if that was asked for; those that are the same point are one."""
        last = self.population.merged()
        phi, log_weights = last.phi, last.log_weights
        if self.adjustment is not None:
            regressors, observed = (self.measure.regressors(part) for part in (last.features, self.observed[None]))
            seed = self.question.seed
            phi, log_weights = self.adjustment.adjust(phi, regressors, observed[0], last.distances, log_weights, seed)
        return Particles(self.prior.back(phi), log_weights)

    def figures(self) -> dict[str, Any]:
        """What the run says of itself; lists have one entry for each generation."""
        paths = {name: [generation[name] for generation in self.generations] for name in self.generations[-1]}
        return {
            "particles": len(self.population),
            "ess": self.generations[-1]["ess"],
            "tolerance": self.tolerance,
            "generations": len(self.generations),
            "failed": self.simulations.failed,
            "undefined": self.simulations.undefined,
            "stopped": self.stopped,
            "paths": paths,
        }

    def warnings(self) -> list[str]:
        """What a user should read."""
        found = []
        n, ess, spent = len(self.population), self.generations[-1]["ess"], self.simulations.spent
        if self.few and ess < LOW_ESS * n:
            found.append(f"the weights have collapsed: {n} particles are worth {ess:.0f}; {self.few}")
        if len(self.generations) == 1:
            found.append(f"only the first generation was run, which is rejection ABC: {self.stopped}")
        elif self.stopped != ENDS[0]:
            found.append(f"stopped after {spent} of {self.question.budget} simulations: {self.stopped}")
        if self.simulations.failed:
            found.append(f"{self.simulations.failed} of {spent} simulations failed and can never be accepted")
        if self.simulations.undefined:
            found.append(f"{self.simulations.undefined} of {spent} distances are no numbers and can never be accepted")
        if self.adjustment is not None:
            regressors = self.measure.regressors(self.observed[None]).shape[1]
            found.extend(filter(None, [self.adjustment.doubts(len(self.population.merged()), regressors)]))
        return found

    def memory(self) -> dict[str, Any]:
        """JSON-able state of a child, which :meth:`recall` takes."""
        return {}

    def recall(self, memory: dict[str, Any], files: list[dict[str, Tensor]]) -> None:
        """Go on from what :meth:`memory` gave; ``files`` are the tensors of every generation, in order."""

    def _leave(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        last = self.population
        names = ("phi", "log_weights", "distances", "features")
        tensors = {**{name: getattr(last, name) for name in names}, **self.kept}
        state = {
            "size": self.size,
            "stopped": self.stopped,
            "simulations": self.simulations.state(),
            "generations": self.generations,
            "tolerances": [None if math.isinf(tolerance) else tolerance for _, tolerance in self.fits],
            "memory": self.memory(),
        }
        self.kept = {}
        return tensors, state

    def _go_on(self, files: list[tuple[dict[str, Tensor], dict[str, Any]]]) -> None:
        if not files:
            return
        tensors, state = files[-1]
        spent = state["simulations"]["spent"]
        if spent > self.question.budget:
            raise ValueError(
                f"checkpoint: {self.question.checkpoint} has spent {spent} simulations already; "
                f"expected a budget of at least as many, got {self.question.budget}"
            )
        self.size, self.generations = state["size"], state["generations"]
        self.stopped = "" if state["stopped"] in ENDS else state["stopped"]
        self.simulations.restore(state["simulations"])
        names = ("phi", "log_weights", "distances", "features")
        self.population = Population(*(tensors[name] for name in names))
        # a distance is a function of what it was fitted to; those still in force were fitted last
        fitted = [part for part, _ in files if "fitted_features" in part]
        tolerances = [math.inf if tolerance is None else tolerance for tolerance in state["tolerances"]]
        measures = [
            self.settings.distance.fit(part["fitted_features"], part.get("fitted_theta"))
            for part in fitted[-len(tolerances) :]
        ]
        self.fits = list(zip(measures, tolerances, strict=True))
        self.recall(state["memory"], [part for part, _ in files])


def check_stops(tolerance: float, acceptance: float, max_time: float | None) -> None:
    """Refuse rules of stopping that are none.

    Raises:
        ValueError: If the tolerance is negative, the rate of acceptance no share below 1, or the time not positive.
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance: expected a non-negative number; got {tolerance}")
    if not 0 <= acceptance < 1:
        raise ValueError(f"acceptance: expected a number in [0, 1); got {acceptance}")
    check_max_time(max_time)


def check_max_time(seconds: float | None) -> None:
    """Refuse what is no time.

    Raises:
        ValueError: If it is not positive.
    """
    if seconds is not None and not 0 < seconds < math.inf:
        raise ValueError(f"max_time: expected a positive number of seconds, or None; got {seconds}")


class SequentialMethod(Method):
    """A method that runs in generations. Children write ``begin``."""

    resumes: ClassVar[bool] = True
    amortised: ClassVar[bool] = False

    def begin(self, question: Question) -> Run:
        """A run that has not begun."""
        raise NotImplementedError(f"{type(self).__name__} must write begin(question)")

    def infer(self, question: Question) -> SequentialPosterior:
        """Run at ``question.observed`` and spend at most ``question.budget`` simulations.

        Raises:
            ValueError: If every simulation of the first generation failed, the observation's summaries are not finite,
                or ``question.checkpoint`` is of another run.
            TypeError: If the prior has no density on a continuous support.
            RuntimeError: If every simulation of the first generation raised.
            TimeoutError: If not one block of simulations was finished within ``max_time``.
        """
        return SequentialPosterior(self, question)


class SequentialPosterior(ParticlePosterior):
    """Particles for one observation; for another the whole algorithm is run again, with the same budget.

    ``simulations`` counts those of further runs, too.

    Args:
        settings: The method.
        question: What was asked.
    """

    def __init__(self, settings: SequentialMethod, question: Question) -> None:
        super().__init__(question.simulator, question.observed, method=settings.name, simulations=0)
        self.settings = settings
        # the bank and the executor are the first run's: they do not belong to what is saved
        self.question = replace(question, checkpoint=None, executor=None)
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
        run = self.settings.begin(question)
        run.all_generations()
        self.simulations += run.simulations.spent
        return run
