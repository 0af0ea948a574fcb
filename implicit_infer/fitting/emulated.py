r"""Fits on an emulator: what a differentiable simulator can do, done to a stand-in, and verified on the simulator.

The first emulator is of the whole prior, and gradients through it (:mod:`~implicit_infer.fitting.pathwise`) find where
the data point. It is the less exact the wider the prior; so each further round simulates in a box around the estimate,
as wide as that is uncertain, learns another emulator there, from all simulations that lie in the box, and fits again
from where the last round ended. Emulated draws cost no simulations. The end is tested twice, with simulations that were
kept for it: the last emulator against the simulator, and the simulator at the estimate against the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from implicit_estimators.comparisons import Comparison
from implicit_infer.checks import check_count
from implicit_infer.fitting.base import Fit, FitMethod, Trace
from implicit_infer.fitting.emulators.emulation import Emulation
from implicit_infer.fitting.emulators.emulator import Emulator
from implicit_infer.fitting.emulators.learning import learned, resolve_emulation
from implicit_infer.fitting.emulators.proposals import latin_hypercube
from implicit_infer.fitting.pathwise import Pathwise
from implicit_infer.fitting.question import FitQuestion
from implicit_infer.fitting.space import Space
from implicit_infer.fitting.verdict import judge, reserved
from implicit_simulators import Stream

NARROW, WIDE = 0.1, 1.0
"""Half-widths of a box, in the prior's standard deviations: at least and at most."""

SURE = 4.0
"""Standard errors of an estimate that its box reaches to either side."""


@dataclass(frozen=True)
class EmulatedFit(FitMethod):
    """Gradients through an emulator of the whole simulator, learned again where the data point, and then verified.

    Args:
        comparison: What tells draws from data: a name of ``ii.comparisons()``, or a comparison with its settings.
        emulation: How emulators are learned: "flow", "energy" or "gan", or one of them with its settings.
        rounds: Emulators, the first of them of the whole prior; 1 for that alone.
        pathwise: The fit on each emulator, but for its comparison.
        emulated: Draws of each emulator that the fit may use; they cost no simulations.
        test_share: Share of the budget that is kept for the test at the end.

    Raises:
        ValueError: If a setting is out of its range, or there is no such comparison or emulation.
    """

    comparison: str | Comparison | type[Comparison] = "energy"
    emulation: str | Emulation = "energy"
    rounds: int = 2
    pathwise: Pathwise = field(default_factory=lambda: Pathwise(comparison="energy", simulations_per_step=256))
    emulated: int = 100_000
    test_share: float = 0.1

    name = "emulator"
    compares = True

    def __post_init__(self) -> None:
        check_count(self.rounds, "rounds")
        check_count(self.emulated, "emulated")
        resolve_emulation(self.emulation)
        self._fitter()

    def _fitter(self) -> Pathwise:
        return replace(self.pathwise, comparison=self.comparison, test_share=0.0)

    def fit(self, question: FitQuestion) -> Fit:
        """Emulate, fit, and again nearby, until the budget is spent; then test.

        Raises:
            ValueError: If the budget gives a round fewer than 50 simulations.
        """
        kept = reserved(question, self.test_share)
        each = (question.left - kept) // self.rounds
        if each < FEWEST:
            raise ValueError(
                f"budget: expected at least {FEWEST} simulations for each of {self.rounds} rounds; got {each}"
            )
        space = Space.of(question.simulator, question.seed)
        bank = _Bank(torch.zeros(0, space.dim), torch.zeros((0, *question.simulator.event_shape)))
        trace, start = Trace(), question.start
        low, high = -math.inf * torch.ones(space.dim), math.inf * torch.ones(space.dim)
        for i in range(self.rounds):
            theta = self._proposals(question, space, i, each, low, high)
            bank = bank.with_more(theta, question.simulate(theta).cpu())
            emulator = self._emulator(question, space, bank, i, low, high)
            found = self._on(emulator, question, i, start)
            start = found.theta
            trace.note(question.spent, found.theta, loss=found.trace.figures["loss"][-1])
            low, high = _around(space, found)
        figures, warnings = judge(question, found.theta, kept)
        warnings = [*emulator.warnings, *warnings]
        checked = None if emulator.held_out is None or len(emulator.held_out[0]) < 40 else emulator.check(seed=0)
        if checked is not None and checked.told_apart:
            warnings.append(f"the last emulator is not the simulator, and the estimate has its error: {checked}")
        if not bool(emulator.inside(found.theta[None])):
            warnings.append(
                "the estimate lies outside of where the last emulator learned: more rounds, or another start"
            )
        failed = int((~torch.isfinite(bank.x.flatten(1)).all(1)).sum())
        return Fit(
            question.simulator,
            question.data,
            found.theta,
            method=self.name,
            simulations=question.spent,
            trace=trace,
            covariance=found.covariance,
            draws=found.draws,
            figures={
                **figures,
                "comparison": found.figures["comparison"],
                "emulation": emulator.method,
                "rounds": self.rounds,
                "failed_simulations": failed,
                "emulator_accuracy": None if checked is None else checked.accuracy,
                "uncertainty": "sandwich covariance from emulated data",
            },
            warnings=warnings,
        )

    def _proposals(self, question: FitQuestion, space: Space, i: int, each: int, low: Tensor, high: Tensor) -> Tensor:
        if i == 0:
            return question.simulator.sample_prior(each, question.seed, 2)
        random = Stream.of(question.seed, i, "prior").torch()
        return space.theta(low + (high - low) * latin_hypercube(each, space.dim, random))

    def _emulator(
        self, question: FitQuestion, space: Space, bank: _Bank, i: int, low: Tensor, high: Tensor
    ) -> Emulator:
        v = space.free(bank.theta)
        inside = ((v >= low - 1e-4) & (v <= high + 1e-4)).all(1)
        seed = Stream.of(question.seed, i, "train").key
        emulation = resolve_emulation(self.emulation)
        theta, x = bank.theta[inside], bank.x[inside]
        return learned(question.simulator, emulation, theta, x, 0.1, seed, question.device, question.progress)

    def _on(self, emulator: Emulator, question: FitQuestion, i: int, start: Tensor | None) -> Fit:
        """The fit on an emulator, which is given as many draws as the method says."""
        inner = FitQuestion(
            simulator=emulator,
            data=question.data,
            budget=self.emulated,
            seed=Stream.of(question.seed, i, "sample").key,
            start=start,
            device=question.device,
            progress=question.progress,
        )
        return self._fitter().fit(inner)


FEWEST = 50
"""Simulations of a round without which there is nothing to learn from."""


@dataclass(frozen=True)
class _Bank:
    """All simulations so far."""

    theta: Tensor
    x: Tensor

    def with_more(self, theta: Tensor, x: Tensor) -> _Bank:
        return _Bank(torch.cat((self.theta, theta)), torch.cat((self.x, x)))


def _around(space: Space, found: Fit) -> tuple[Tensor, Tensor]:
    """The box around an estimate in which the next emulator learns: opposite corners, with shape (d,) each."""
    v = space.free(found.theta[None])[0]
    half = torch.full((space.dim,), WIDE)
    if found.draws is not None:
        half = (SURE * space.free(found.draws).std(0)).nan_to_num(WIDE).clamp(NARROW, WIDE)
    return v - half, v + half
