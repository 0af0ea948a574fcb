r"""Replenishment SMC-ABC: drop the farthest particles, copy others in their place, and move the copies.

Each generation sorts N particles of equal weight by their distances, drops the farthest
:math:`N_\alpha = \lfloor \alpha N \rfloor`, takes the largest distance that is left as the tolerance, draws
:math:`N_\alpha` of those left with replacement, and moves each copy by R steps of ABC-MCMC at this tolerance (see
``random_walk.py``). There are no weights that could collapse; what there can be is copies that never moved. R is chosen
so that a copy stays where it is with probability c only:

.. math:: R = \left\lceil \frac{\log c}{\log(1 - p_\text{acc})} \right\rceil .

The rate :math:`p_\text{acc}` is that of trial moves at the *present* tolerance, half as many as the generation before
made, which count among the R (the paper takes the rate of the generation before, which is higher). The budget mostly
ends within a generation: copies that were not moved by then are copies still, lie within the tolerance, and are counted
as one particle with the weight of all.

References:
    | Estimation of parameters for macroparasite population evolution using approximate Bayesian computation
    | (Drovandi & Pettitt, 2011)
    | https://doi.org/10.1111/j.1541-0420.2010.01410.x
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from implicit_infer.abc.adjustment import Adjustment, resolve_adjustment
from implicit_infer.abc.distances import Distance, PNorm
from implicit_infer.abc.population import Population
from implicit_infer.abc.random_walk import Walkers, step, walk_factor, walkers_of
from implicit_infer.abc.run import Run, SequentialMethod, check_stops
from implicit_infer.posteriors.method import Question
from implicit_simulators import Stream

TRIALS = 2
"""Moves of the first generation by which its rate of acceptance is told."""


@dataclass(frozen=True)
class ReplenishmentABC(SequentialMethod):
    r"""SMC-ABC whose particles have no weights: the farthest are dropped, and copies of the others moved by MCMC.

    Args:
        particles: How many; None takes 2 % of the budget, but at least 100.
        dropped: Share :math:`\alpha` that each generation drops, in (0, 1).
        unmoved: Probability c that a copy stays where it is, in (0, 1), which sets the number of moves.
        distance: How simulations are compared with the observation; fitted to the first generation.
        tolerance: Stop after the generation that reaches this tolerance.
        acceptance: Stop after a generation of which fewer moves than this share are accepted.
        max_time: Seconds after which no block of simulations is begun any more, or None; those in hand are finished.
        adjust: Regression adjustment of the last particles, by its name in :mod:`implicit_infer.abc.adjustment`
            ("linear", ...) or with its settings; "none" leaves them.

    Raises:
        ValueError: If a setting is out of its range.
    """

    name: ClassVar[str] = "replenishment-abc"

    particles: int | None = None
    dropped: float = 0.5
    unmoved: float = 0.01
    distance: Distance = field(default_factory=PNorm)
    tolerance: float = 0.0
    acceptance: float = 0.0
    max_time: float | None = None
    adjust: str | Adjustment = "none"

    def __post_init__(self) -> None:
        if self.particles is not None and self.particles < 4:
            raise ValueError(f"particles: expected an int of at least 4; got {self.particles}")
        for name in ("dropped", "unmoved"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a number in (0, 1); got {getattr(self, name)}")
        check_stops(self.tolerance, self.acceptance, self.max_time)
        resolve_adjustment(self.adjust)

    def size(self, budget: int) -> int:
        """Particles at this budget."""
        return min(self.particles or max(math.ceil(budget / 50), 100), budget)

    def begin(self, question: Question) -> ReplenishmentRun:
        """A run that has not begun."""
        return ReplenishmentRun(self, question)


class ReplenishmentRun(Run):
    """One run of the algorithm at one observation."""

    settings: ReplenishmentABC
    few = "a larger budget moves more of their copies"

    def __init__(self, settings: ReplenishmentABC, question: Question) -> None:
        super().__init__(settings, question, settings.size(question.budget))
        self.steps = 0
        self.moves = 2 * TRIALS

    def memory(self) -> dict[str, Any]:
        """How many steps were made, each with a stream of its own, and how many the last generation took."""
        return {"steps": self.steps, "moves": self.moves}

    def recall(self, memory: dict[str, Any], files: list[dict[str, Tensor]]) -> None:
        """Go on from there."""
        self.steps, self.moves = memory["steps"], memory["moves"]

    def first(self) -> None:
        """Particles from the prior, at whatever distance."""
        theta, x = self.simulations.from_prior(self.size)
        features = self.settings.distance.features(self.simulator, x)
        phi = self.prior.to(theta)
        measure = self.fit(features, phi)
        distances = measure(features, self.observed)
        self.simulations.count(features, distances)
        near = torch.isfinite(distances)
        if not near.any():
            raise ValueError(f"distance: none of {len(x)} simulations has a finite distance from the observation")
        equal = torch.zeros(int(near.sum()), dtype=torch.float64, device=phi.device)
        everywhere = Population(phi[near], equal, distances[near], features[near])
        self.population = everywhere.take(torch.arange(len(equal), device=phi.device))
        self.fits = [(measure, float(distances[near].max()))]
        self.record(len(x), 1.0, moves=0.0)

    def following(self) -> None:
        """Drop, copy and move."""
        if stopped := self._finished():
            self.stopped = stopped
            return
        begun = self.simulations.spent
        order = self.population.distances.argsort(stable=True)
        kept = order[: len(order) - math.floor(self.settings.dropped * len(order))]
        tolerance = float(self.population.distances[kept[-1]])
        left = self.population.take(kept)
        factor = walk_factor(left)
        if factor is None:
            self.stopped = "the particles have collapsed onto one point"
            return
        self.fits = [(self.measure, tolerance)]
        generator = self._stream().torch()
        # always as many as at first: failed simulations of the first generation are replaced, too
        chosen = torch.randint(len(left), (self.size - len(left),), generator=generator).to(kept.device)
        copies, rate, moves = self._moved(walkers_of(self, left.take(chosen)), factor, tolerance)
        self.population = Walkers(
            *(torch.cat([getattr(part, name) for part in (walkers_of(self, left), copies)]) for name in _PARTS)
        ).population()
        merged = self.population.merged()
        self.record(self.simulations.spent - begun, rate, ess=merged.ess, moves=float(moves))
        if not self.stopped and rate < self.settings.acceptance:
            self.stopped = f"fewer than {self.settings.acceptance:.2g} of the moves are accepted"

    def _finished(self) -> str:
        if stopped := self.simulations.stopped():
            return stopped
        if self.tolerance <= self.settings.tolerance:
            return f"the tolerance of {self.settings.tolerance:.4g} is reached"
        if float(self.population.distances.min()) == float(self.population.distances.max()):
            return "all distances are equal, so the tolerance cannot fall"
        return ""

    def _moved(self, copies: Walkers, factor: Tensor, tolerance: float) -> tuple[Walkers, float, int]:
        """The copies after as many moves as they need, the share of moves that was accepted, and how many there were.

        ``stopped`` is set where budget or time ended before.
        """
        trials = max(1, math.ceil(self.moves / 2))
        wanted, made, accepted = trials, 0, 0
        while made < wanted:
            self.stopped = self.simulations.stopped()
            if self.stopped:
                break
            copies, moved = step(self, copies, factor, tolerance, self._stream())
            made, accepted = made + 1, accepted + int(moved.sum())
            self.simulations.bar.update(0, acceptance=accepted / (made * len(moved)))
            if made == trials:
                wanted = moves_for(accepted / (made * len(moved)), self.settings.unmoved, made * len(moved))
        self.moves = made or self.moves
        return copies, accepted / max(1, made * len(copies.phi)), made

    def _stream(self) -> Stream:
        self.steps += 1
        return Stream.of(self.simulations.root, self.steps, "sample")


_PARTS = ("phi", "log_prior", "distances", "features")


def moves_for(rate: float, unmoved: float, tried: int) -> int:
    r"""Moves after which a particle is where it was with probability ``unmoved`` only.

    Args:
        rate: Share of moves that was accepted.
        unmoved: The probability.
        tried: Of how many moves the rate is: one that is zero is taken to be below one in so many.
    """
    rate = max(rate, 1 / (tried + 1))
    return 1 if rate >= 1 else max(1, math.ceil(math.log(unmoved) / math.log1p(-rate)))
