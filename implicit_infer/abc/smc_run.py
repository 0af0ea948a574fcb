"""One run of SMC-ABC: how a generation is made from the one before, and how the last one ends within the budget."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from implicit_infer.abc.kernels import kernel_factor
from implicit_infer.abc.population import Population, joined, mix, tolerance_at
from implicit_infer.abc.run import Run
from implicit_infer.abc.space import UnconstrainedPrior
from implicit_infer.posteriors.method import Question
from implicit_simulators import Stream

BATCH = 10_000
"""The most rows held in memory at once."""

REDRAWS = 100


class SMCRun(Run):
    """One run of the algorithm at one observation.

    Args:
        settings: The method, an ``SMCABC``.
        question: What was asked.
    """

    def __init__(self, settings: Any, question: Question) -> None:
        super().__init__(settings, question, settings.size(question.budget))
        self.batches = 0

    def memory(self) -> dict[str, Any]:
        """How many batches were moved: each has a stream of its own."""
        return {"batches": self.batches}

    def recall(self, memory: dict[str, Any], files: list[dict[str, Tensor]]) -> None:
        """Go on from there."""
        self.batches = memory["batches"]

    def first(self) -> None:
        """Simulate from the prior, fit the distance, and keep the nearest."""
        wanted = min(math.ceil(self.size / self.settings.quantile), self.question.budget)
        theta, x = self.simulations.from_prior(wanted)
        n = len(theta)
        features = self.settings.distance.features(self.simulator, x)
        phi = self.prior.to(theta)
        measure = self.fit(features, phi)
        distances = measure(features, self.observed)
        self.simulations.count(features, distances)
        nearest, rows = distances.topk(min(self.size, n), largest=False)
        rows = rows[torch.isfinite(nearest)]
        if not len(rows):
            raise ValueError(f"distance: none of {n} simulations has a finite distance from the observation")
        equal = torch.full((len(rows),), -math.log(len(rows)), dtype=torch.float64, device=phi.device)
        self.population = Population(phi[rows], equal, distances[rows], features[rows])
        self.fits = [(measure, float(distances[rows].max()))]
        self.record(n, len(rows) / n)

    def following(self) -> None:
        """Move the population to the next tolerance, or to as small a one as the rest of the budget allows."""
        old, begun = self.population, self.simulations.spent
        self.stopped = self._finished()
        if self.stopped:
            return
        tolerance = self._next_tolerance()
        if tolerance is None:
            self.stopped = "all distances are equal, so the tolerance cannot fall"
            return
        factor = kernel_factor(old, tolerance, self.settings.kernel)
        if factor is None:
            self.stopped = "the particles have collapsed onto one point"
            return
        if self.settings.adaptive:
            self._adapt(old, *self._simulated(old, factor, math.ceil(self.size / self.settings.quantile), math.inf))
        else:
            found, _, _, accepted = self._simulated(old, factor, self.size, tolerance)
            near = (found.distances <= tolerance).nonzero()[:, 0]
            if len(near) >= self.size:
                self.population = found.take(near[: self.size])
            elif len(found):
                self.population, tolerance = mix(old, found, self.size)
            else:
                tolerance = self.tolerance
            self.fits = [(self.measure, tolerance)]
            proposed = self.simulations.spent - begun
            if proposed:
                self.record(proposed, accepted / proposed)

    def _adapt(self, old: Population, found: Population, features: Tensor, phi: Tensor, accepted: int) -> None:
        """Fit the distance to all simulations of the generation, and keep the particles that are nearest by it.

        Both populations lie within the tolerances of all distances before, so both are weighted draws of one target.
        """
        if not len(features):
            return
        wanted = math.ceil(self.size / self.settings.quantile)
        measure = self.fit(features, phi)
        found = found.take(torch.arange(min(wanted, len(found)), device=phi.device)) if len(found) else found
        sides = [found] if len(found) >= wanted else [old, found]
        sides = [side.measured(measure(side.features, self.observed)) for side in sides if len(side)]
        if len(sides) == 2:
            self.population, tolerance = mix(sides[0], sides[1], self.size)
        else:
            nearest, rows = sides[0].distances.topk(min(self.size, len(sides[0])), largest=False)
            self.population, tolerance = sides[0].take(rows.sort().values), float(nearest.max())
        self.fits.append((measure, tolerance))
        self.record(len(features), accepted / len(features))

    def _simulated(
        self, old: Population, factor: Tensor, wanted: int, tolerance: float
    ) -> tuple[Population, Tensor, Tensor, int]:
        """Moves and their simulations until enough are accepted or something stops it.

        Returns:
            The points within all present tolerances, in the order in which they were begun; features and places of all
            simulations, where the distance adapts; and how many were accepted.
        """
        fresh: list[tuple[Population, Tensor, Tensor]] = []
        accepted, proposed = 0, 0
        while accepted < wanted:
            rate = accepted / proposed if accepted else self.generations[-1]["acceptance"] / max(1, len(fresh))
            if proposed >= wanted and accepted < self.settings.acceptance * proposed:
                self.stopped = f"fewer than {self.settings.acceptance:.2g} of the simulations are accepted"
            self.stopped = self.stopped or self.simulations.stopped()
            if self.stopped:
                break
            before = self.simulations.spent
            fresh.append(self._batch(old, factor, _batch_size(wanted - accepted, wanted, rate)))
            proposed += self.simulations.spent - before
            accepted += int((fresh[-1][0].distances <= tolerance).sum())
            self.simulations.bar.update(0, acceptance=accepted / max(proposed, 1))
        if not fresh:
            return old.take(torch.arange(0)), old.features[:0], old.phi[:0], 0
        points, features, phi = zip(*fresh, strict=True)
        return joined(points), torch.cat(features), torch.cat(phi), accepted

    def _finished(self) -> str:
        """Why no other generation is begun, or an empty string."""
        if stopped := self.simulations.stopped():
            return stopped
        if self.tolerance <= self.settings.tolerance:
            return f"the tolerance of {self.settings.tolerance:.4g} is reached"
        return ""

    def _next_tolerance(self) -> float | None:
        """By the rule that was chosen, or the largest distance that is smaller than the present tolerance."""
        distances = self.population.distances
        if self.settings.schedule == "ess":
            wanted = tolerance_at(self.population, self.settings.quantile)
        else:
            k = max(1, math.ceil(self.settings.quantile * len(distances)))
            wanted = float(distances.kthvalue(k).values)
        wanted = max(wanted, self.settings.tolerance)
        if wanted < self.tolerance:
            return wanted
        smaller = distances[distances < self.tolerance]
        return float(smaller.max()) if len(smaller) else None

    def _batch(self, old: Population, factor: Tensor, n: int) -> tuple[Population, Tensor, Tensor]:
        """Simulate ``n`` moves, or as many as the budget allows; those within all present tolerances, in order."""
        n = min(n, self.simulations.left)
        phi, log_prior = moves(self.prior, old, factor, n, Stream.of(self.simulations.root, self.batches, "sample"))
        self.batches += 1
        rows, x = self.simulations.at(self.prior.back(phi))
        phi, log_prior = phi[rows], log_prior[rows]
        features = self.settings.distance.features(self.simulator, x)
        distances = self.measure(features, self.observed)
        self.simulations.count(features, distances)
        near = distances <= self.tolerance
        for measure, tolerance in self.fits[:-1]:
            if near.any():
                near[near.clone()] = measure(features[near], self.observed) <= tolerance
        log_weights = log_prior[near] - old.log_mixture(phi[near], factor)
        points = Population(phi[near], log_weights, distances[near], features[near])
        return (points, features, phi) if self.settings.adaptive else (points, features[:0], phi[:0])


def moves(prior: UnconstrainedPrior, old: Population, factor: Tensor, n: int, stream: Stream) -> tuple[Tensor, Tensor]:
    """Points of the mixture and their log prior; what rounds out of the support is drawn again, not simulated."""
    generator = stream.torch()
    phi = old.propose(n, factor, generator)
    log_prior = prior.log_prob(phi)
    for _ in range(REDRAWS):
        outside = ~torch.isfinite(log_prior)
        if not outside.any():
            return phi, log_prior
        phi[outside] = old.propose(int(outside.sum()), factor, generator)
        log_prior[outside] = prior.log_prob(phi[outside])
    raise RuntimeError(f"prior: no finite log_prob at {REDRAWS} successive moves inside its support")


def _batch_size(missing: int, size: int, rate: float) -> int:
    """How many to simulate next: not quite enough at first, so that little is simulated in vain at the end."""
    aim = 0.9 * missing if missing > 0.2 * size else missing + math.sqrt(missing)
    return min(math.ceil(aim / max(rate, aim / BATCH)), BATCH)
