r"""Rejection ABC: simulate from the prior and keep what lands nearest the observation.

.. math:: \pi_\delta(\theta \mid x_o) \propto p(\theta)\, P\left(d(x, x_o) \le \delta \mid \theta\right)

The bank of simulations does not depend on the observation, so one bank answers any observation: it is only ranked
again.

References:
    | Population growth of human Y chromosomes (Pritchard et al., 1999)
    | https://doi.org/10.1093/oxfordjournals.molbev.a026091
    | Approximate Bayesian computation in population genetics (Beaumont, Zhang & Balding, 2002)
    | https://doi.org/10.1093/genetics/162.4.2025
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from implicit_infer.abc.adjustment import Adjustment, resolve_adjustment
from implicit_infer.abc.bank import Bank
from implicit_infer.abc.distances import Distance, PNorm
from implicit_infer.abc.particles import Particles
from implicit_infer.abc.posterior import ParticlePosterior
from implicit_infer.abc.smoothing import smoothed
from implicit_infer.abc.space import UnconstrainedPrior
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.runs import Runs
from implicit_infer.stored import StoredRuns


@dataclass(frozen=True)
class RejectionABC(Method):
    r"""Keep the simulations nearest the observation: by number, by share, or within a tolerance.

    Give at most one of ``keep``, ``quantile`` and ``tolerance``. With none, 1 % of the budget is kept, but at least 100
    simulations: at 1,000 and 10,000 simulations this is what the SBI benchmark keeps (Lueckmann et al., 2021), and with
    larger budgets the number grows along. Keeping k of n trades bias (a wide tolerance) against few distinct draws; the
    best k for a density estimate grows like :math:`n^{(d + 4) / (d + m + 4)}` with m summaries (Biau, Cérou & Guyader,
    2015).

    Args:
        keep: How many of the nearest to keep.
        quantile: Which share of the budget to keep, in (0, 1].
        tolerance: Keep all within this distance, in units of the distance (for ``PNorm``: robust standard deviations).
        distance: How simulations are compared with the observation; its scales are fitted to the whole bank.
        adjust: Regression adjustment of the kept parameters, by its name in :mod:`implicit_infer.abc.adjustment`
            ("linear", ...) or with its settings; "none" leaves them.
        smooth: Whether draws are of a normal law about each kept simulation, of its neighbours' shape
            (:mod:`implicit_infer.abc.smoothing`), so that no two are alike; otherwise they are the kept simulations.

    Raises:
        ValueError: If more than one rule is given, or a setting is out of its range.
    """

    name: ClassVar[str] = "rejection-abc"
    amortised: ClassVar[bool] = True

    keep: int | None = None
    quantile: float | None = None
    tolerance: float | None = None
    distance: Distance = field(default_factory=PNorm)
    adjust: str | Adjustment = "none"
    smooth: bool = False

    def __post_init__(self) -> None:
        rules = {name: getattr(self, name) for name in ("keep", "quantile", "tolerance")}
        given = [f"{name}={value}" for name, value in rules.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"keep, quantile, tolerance: expected at most one; got {', '.join(given)}")
        if self.keep is not None and self.keep < 1:
            raise ValueError(f"keep: expected a positive int; got {self.keep}")
        if self.quantile is not None and not 0 < self.quantile <= 1:
            raise ValueError(f"quantile: expected a number in (0, 1]; got {self.quantile}")
        if self.tolerance is not None and not self.tolerance >= 0:
            raise ValueError(f"tolerance: expected a non-negative number; got {self.tolerance}")
        resolve_adjustment(self.adjust)

    def kept(self, budget: int) -> int:
        """How many simulations are kept of ``budget``, where no tolerance is given."""
        if self.keep is not None:
            return min(self.keep, budget)
        if self.quantile is not None:
            return max(1, round(self.quantile * budget))
        return min(max(math.ceil(budget / 100), 100), budget)

    def infer(self, question: Question) -> RejectionPosterior:
        """Simulate ``question.budget`` times from the prior and rank.

        Raises:
            ValueError: If nothing is accepted, every simulation failed, or the observation's summaries are not finite.
        """
        posterior = RejectionPosterior(self, question, question.runs())
        accepted = posterior.accept(question.observed)
        posterior.figures.update(
            accepted=len(accepted.rows),
            tolerance=accepted.tolerance,
            acceptance=len(accepted.rows) / posterior.simulations,
            ess=posterior.particles().ess,
            failed=posterior.failed,
        )
        if posterior.failed:
            posterior.warnings.append(
                f"{posterior.failed} of {posterior.simulations} simulations failed and can never be accepted"
            )
        if posterior.adjustment is not None:
            regressors = posterior.measure.regressors(posterior.features[:1]).shape[1]
            posterior.warnings.extend(filter(None, [posterior.adjustment.doubts(len(accepted.rows), regressors)]))
        return posterior


@dataclass(frozen=True)
class Accepted:
    """What was kept for one observation.

    Attributes:
        rows: Rows of the bank, with shape (k,), nearest first.
        distances: Their distances, with shape (k,).
        tolerance: The largest distance that was kept, or the tolerance that was asked for.
    """

    rows: Tensor
    distances: Tensor
    tolerance: float


class RejectionPosterior(ParticlePosterior):
    """A bank of simulations that is ranked for whatever observation is asked about.

    Args:
        settings: The method.
        question: What was asked.
        runs: The bank.
    """

    def __init__(self, settings: RejectionABC, question: Question, runs: Runs | StoredRuns) -> None:
        super().__init__(question.simulator, question.observed, method=settings.name, simulations=len(runs))
        self.settings = settings
        self.bank = Bank(settings.distance, self.simulator, runs)
        self.features = self.bank.sample
        self.failed = self.bank.failed()
        self.adjustment = resolve_adjustment(settings.adjust)
        wanted = self.adjustment is not None or settings.distance.learned or settings.smooth
        self._prior = UnconstrainedPrior(self.simulator) if wanted else None
        theta = self._prior.to(self.bank.theta) if settings.distance.learned and self._prior else None
        self.measure = settings.distance.fit(self.features, theta)

    def accept(self, x: Tensor) -> Accepted:
        r"""The simulations that are kept for one observation with shape ``event_shape``.

        Raises:
            ValueError: If there are none.
        """
        observed = self._observed_features(x)
        distances = torch.cat([self.measure(features, observed) for features in self.bank.parts()])
        if self.settings.tolerance is None:
            k = min(self.settings.kept(self.simulations), self.simulations)
            nearest, rows = distances.topk(k, largest=False)
            within = torch.isfinite(nearest)
            tolerance = float(nearest[within].max()) if within.any() else math.inf
        else:
            nearest, rows = distances.sort()
            tolerance = self.settings.tolerance
            within = (nearest <= tolerance) & torch.isfinite(nearest)
        if not within.any():
            raise ValueError(
                f"tolerance: none of {self.simulations} simulations is within {tolerance:.4g} of the observation; "
                f"the nearest is at {float(distances.min()):.4g}"
            )
        return Accepted(rows[within], nearest[within], tolerance)

    def particles(self, x: Tensor | None = None, seed: int = 0) -> Particles:
        """The kept parameters for one observation, adjusted if that was asked for, with their weights."""
        x = self.observed if x is None else x
        accepted = self.accept(x)
        theta, features = self.bank.take(accepted.rows)
        equal = torch.zeros(len(theta), dtype=torch.float64)
        if self.adjustment is None or self._prior is None:
            return Particles(theta, equal)
        regressors = self.measure.regressors(features)
        observed = self.measure.regressors(self._observed_features(x)[None])[0]
        phi, log_weights = self.adjustment.adjust(
            self._prior.to(theta), regressors, observed, accepted.distances, equal, seed
        )
        return Particles(self._prior.back(phi), log_weights)

    def _draw(self, n: int, particles: Particles, generator: torch.Generator) -> tuple[Tensor, int]:
        if not self.settings.smooth or self._prior is None:
            return super()._draw(n, particles, generator)
        drawn = self._prior.back(smoothed(self._prior.to(particles.theta), particles.log_weights, n, generator))
        return drawn, len(drawn.unique(dim=0))

    def _observed_features(self, x: Tensor) -> Tensor:
        features = self.settings.distance.features(self.simulator, x[None])[0]
        if not torch.isfinite(features).all():
            raise ValueError("observed: its summary statistics are not finite")
        return features
