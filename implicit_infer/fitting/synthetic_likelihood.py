r"""Synthetic likelihood: summaries are taken for normal, with a mean and a covariance that simulations tell.

.. math:: \ell_s(\theta) = \sum_{i=1}^m \log N(s(x_i);\ \hat\mu_\theta, \hat\Sigma_\theta)

with :math:`\hat\mu_\theta, \hat\Sigma_\theta` of R simulations at :math:`\theta`. It is noisy, and as good as the
summaries are normal and tell of theta. A search of three steps spends the budget: points of the prior; an evolution
strategy from the best of them; and rounds of points around the maximum, each with a quadratic fitted to all points
near it. The last quadratic gives the estimate and, by its curvature, the standard errors; what the scatter of
:math:`\ell_s` about the quadratic adds to the error of its maximum is counted as well. (Wood walks with a Markov chain
and fits his quadratic to its points; ours are chosen.)

Where replicates are few, correlations of the summaries are shrunk towards zero by the share that minimises the expected
error (Schäfer & Strimmer, 2005), which vanishes with many.

References:
    | Statistical inference for noisy nonlinear ecological dynamic systems (Wood, 2010)
    | https://doi.org/10.1038/nature09319
    | A shrinkage approach to large-scale covariance matrix estimation (Schäfer & Strimmer, 2005)
    | https://doi.org/10.2202/1544-6115.1175
    | Bayesian synthetic likelihood (Price et al., 2018)
    | https://doi.org/10.1080/10618600.2017.1302882
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_infer.abc.synthetic.covariance import Optimal, standardised
from implicit_infer.fitting.base import FitMethod, Trace
from implicit_infer.fitting.cma import EvolutionStrategy
from implicit_infer.fitting.likelihood_fit import LikelihoodFit
from implicit_infer.fitting.quadratic import Quadratic
from implicit_infer.fitting.question import FitQuestion
from implicit_infer.fitting.space import Space
from implicit_infer.fitting.surface import Range, Surface
from implicit_infer.fitting.verdict import reserved
from implicit_infer.progress import track
from implicit_simulators import Stream

SHARES = (0.2, 0.3)
"""Shares of the budget for points of the prior and for the evolution strategy; the rest is for the rounds."""

WIDTH = 2.0
"""Spread of the points of a round, in standard errors of the maximum."""


@dataclass(frozen=True)
class SyntheticLikelihood(FitMethod):
    """Maximum likelihood where summaries are taken for normal, with errors from a quadratic around the maximum.

    Args:
        replicates: R, simulations at each point; None leaves the budget 20 points for each coefficient of a quadratic,
            with at most 500 replicates and at least 4 more than there are summaries.
        rounds: Rounds around the maximum.
        test_share: The share of the budget that is kept for the test at the end.

    Raises:
        ValueError: If a number is out of its range.
    """

    replicates: int | None = None
    rounds: int = 3
    test_share: float = 0.1

    name = "synthetic-likelihood"

    def __post_init__(self) -> None:
        if self.replicates is not None and self.replicates < 3:
            raise ValueError(f"replicates: expected an int of at least 3 or None; got {self.replicates}")
        if self.rounds < 1:
            raise ValueError(f"rounds: expected a positive int; got {self.rounds}")

    def fit(self, question: FitQuestion) -> LikelihoodFit:
        """Search, then fit the quadratic."""
        search = _Search(question, self.replicates, reserved(question, self.test_share))
        with track(f"fitting by {self.name}", total=question.budget, show=question.progress) as bar:

            def tell() -> None:
                search.note()
                bar.update(question.spent - bar.done, log_likelihood=search.highest[0])

            search.look(SHARES[0])
            tell()
            search.evolve(SHARES[1], tell)
            for left in range(self.rounds, 0, -1):
                search.refine(left)
                tell()
        return search.result(self.name)


class _Search:
    """The points so far, and the three steps that choose more."""

    def __init__(self, question: FitQuestion, replicates: int | None, kept: int) -> None:
        self.question, self.kept = question, kept
        self.budget = question.budget - kept
        self.space = Space.of(question.simulator, question.seed)
        self.random = Stream.of(question.seed, 3, "sample").torch()
        d = self.space.dim
        self.observed = question.simulator.summarize(question.data).double()
        self.coefficients = (d + 1) * (d + 2) // 2
        least = self.observed.shape[1] + 4
        chosen = replicates or min(500, max(least, self.budget // (20 * self.coefficients)))
        self.replicates = chosen
        if self.budget < 2 * self.coefficients * chosen:
            raise ValueError(
                f"budget: expected at least {2 * self.coefficients * chosen} simulations, twice as many points as a "
                f"quadratic in {d} parameters has coefficients with {chosen} replicates each; got {self.budget}"
            )
        self.v = torch.zeros(0, d, dtype=torch.float64)
        self.values = torch.zeros(0, dtype=torch.float64)
        self.quadratic: Quadratic | None = None
        self.trace = Trace()

    @property
    def highest(self) -> tuple[float, Tensor]:
        """The largest value so far, and where."""
        place = int(self.values.argmax())
        return float(self.values[place]), self.v[place]

    def evaluate(self, v: Tensor) -> Tensor:
        """The synthetic log-likelihood at v with shape (n, d), with shape (n,); minus infinity where it failed."""
        simulator, r = self.question.simulator, self.replicates
        x = self.question.simulate(self.space.theta(v).float().repeat_interleave(r, 0))
        summaries = simulator.summarize(x).double().reshape(len(v), r, -1).cpu()
        values = torch.stack([synthetic_log_likelihood(rows, self.observed) for rows in summaries])
        self.v, self.values = torch.cat((self.v, v)), torch.cat((self.values, values))
        return values

    def points(self, share: float) -> int:
        """Points that a share of the budget pays, as far as it is there."""
        left = self.question.left - self.kept
        return min(int(share * self.budget / self.replicates), left // self.replicates)

    def look(self, share: float) -> None:
        """Points of the prior, and the start where one is given."""
        v = self.space.free(self.question.simulator.sample_prior(max(2, self.points(share)), self.question.seed, 1))
        if self.question.start is not None:
            v[0] = self.space.start(self.question.start)
        self.evaluate(v.double().nan_to_num(posinf=5.0, neginf=-5.0).clamp(-5, 5))

    def evolve(self, share: float, tell: object) -> None:
        """An evolution strategy from the best point."""
        strategy = EvolutionStrategy(self.highest[1], 0.5)
        for _ in range(self.points(share) // strategy.population):
            noise = torch.randn(strategy.population, self.space.dim, generator=self.random, dtype=torch.float64)
            strategy.tell(-self.evaluate(strategy.ask(noise)))
            assert callable(tell)
            tell()

    def centre(self) -> tuple[Tensor, Tensor]:
        """Where to look next, and how widely: by the quadratic, or at first by the tempered values of all points."""
        if self.quadratic is not None:
            return self.quadratic.centre, self.quadratic.covariance
        d = self.space.dim
        log_weight = (self.values - self.values.max()).nan_to_num(neginf=-1e300)
        for _ in range(60):  # until several times as many points count as there are directions
            weight = log_weight.softmax(0)
            if 1 / float(weight.square().sum()) >= max(2 * d + 1, len(weight) / 8):
                break
            log_weight = log_weight / 1.5
        centre = weight @ self.v
        away = self.v - centre
        return centre, (away.T * weight) @ away + 1e-4 * torch.eye(d, dtype=torch.float64)

    def refine(self, rounds_left: int) -> None:
        """A round of points around the maximum, and the quadratic of all points near it."""
        count = (self.question.left - self.kept) // self.replicates // rounds_left
        centre, covariance = self.centre()
        width = WIDTH if self.quadratic is not None else 1.0
        root = width * torch.linalg.cholesky(covariance)
        if count:
            noise = torch.randn(count, self.space.dim, generator=self.random, dtype=torch.float64)
            self.evaluate(centre + noise @ root.T)
        least = 0.5 * self.observed.numel() / self.replicates + 0.1
        self.quadratic = Quadratic.fit(self.v, self.values, centre, width**2 * covariance, least)

    def note(self) -> None:
        """A step of the trace."""
        best = self.highest[1] if self.quadratic is None else self.quadratic.centre
        theta = self.space.theta(best[None])[0].float()
        self.trace.note(self.question.spent, theta, log_likelihood=self.highest[0])

    def result(self, name: str) -> LikelihoodFit:
        """The fit by the last quadratic."""
        made = self.quadratic
        assert made is not None
        reach = Range(made.origin, torch.linalg.inv(made.region), made.radius)
        surface = Surface(self.space, made, reach, made.centre[None], made.noise)
        failed = int((~torch.isfinite(self.values)).sum())
        figures = {
            "replicates": self.replicates,
            "points": len(self.values),
            "points_failed": failed,
            "points_fitted": made.rows,
            "scatter": made.scatter,
        }
        warnings = []
        if made.bent:
            warnings.append(
                "the quadratic around the maximum did not curve down in every direction: the synthetic likelihood is "
                "too noisy or not yet near its maximum; a larger budget may help"
            )
        return LikelihoodFit(
            self.question, surface, method=name, trace=self.trace, kept=self.kept, figures=figures, warnings=warnings
        )


def synthetic_log_likelihood(summaries: Tensor, observed: Tensor) -> Tensor:
    r"""The normal log-likelihood of observed summaries, with mean and covariance of simulated ones.

    Args:
        summaries: Of R simulations, with shape (R, k); rows that are not finite are left out.
        observed: Of m independent observations, with shape (m, k).

    Returns:
        The log-likelihood of all, with shape (); minus infinity where fewer than half of the simulations, or fewer than
        3, are left.
    """
    fine = summaries[torch.isfinite(summaries).all(1)]
    if len(fine) < max(3, len(summaries) // 2):
        return summaries.new_full((), -torch.inf)
    m, k = observed.shape
    covariance = shrunk_covariance(fine)
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if bool(failed):
        return summaries.new_full((), -torch.inf)
    centred = torch.linalg.solve_triangular(factor, (observed - fine.mean(0)).T, upper=False)
    # the inverse of an estimated covariance is too large by this factor on average (Hartlap et al., 2007)
    unbiased = max(len(fine) - k - 2, 1) / (len(fine) - 1)
    return -0.5 * unbiased * centred.square().sum() - m * (
        factor.diagonal().log().sum() + 0.5 * k * math.log(2 * math.pi)
    )


def shrunk_covariance(rows: Tensor) -> Tensor:
    """The covariance of rows, its correlations shrunk by :class:`implicit_infer.abc.synthetic.covariance.Optimal`.

    Args:
        rows: With shape (n, k), n at least 3.

    Returns:
        The covariance with shape (k, k), positive definite. A column without spread has a tiny one.
    """
    z, valid, _, scale = standardised(rows[None])
    return scale[0, :, None] * Optimal()(z, valid)[0] * scale[0]
