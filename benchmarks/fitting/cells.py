"""One cell of every table: a method, a budget and a seed on a problem, and how the table says what came of it."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_simulators import Simulator

KEYS = ("method", "budget", "seed")
BUDGETS = (2_000, 10_000, 50_000)


@dataclass(frozen=True)
class Effort:
    """What is spent on a method: how many seeds from the first on, and which budgets."""

    seeds: int = 10
    budgets: Sequence[int] = BUDGETS


EFFORTS = {
    "avo": Effort(5),
    "ratio-likelihood": Effort(5, (2_000, 10_000)),
    "local-surrogate": Effort(3, (10_000,)),
}
"""Methods that train networks take seconds where the plain ones take tenths of one: fewer seeds, or fewer budgets."""


@dataclass(frozen=True)
class Problem:
    r"""What is fitted.

    Attributes:
        simulator: Makes the simulator, given the data (which some compare with).
        truth: The parameters that made the data; None for real data.
        data: Makes the data of a seed, with shape (m, \*event_shape).
        deviance: From the simulator, data and parameters to twice the log-likelihood that is lost against the maximum,
            or another error whose unit ``error`` names.
        error: What that is called in the table.
    """

    simulator: Callable[[Tensor], Simulator]
    truth: Sequence[float] | None
    data: Callable[[int], Tensor]
    deviance: Callable[[Simulator, Tensor, Tensor], float]
    error: str = "lost deviance"


def methods(window: int | None = None) -> dict[str, Any]:
    """Every method by the name that tables give it.

    The plain searches minimise the energy distance of draws, or the distance of summaries where there is one series.

    Args:
        window: Length of the stretches that AVO compares of one series; None where there are many observations.
    """
    from implicit_infer.fitting import AVO, CMAES, LocalSurrogate, NelderMead, RatioLikelihood, SyntheticLikelihood

    return {
        "avo": AVO(window=window),
        "ratio-likelihood": RatioLikelihood(),
        "synthetic-likelihood": SyntheticLikelihood(),
        "local-surrogate": LocalSurrogate(),
        "cma-es": CMAES(),
        "nelder-mead": NelderMead(),
    }


def wanted(seeds: list[int], names: Sequence[str], more: dict[str, Effort] | None = None) -> list[dict[str, Any]]:
    """Every method with its budgets; seed by seed, so that a stopped run has whole rows.

    Args:
        seeds: The seeds, of which a method takes those below its number of seeds.
        names: Methods.
        more: Efforts other than those of ``EFFORTS``.
    """
    efforts = EFFORTS | (more or {})
    return [
        {"method": name, "budget": budget, "seed": seed}
        for seed in seeds
        for budget in BUDGETS
        for name in names
        if seed < efforts.get(name, Effort()).seeds and budget in efforts.get(name, Effort()).budgets
    ]


def run(problem: Problem, method: Any, budget: int, seed: int) -> dict[str, Any]:
    """One fit: its parameters, errors and cost."""
    import implicit_infer as ii

    data = problem.data(seed)
    simulator = problem.simulator(data)
    began = time.process_time()
    try:
        fit = ii.fit(simulator, data, method=method, budget=budget, seed=seed, progress=False)
    except ValueError as error:  # a budget may be too small for a method
        return {"failed": str(error), "seconds": time.process_time() - began}
    seconds = time.process_time() - began
    errors = fit.standard_errors
    return {
        "theta": fit.theta.tolist(),
        "standard_errors": None if errors is None else list(errors.values()),
        "deviance": problem.deviance(simulator, data, fit.theta),
        "simulations": fit.simulations,
        "warnings": len(fit.warnings),
        "p_value": fit.figures.get("p_value"),
        "seconds": seconds,
    }


def lost(simulator: Any, data: Tensor, theta: Tensor, best: Tensor) -> float:
    """Twice the log-likelihood that parameters lose against the best ones; below 0 where the best were not quite."""
    pair = torch.stack((theta.double(), best.double()))
    value = sum(simulator.log_likelihood(pair, row.double()).double() for row in data)
    assert isinstance(value, Tensor)
    return 2 * float(value[1] - value[0])


def maximum_likelihood(simulator: Any, data: Tensor, starts: Tensor) -> Tensor:
    """The numerical maximum of an exact likelihood, from several starts, with shape (d,), float64."""
    from scipy.optimize import minimize

    from implicit_simulators import unconstrained

    transform = unconstrained(simulator.prior)

    def at(point: Any) -> tuple[float, Any]:
        u = torch.as_tensor(point, dtype=torch.float64).requires_grad_()
        theta = transform(u[None])
        value = -sum(simulator.log_likelihood(theta, row.double())[0] for row in data)
        assert isinstance(value, Tensor)
        (slope,) = torch.autograd.grad(value, u)
        return float(value.detach()), slope.numpy()

    found = [
        minimize(at, transform.inv(start[None].double())[0].numpy(), jac=True, method="L-BFGS-B") for start in starts
    ]
    best = min(found, key=lambda result: result.fun)
    return transform(torch.as_tensor(best.x)[None])[0]


def tables(problem: Problem, rows: list[dict[str, Any]], names: Sequence[str], extra: str = "") -> str:
    """A row for each method and budget: medians over seeds, with quartiles of the error."""
    simulator = problem.simulator(problem.data(0))
    parameters = simulator.parameter_names
    off = "" if problem.truth is None else " | ".join(f"error of {name}" for name in parameters) + " | "
    lines = [
        f"| method | simulations | {problem.error} (quartiles) | {off}within 2 standard errors | CPU s | seeds |",
        "|" + "---|" * (6 + (0 if problem.truth is None else len(parameters))),
    ]
    for name in names:
        for budget in sorted({row["budget"] for row in rows}):
            some = [row for row in rows if (row["method"], row["budget"]) == (name, budget)]
            done = [row for row in some if "failed" not in row]
            if done:
                lines.append(f"| {name} | {budget} | {_line(problem, done, len(parameters))} | {len(done)} |")
            elif some:
                lines.append(f"| {name} | {budget} | budget too small |" + " |" * (lines[1].count("|") - 4))
    return "\n".join(lines) + (f"\n\n{extra}" if extra else "")


def _line(problem: Problem, rows: list[dict[str, Any]], d: int) -> str:
    deviance = sorted(row["deviance"] for row in rows)
    cells = [quartiles(deviance)]
    if problem.truth is not None:
        cells += [f"{statistics.median(abs(row['theta'][i] - problem.truth[i]) for row in rows):.3g}" for i in range(d)]
    cells += [_covered(problem, rows, d), f"{statistics.median(row['seconds'] for row in rows):.0f}"]
    return " | ".join(cells)


def quartiles(values: list[float]) -> str:
    """Median and quartiles, or the median of a few."""
    if len(values) < 4:
        return f"{statistics.median(values):.3g}"
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.3g} ({low:.3g}, {high:.3g})"


def _covered(problem: Problem, rows: list[dict[str, Any]], d: int) -> str:
    """Share of parameters that lie within two of the standard errors that the fit says; empty where it says none."""
    if problem.truth is None or any(row["standard_errors"] is None for row in rows):
        return ""
    hits = [
        abs(row["theta"][i] - problem.truth[i]) <= 2 * max(row["standard_errors"][i], 1e-300)
        for row in rows
        for i in range(d)
        if math.isfinite(row["standard_errors"][i])
    ]
    return f"{100 * sum(hits) / max(1, len(hits)):.0f} %"
