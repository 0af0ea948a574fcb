r"""Model choice by sequential Monte Carlo: particles that carry their model along.

Each generation draws a model of the last one's probabilities, keeps it with probability :math:`\kappa` and else takes
one of the others that are left; then a parameter of that model's own population, moved by its own kernel; and keeps
what lands within the tolerance, with the weight

.. math:: w \propto \frac{P(m)\, p(\theta \mid m)}{\Big(\sum_{m'} P_{t-1}(m')\, K(m \mid m')\Big)
    \sum_j w_{t-1}^{(m, j)} N(\theta; \theta^{(m, j)}, \Sigma_m)}

A model's probability is the sum of its particles' weights. A model that has lost its last particle is out, as nothing
can move it any more (Toni et al., 2009). The budget is exact: what the last generation has simulated when it runs out
is joined with the generation before, at the smallest tolerance that leaves the asked number of particles.

References:
    | ABC scheme for parameter inference and model selection in dynamical systems (Toni et al., 2009)
    | https://doi.org/10.1098/rsif.2008.0172
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from implicit_infer.abc.distances import Distance, PNorm
from implicit_infer.abc.model_choice.base import ChoiceMethod, ModelChoice, ModelQuestion
from implicit_infer.abc.population import Population
from implicit_infer.abc.space import UnconstrainedPrior
from implicit_infer.progress import track
from implicit_simulators import Stream

FEW = 10
"""Particles below which a model's probability is little more than chance."""

REDRAWS = 100


@dataclass(frozen=True)
class SMCChoice(ChoiceMethod):
    r"""Sequential Monte Carlo over models and parameters.

    Args:
        particles: Particles of a generation, of all models together; None takes a fiftieth of the budget, at least 200
            and at most 2,000.
        quantile: The next tolerance is this quantile of the present distances.
        stay: :math:`\kappa`, the probability of keeping the model, in (0, 1).
        distance: How simulations are compared with the observation; fitted to the first generation.

    Raises:
        ValueError: If a setting is out of its range.
    """

    name: ClassVar[str] = "smc"

    particles: int | None = None
    quantile: float = 0.4
    stay: float = 0.7
    distance: Distance = field(default_factory=PNorm)

    def __post_init__(self) -> None:
        if self.particles is not None and self.particles < 10:
            raise ValueError(f"particles: expected an int of at least 10 or None; got {self.particles}")
        for name in ("quantile", "stay"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a number in (0, 1); got {getattr(self, name)}")

    def choose(self, question: ModelQuestion) -> ModelChoice:
        """Run generations until the budget is spent.

        Raises:
            ValueError: If every simulation of the first generation failed.
            TypeError: If a prior has no density on a continuous support.
        """
        run = _Run(self, question)
        with track("choosing a model", total=question.budget, show=question.progress) as bar:
            run.first()
            bar.update(run.spent)
            while run.spent < question.budget and run.next():
                bar.update(run.spent - bar.done, tolerance=run.tolerance)
        weights = torch.stack([run.mass(m) for m in range(len(run.table.priors))])
        warnings = []
        small = [name for name, count in zip(question.names, run.counts(), strict=True) if count < FEW]
        if small:
            warnings.append(f"{', '.join(small)}: fewer than {FEW} particles are left, so that the share is chance")
        if run.ess < 0.2 * len(run.table):
            warnings.append(f"the weights have collapsed: {len(run.table)} particles are worth {run.ess:.0f}")
        return self.answer(question, weights, run.spent, run.figures(), warnings)


@dataclass(frozen=True)
class _Table:
    """Particles of all models: each with its model, and its point in the model's own space."""

    priors: tuple[UnconstrainedPrior, ...]
    model: Tensor
    phi: Tensor
    log_weights: Tensor
    distances: Tensor

    def __len__(self) -> int:
        return len(self.model)

    def take(self, which: Tensor) -> _Table:
        log_weights = self.log_weights[which]
        log_weights = log_weights - log_weights.logsumexp(0)
        return _Table(self.priors, self.model[which], self.phi[which], log_weights, self.distances[which])

    def join(self, other: _Table) -> _Table:
        """Both, with the weights that they have."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("model", "phi", "log_weights", "distances"))
        return _Table(self.priors, *(torch.cat(pair) for pair in pairs))

    @property
    def ess(self) -> float:
        return float(torch.exp(2 * self.log_weights.logsumexp(0) - (2 * self.log_weights).logsumexp(0)))


class _Run:
    def __init__(self, settings: SMCChoice, question: ModelQuestion) -> None:
        self.settings, self.question = settings, question
        self.priors = tuple(UnconstrainedPrior(simulator) for simulator in question.simulators)
        self.size = settings.particles or min(2000, max(200, question.budget // 50))
        self.size = min(self.size, question.budget)
        self.random = Stream.of(question.seed, len(self.priors), "split").torch()
        self.spent = self.failed = 0
        self.blocks = [0] * len(self.priors)
        self.tolerance = math.inf
        self.path: list[dict[str, Any]] = []
        self.table: _Table

    @property
    def ess(self) -> float:
        return self.table.ess

    def counts(self) -> list[int]:
        counts: list[int] = torch.bincount(self.table.model, minlength=len(self.priors)).tolist()
        return counts

    def mass(self, m: int) -> Tensor:
        """A model's probability in the present generation."""
        return self.table.log_weights[self.table.model == m].exp().sum()

    def first(self) -> None:
        question, distance = self.question, self.settings.distance
        n = min(math.ceil(self.size / self.settings.quantile), question.budget)
        model, theta, features = question.bank(n, distance)
        observed = question.observed_features(distance)
        measure = distance.fit(features)
        self.measure = lambda of: measure(of, observed)
        self.spent, self.failed = n, int((~torch.isfinite(features).all(1)).sum())
        self.blocks = [
            -(-len(part) // simulator.block) for part, simulator in zip(theta, question.simulators, strict=True)
        ]
        widest = max(
            part.shape[1] for part in (prior.to(rows[:1]) for prior, rows in zip(self.priors, theta, strict=True))
        )
        free = [prior.to(rows) for prior, rows in zip(self.priors, theta, strict=True)]
        phi = torch.cat([torch.nn.functional.pad(part, (0, widest - part.shape[1])) for part in free])
        self.widths = [part.shape[1] for part in free]
        self.prior_scale = [
            part.std(0).clamp_min(1e-6) if len(part) > 1 else torch.ones(part.shape[1]) for part in free
        ]
        counts = torch.tensor([len(part) for part in theta])
        log_weights = (torch.tensor(question.prior, dtype=torch.float64) / counts).log()[model]
        distances = self.measure(features)
        nearest, rows = distances.topk(min(self.size, n), largest=False)
        rows = rows[torch.isfinite(nearest)]
        self.table = _Table(self.priors, model, phi, log_weights, distances).take(rows)
        self._record(float(self.table.distances.max()), n)

    def next(self) -> bool:
        """One generation; whether another may follow."""
        old, begun = self.table, self.spent
        tolerance = float(old.distances.kthvalue(max(1, math.ceil(self.settings.quantile * len(old)))).values)
        if tolerance >= self.tolerance:
            smaller = old.distances[old.distances < self.tolerance]
            if not len(smaller):
                return False
            tolerance = float(smaller.max())
        populations, factors = zip(*(self._population(m) for m in range(len(self.priors))), strict=True)
        log_model = self._moved()
        fresh: _Table | None = None
        accepted = 0
        while accepted < self.size and self.spent < self.question.budget:
            proposed = self.spent - begun
            rate = max(accepted, 1) / max(proposed, self.size)
            n = min(math.ceil((self.size - accepted) / rate), self.question.budget - self.spent, 10 * self.size)
            batch = self._batch(n, populations, factors, log_model)
            fresh = batch if fresh is None else fresh.join(batch)
            accepted = int((fresh.distances <= tolerance).sum())
        assert fresh is not None
        near = (fresh.distances <= tolerance).nonzero()[:, 0]
        if len(near) >= self.size:
            self.table = fresh.take(near[: self.size])
        else:
            self.table, tolerance = _mixed(old, fresh, self.size)
        self._record(tolerance, self.spent - begun)
        return True

    def _population(self, m: int) -> tuple[Population | None, Tensor | None]:
        """A model's own particles and the Cholesky factor of their kernel; none if it is out."""
        rows = self.table.model == m
        if not rows.any():
            return None, None
        part, p = self.table.take(rows), self.widths[m]
        population = Population(part.phi[:, :p], part.log_weights, part.distances, part.distances[:, None])
        _, covariance = population.covariance()
        # a few particles cannot tell a covariance: the prior's, on a small scale, takes its place
        alone = (0.2 * self.prior_scale[m]).square().diag().double()
        few = len(part.phi.unique(dim=0)) < p + 3
        factor, failed = torch.linalg.cholesky_ex(alone if few else 2 * covariance + 1e-4 * alone)
        return population, alone.sqrt() if bool(failed) else factor

    def _moved(self) -> Tensor:
        """Log probabilities of proposing each model: the last generation's, moved by the kernel."""
        mass = torch.stack([self.mass(m) for m in range(len(self.priors))])
        alive = mass > 0
        others = int(alive.sum()) - 1
        if others == 0:
            return mass.log()
        moved = self.settings.stay * mass + (1 - self.settings.stay) * (mass.sum() - mass) / others
        return torch.where(alive, moved, 0.0).log()

    def _batch(
        self, n: int, populations: tuple[Population | None, ...], factors: tuple[Tensor | None, ...], log_model: Tensor
    ) -> _Table:
        """Propose and simulate ``n`` particles, model by model; all of them, in no particular order of models."""
        drawn = torch.multinomial(log_model.exp(), n, replacement=True, generator=self.random)
        phi = torch.zeros(n, self.table.phi.shape[1], dtype=torch.float64)
        log_weights = torch.full((n,), -torch.inf, dtype=torch.float64)
        distances = torch.full((n,), torch.inf)
        for m, (population, factor) in enumerate(zip(populations, factors, strict=True)):
            rows = (drawn == m).nonzero()[:, 0]
            if not len(rows):
                continue
            assert population is not None
            assert factor is not None
            points, log_prior = self._inside(m, population, factor, len(rows))
            x = self.question.simulate(m, self.priors[m].back(points), self.blocks[m])
            self.blocks[m] += -(-len(points) // self.question.simulators[m].block)
            features = self.question.features(self.settings.distance, x)
            self.failed += int((~torch.isfinite(features).all(1)).sum())
            phi[rows, : self.widths[m]] = points
            distances[rows] = self.measure(features).to(distances)
            proposal = log_model[m] + population.log_mixture(points, factor)
            log_weights[rows] = math.log(self.question.prior[m]) + log_prior - proposal
        self.spent += n
        return _Table(self.priors, drawn, phi, log_weights, distances)

    def _inside(self, m: int, population: Population, factor: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """Proposals in the prior's support; what rounds out of it is drawn again."""
        phi = population.propose(n, factor, self.random)
        log_prior = self.priors[m].log_prob(phi)
        for _ in range(REDRAWS):
            outside = ~torch.isfinite(log_prior)
            if not outside.any():
                return phi, log_prior
            phi[outside] = population.propose(int(outside.sum()), factor, self.random)
            log_prior[outside] = self.priors[m].log_prob(phi[outside])
        raise RuntimeError(f"prior: no finite log_prob at {REDRAWS} successive moves inside its support")

    def _record(self, tolerance: float, simulations: int) -> None:
        self.tolerance = tolerance
        self.path.append(
            {
                "tolerance": tolerance,
                "simulations": simulations,
                "ess": self.ess,
                "probabilities": [float(self.mass(m)) for m in range(len(self.priors))],
            }
        )

    def figures(self) -> dict[str, Any]:
        return {
            "particles": len(self.table),
            "particles_of_each": self.counts(),
            "ess": self.ess,
            "tolerance": self.tolerance,
            "generations": len(self.path),
            "failed": self.failed,
            "paths": {name: [entry[name] for entry in self.path] for name in self.path[0]},
        }


def _mixed(old: _Table, fresh: _Table, size: int) -> tuple[_Table, float]:
    """Two generations joined at the smallest tolerance that leaves ``size`` particles, by effective sample sizes."""
    distances = torch.cat([old.distances, fresh.distances])
    tolerance = float(distances.kthvalue(min(size, len(distances))).values)
    near = [part.take(part.distances <= tolerance) for part in (old, fresh) if (part.distances <= tolerance).any()]
    total = sum(part.ess for part in near)
    first, *rest = (
        _Table(part.priors, part.model, part.phi, part.log_weights + math.log(part.ess / total), part.distances)
        for part in near
    )
    for part in rest:
        first = first.join(part)
    return first, tolerance
