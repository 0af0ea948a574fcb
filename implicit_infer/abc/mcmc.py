r"""ABC-MCMC: many chains that walk among parameters whose simulations are near the observation.

.. math:: \pi_\epsilon(\theta \mid x_o) \propto p(\theta)\, P\left(d(x, x_o) \le \epsilon \mid \theta\right)

is left as it is by the moves of ``random_walk.py``. The budget is spent in three phases:

1. *pilot*: rejection. The distance is fitted to its simulations, the tolerance is a quantile of their distances, and
   chains start at those that lie within: draws of the very target, so that there is nothing to burn in.
2. *warm-up*: the covariance of the steps is fitted to the states of all chains again and again
   (:math:`2.38^2 / p` times it; Haario, Saksman & Tamminen, 2001).
3. *frozen*: the proposal changes no more, which makes the chains Markov chains, and their states are what is returned.

A state counts as often as its chain stayed there. ``figures`` has the effective sample size that autocorrelation
leaves and the split R-hat (Gelman et al., 2013), each at its worst parameter.

References:
    | Markov chain Monte Carlo without likelihoods (Marjoram, Molitor, Plagnol & Tavaré, 2003)
    | https://doi.org/10.1073/pnas.0306899100
    | Efficient approximate Bayesian computation coupled with Markov chain Monte Carlo without likelihood
    | (Wegmann, Leuenberger & Excoffier, 2009), who calibrate tolerance and start by rejection
    | https://doi.org/10.1534/genetics.109.102509
    | An adaptive Metropolis algorithm (Haario, Saksman & Tamminen, 2001)
    | https://doi.org/10.2307/3318737
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from implicit_infer.abc.adjustment import Adjustment, resolve_adjustment
from implicit_infer.abc.distances import Distance, PNorm
from implicit_infer.abc.population import Population, joined
from implicit_infer.abc.random_walk import Walkers, step, walk_factor, walkers_of
from implicit_infer.abc.run import Run, SequentialMethod, check_max_time
from implicit_infer.posteriors.method import Question
from implicit_simulators import Stream

DISAGREE = 1.05
"""Split R-hat from which on chains are said to disagree."""

ENOUGH = 100
"""Independent draws below which it is said what the chains are worth."""

SEGMENTS = 20
"""Parts that walking is done in: after each the covariance is fitted, while it may be, and the run is kept."""


@dataclass(frozen=True)
class ABCMCMC(SequentialMethod):
    r"""Many chains at a fixed tolerance, started from rejection, with steps that adapt before they are frozen.

    Args:
        chains: How many chains; None takes one for every 500 simulations of the budget, but from 10 to 1,000.
        pilot: Share of the budget that is spent on rejection, in (0, 1).
        quantile: The tolerance is this quantile of the pilot's distances, in (0, 1).
        tolerance: The tolerance, in place of a quantile.
        warmup: Share of the steps by which the proposal adapts, in [0, 1).
        distance: How simulations are compared with the observation; fitted to the pilot.
        max_time: Seconds after which no block of simulations is begun any more, or None; those in hand are finished.
        adjust: Regression adjustment of the states, by its name in :mod:`implicit_infer.abc.adjustment` ("linear", ...)
            or with its settings; "none" leaves them.

    Raises:
        ValueError: If a setting is out of its range.
    """

    name: ClassVar[str] = "abc-mcmc"

    chains: int | None = None
    pilot: float = 0.25
    quantile: float = 0.05
    tolerance: float | None = None
    warmup: float = 0.2
    distance: Distance = field(default_factory=PNorm)
    max_time: float | None = None
    adjust: str | Adjustment = "none"

    def __post_init__(self) -> None:
        if self.chains is not None and self.chains < 2:
            raise ValueError(f"chains: expected an int of at least 2; got {self.chains}")
        for name in ("pilot", "quantile"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a number in (0, 1); got {getattr(self, name)}")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup: expected a number in [0, 1); got {self.warmup}")
        if self.tolerance is not None and not self.tolerance >= 0:
            raise ValueError(f"tolerance: expected a non-negative number or None; got {self.tolerance}")
        check_max_time(self.max_time)
        resolve_adjustment(self.adjust)

    def size(self, budget: int) -> int:
        """Chains at this budget."""
        return self.chains or min(max(budget // 500, 10), 1000)

    def begin(self, question: Question) -> ChainsRun:
        """A run that has not begun."""
        return ChainsRun(self, question)


class ChainsRun(Run):
    """One run at one observation; a "generation" is the pilot, or a segment of the walk."""

    settings: ABCMCMC
    few = ""

    def __init__(self, settings: ABCMCMC, question: Question) -> None:
        super().__init__(settings, question, settings.size(question.budget))
        self.steps = 0
        self.warm = True
        self.places: list[Tensor] = []
        """Of each frozen segment, which of its states each chain was in at each step, with shape (steps, chains)."""
        self.states: list[Population] = []
        """The states that the chains of each frozen segment were in, one after the other."""
        self.chains: Walkers
        self.factor: Tensor

    def first(self) -> None:
        """Rejection from the prior: the distance, the tolerance, the starts and the first steps' covariance."""
        n = max(2, min(math.ceil(self.settings.pilot * self.question.budget), self.question.budget))
        theta, x = self.simulations.from_prior(n)
        features = self.settings.distance.features(self.simulator, x)
        phi = self.prior.to(theta)
        measure = self.fit(features, phi)
        distances = measure(features, self.observed)
        self.simulations.count(features, distances)
        tolerance = self.settings.tolerance
        if tolerance is None:
            wanted = max(2, math.ceil(self.settings.quantile * len(distances)))
            tolerance = float(distances.kthvalue(min(wanted, len(distances))).values)
        near = ((distances <= tolerance) & torch.isfinite(distances)).nonzero()[:, 0]
        if not len(near):
            raise ValueError(
                f"tolerance: none of {len(x)} simulations of the pilot is within {tolerance:.4g} of the observation; "
                f"the nearest is at {float(distances.min()):.4g}"
            )
        equal = torch.full((len(near),), -math.log(len(near)), dtype=torch.float64, device=phi.device)
        found = Population(phi[near], equal, distances[near], features[near])
        self.population = found
        self.fits = [(measure, tolerance)]
        factor = walk_factor(found)
        if factor is None:
            self.stopped = "the starts are one point"
        else:
            self.factor = factor
        # every start as often as any other; with fewer starts than chains, some chains begin together
        order = torch.randperm(len(near), generator=self._stream().torch()).to(near.device)
        self.chains = walkers_of(self, found.take(order[torch.arange(self.size, device=near.device) % len(near)]))
        self._keep()
        self.record(len(x), len(near) / len(x))

    def following(self) -> None:
        """Walk a segment; fit the steps' covariance to it while they are not frozen."""
        begun, spent_by_pilot = self.simulations.spent, int(self.generations[0]["simulations"])
        if stopped := self._finished():
            self.stopped = stopped
            return
        walk = self.question.budget - spent_by_pilot
        # each step simulates at most once for each chain
        wanted = max(1, math.ceil(walk / self.size / SEGMENTS))
        frozen_from = spent_by_pilot + self.settings.warmup * walk
        self.warm = begun < frozen_from and not self.places
        states, places = [self.chains], [torch.arange(self.size, device=self.factor.device)]
        held, moved_in_all, count = self.size, 0, 0
        while count < wanted and not self._finished():
            self.chains, moved = step(self, self.chains, self.factor, self.tolerance, self._stream())
            fresh = moved.nonzero()[:, 0]
            place = places[-1].clone()
            place[fresh] = held + torch.arange(len(fresh), device=place.device)
            held, moved_in_all, count = held + len(fresh), moved_in_all + len(fresh), count + 1
            places.append(place)
            states.append(Walkers(*(getattr(self.chains, name)[fresh] for name in _PARTS)))
            self.simulations.bar.update(0, acceptance=moved_in_all / (count * self.size))
        if not count:
            self.stopped = self._finished()
            return
        counts = torch.bincount(torch.cat(places[1:]), minlength=held).double()
        segment = joined([one.population() for one in states if len(one.phi)])
        segment = Population(segment.phi, counts.log() - counts.sum().log(), segment.distances, segment.features)
        if self.warm:
            visited = segment.take(counts > 0)
            factor = walk_factor(joined([self.population, visited]))
            self.factor = self.factor if factor is None else factor
            # the newest states tell more of the target than the starts, which were few
            self.population = joined([self.population, visited])
        else:
            self.states.append(segment)
            self.places.append(torch.stack(places[1:]))
            self.population = self._frozen()
            self.kept |= {f"segment_{name}": getattr(segment, name) for name in _KEPT}
            self.kept["places"] = self.places[-1]
        self._keep()
        self.record(self.simulations.spent - begun, moved_in_all / (count * self.size), ess=self._ess())

    def figures(self) -> dict[str, Any]:
        """What the run says of itself, with the chains' own figures."""
        found = super().figures()
        found |= {"chains": self.size, "r-hat": self.r_hat(), "steps": sum(len(part) for part in self.places)}
        return found | {"distinct states": len(self.population.merged())}

    def warnings(self) -> list[str]:
        """What a user should read."""
        found = super().warnings()
        if not self.places:
            return [
                *found,
                "the budget ended before the proposal was frozen: these are the pilot's and warm-up's states",
            ]
        if self.r_hat() > DISAGREE:
            found.append(f"the chains disagree (R-hat {self.r_hat():.2f}): spend a larger budget, or walk fewer chains")
        if (ess := self.generations[-1]["ess"]) < ENOUGH:
            found.append(f"the chains are worth {ess:.0f} independent draws: spend a larger budget")
        never = int((self._path() == self._path()[:1]).all(0).all(-1).sum())
        if never:
            found.append(f"{never} of {self.size} chains never moved: take a larger tolerance or a larger budget")
        return found

    def r_hat(self) -> float:
        """Split R-hat of the worst parameter; 1 is best, infinity where chains cannot be compared."""
        from pyro.ops.stats import split_gelman_rubin

        path = self._path()
        if len(path) < 4:
            return math.inf
        return float(split_gelman_rubin(path, chain_dim=1, sample_dim=0).nan_to_num(math.inf, posinf=math.inf).max())

    def memory(self) -> dict[str, Any]:
        """How many steps were made: each has a stream of its own."""
        return {"steps": self.steps}

    def recall(self, memory: dict[str, Any], files: list[dict[str, Tensor]]) -> None:
        """Go on from there."""
        self.steps = memory["steps"]
        last = files[-1]
        self.chains = Walkers(*(last[f"chains_{name}"] for name in _PARTS))
        self.factor = last["factor"]
        for one in files:
            if "places" in one:
                self.places.append(one["places"])
                self.states.append(Population(*(one[f"segment_{name}"] for name in _KEPT)))

    def _keep(self) -> None:
        self.kept |= {f"chains_{name}": getattr(self.chains, name) for name in _PARTS}
        if not self.stopped:
            self.kept["factor"] = self.factor

    def _finished(self) -> str:
        if stopped := self.simulations.stopped():
            return stopped
        # a last step of some chains only would prefer those that propose what the prior likes
        return "the budget is spent" if self.simulations.left < self.size else ""

    def _frozen(self) -> Population:
        """All states of the frozen segments, each with the share of steps that chains were in it."""
        steps = [math.log(len(part)) for part in self.places]
        parts = [
            Population(one.phi, one.log_weights + log_steps, one.distances, one.features)
            for one, log_steps in zip(self.states, steps, strict=True)
        ]
        visited = joined(parts)
        return visited.take(torch.isfinite(visited.log_weights))

    def _path(self) -> Tensor:
        """The frozen walk, with shape (steps, chains, p)."""
        parts = [one.phi[places] for one, places in zip(self.states, self.places, strict=True)]
        return (
            torch.cat(parts) if parts else self.population.phi.new_empty((0, self.size, self.population.phi.shape[1]))
        )

    def _ess(self) -> float:
        """Effective sample size of the worst parameter, with what autocorrelation takes."""
        from pyro.ops.stats import effective_sample_size

        path = self._path()
        if len(path) < 4:
            return self.population.ess
        return float(effective_sample_size(path, chain_dim=1, sample_dim=0).nan_to_num(0.0).clamp_min(1.0).min())

    def _stream(self) -> Stream:
        self.steps += 1
        return Stream.of(self.simulations.root, self.steps, "sample")


_PARTS = ("phi", "log_prior", "distances", "features")
_KEPT = ("phi", "log_weights", "distances", "features")
