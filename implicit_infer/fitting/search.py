r"""Plain search: minimise a discrepancy between draws and data that can only be evaluated, and noisily.

.. math:: \hat\theta = \arg\min_\theta \hat D\big(x_{\text{data}},\ x_1, \dots, x_n \sim p(\cdot \mid \theta)\big)

Every evaluation spends n simulations, with fresh noise. Two classics do the searching, in the unconstrained space of
the prior: they are what fits that learn from each simulation are to be measured against.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.comparisons import Comparison
from implicit_infer.fitting.base import Fit, FitMethod, Trace
from implicit_infer.fitting.cma import EvolutionStrategy
from implicit_infer.fitting.discrepancy import check_untrained, discrepancy
from implicit_infer.fitting.question import BudgetSpent, FitQuestion
from implicit_infer.fitting.space import Space
from implicit_infer.fitting.verdict import judge, reserved
from implicit_infer.progress import track
from implicit_simulators import Stream

FIRST_STEP = 0.6
"""First step size of both searches, in units of the prior's spread."""

EVALUATIONS = 100
"""Evaluations for each of d + 2 parameters that the number of draws leaves the budget for, where it is not given."""


class Objective:
    """The discrepancy as a function of unconstrained parameters, with the budget that it spends.

    Args:
        question: The question.
        method: Whose comparison, window and draws these are.
    """

    def __init__(self, question: FitQuestion, method: Search) -> None:
        self.question = question
        self.kept = reserved(question, method.test_share)
        self.space = Space.of(question.simulator, question.seed)
        self.value = discrepancy(question, method.comparison, method.window)
        suggested = (question.left - self.kept) // (EVALUATIONS * (question.simulator.dim + 2))
        self.draws = method.draws or min(200, max(10, suggested))
        self.trace = Trace()
        self.best: tuple[float, Tensor] = (math.inf, self.space.start(question.start).double())

    def __call__(self, v: Tensor) -> Tensor:
        """Values with shape (n,) at v with shape (n, d).

        Raises:
            BudgetSpent: If fewer simulations are left than that takes.
        """
        simulator = self.question.simulator
        if len(v) * self.draws > self.question.left - self.kept:
            raise BudgetSpent(f"{self.question.left - self.kept} simulations are left to search with")
        theta = self.space.theta(v).float()
        x = self.question.simulate(theta.repeat_interleave(self.draws, 0))
        values = torch.tensor(
            [self.value(part) for part in x.reshape(len(v), self.draws, *simulator.event_shape)], dtype=torch.float64
        )
        low = int(values.nan_to_num(nan=math.inf).argmin())
        if float(values[low]) < self.best[0]:
            self.best = (float(values[low]), v[low].clone())
        return values

    def fit(self, v: Tensor, method: FitMethod) -> Fit:
        """The fit that says v, with shape (d,)."""
        warnings = []
        if not math.isfinite(self.best[0]):
            warnings.append(f"no evaluation succeeded: the budget of {self.question.budget} gave no finite discrepancy")
        theta = self.space.theta(v[None])[0].float()
        verdict, more = judge(self.question, theta, self.kept)
        return Fit(
            self.question.simulator,
            self.question.data,
            theta,
            method=method.name,
            simulations=self.question.spent,
            trace=self.trace,
            figures={"draws": self.draws, "least_discrepancy": self.best[0], **verdict},
            warnings=[*warnings, *more],
        )


@dataclass(frozen=True)
class Search(FitMethod):
    """What both searches have: how draws are held against data, and how many of them.

    Args:
        comparison: An untrained comparison ("mmd", "energy", "sliced-wasserstein", ...) or "summaries"; None takes the
            energy distance where the data give several rows, and the distance of summaries where they are one.
        window: Length of the stretches of a series that are compared (:class:`View`), or None for whole observations.
        draws: Simulations for each evaluation; None leaves the budget 100 (d + 2) evaluations, with 10 to 200 draws.
        test_share: The share of the budget that is kept for the test at the end.

    Raises:
        ValueError: If the comparison has a critic to train, or ``draws`` is below 2.
    """

    comparison: str | Comparison | None = None
    window: int | None = None
    draws: int | None = None
    test_share: float = 0.1

    compares = True

    def __post_init__(self) -> None:
        check_untrained(self.comparison)
        if self.draws is not None and self.draws < 2:
            raise ValueError(f"draws: expected an int of at least 2 or None; got {self.draws}")

    def fit(self, question: FitQuestion) -> Fit:
        """Search until the budget is spent."""
        objective = Objective(question, self)
        if 2 * objective.draws > question.left - objective.kept:
            raise ValueError(
                f"budget: expected two evaluations of {objective.draws} draws at least; {question.left} are left"
            )
        with track(f"fitting by {self.name}", total=question.left - objective.kept, show=question.progress) as bar:

            def tell(v: Tensor, value: float) -> None:
                objective.trace.note(question.spent, objective.space.theta(v[None])[0].float(), discrepancy=value)
                bar.update(question.spent - bar.done, discrepancy=value)

            v = self.search(objective, tell)
        return objective.fit(v, self)

    def search(self, objective: Objective, tell: Callable[[Tensor, float], None]) -> Tensor:
        """Where the least value is, with shape (d,); ``tell`` is to be called as the search goes."""
        raise NotImplementedError(f"{type(self).__name__} must write search(objective, tell)")


@dataclass(frozen=True)
class CMAES(Search):
    """An evolution strategy with an adapted covariance, on a discrepancy that needs no training.

    The estimate is the mean of the last generation, which averages over the noise that the best value picks out. Where
    the strategy has converged (steps below 1e-4 of the prior's spread) before the budget is spent, it starts again
    with twice the population, and the best point that was seen decides between the runs.

    References:
        | The CMA Evolution Strategy: A Tutorial (Hansen, 2016)
        | https://arxiv.org/abs/1604.00772
        | A restart CMA evolution strategy with increasing population size (Auger & Hansen, 2005)
        | https://doi.org/10.1109/CEC.2005.1554902

    Args:
        comparison: See :class:`Search`.
        window: See :class:`Search`.
        draws: See :class:`Search`.
        test_share: See :class:`Search`.
        population: Points of the first generation; None for 4 + 3 log d.

    Raises:
        ValueError: If the comparison has a critic to train, or a number is out of its range.
    """

    population: int | None = None

    name = "cma-es"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.population is not None and self.population < 4:
            raise ValueError(f"population: expected an int of at least 4 or None; got {self.population}")

    def search(self, objective: Objective, tell: Callable[[Tensor, float], None]) -> Tensor:
        """Generation after generation."""
        start = objective.best[1]
        random = Stream.of(objective.question.seed, 2, "sample").torch()
        strategy = EvolutionStrategy(start, FIRST_STEP, self.population)
        ended: list[tuple[float, Tensor]] = []
        best = math.inf
        try:
            while True:
                noise = torch.randn(strategy.population, len(start), generator=random, dtype=torch.float64)
                values = objective(strategy.ask(noise))
                strategy.tell(values)
                best = min(best, float(values.nan_to_num(nan=math.inf).min()))
                tell(strategy.mean, float(values.nan_to_num(nan=math.inf).min()))
                if float(strategy.spread.max()) < 1e-4:
                    ended.append((best, strategy.mean))
                    strategy, best = EvolutionStrategy(start, FIRST_STEP, 2 * strategy.population), math.inf
        except BudgetSpent:
            ended.append((best, strategy.mean))
        return min(ended, key=lambda run: run[0])[1]


@dataclass(frozen=True)
class NelderMead(Search):
    """A simplex that crawls downhill, on a discrepancy that needs no training.

    The simplex shrinks where noise hides the slope: it starts again around the best point, half as large each time,
    until the budget is spent.

    References:
        | A simplex method for function minimization (Nelder & Mead, 1965)
        | https://doi.org/10.1093/comjnl/7.4.308
        | Implementing the Nelder-Mead simplex algorithm with adaptive parameters (Gao & Han, 2012)
        | https://doi.org/10.1007/s10589-010-9329-3

    Args:
        comparison: See :class:`Search`.
        window: See :class:`Search`.
        draws: See :class:`Search`.
        test_share: See :class:`Search`.

    Raises:
        ValueError: If the comparison has a critic to train, or ``draws`` is below 2.
    """

    name = "nelder-mead"

    def search(self, objective: Objective, tell: Callable[[Tensor, float], None]) -> Tensor:
        """Simplex after simplex."""
        from scipy.optimize import minimize

        d, step = len(objective.best[1]), FIRST_STEP

        def at(point: Any) -> float:
            v = torch.as_tensor(point, dtype=torch.float64)
            value = float(objective(v[None])[0])
            tell(objective.best[1], value)
            return value if math.isfinite(value) else 1e300

        try:
            while True:
                start = objective.best[1]
                simplex = torch.cat((start[None], start + step * torch.eye(d, dtype=torch.float64)))
                options: Any = {
                    "initial_simplex": simplex.numpy(),
                    "xatol": 0.05 * step,
                    "fatol": 0.0,
                    "maxfev": 40 * (d + 1),
                    "adaptive": d > 2,
                }
                minimize(at, start.numpy(), method="Nelder-Mead", options=options)
                step = max(0.5 * step, 1e-4)
        except BudgetSpent:
            return objective.best[1]
