"""The problems of the paper on local surrogates: an expected loss to be minimised, with no data."""

from __future__ import annotations

import math
import statistics
import time
from typing import Any

import torch
from torch import Tensor

from benchmarks.fitting import cells
from implicit_simulators import Rosenbrock, ThreeHump

NAME = "lgso"
TITLE = "Expected losses: three humps, and Rosenbrock's valley in ten dimensions"
ABOUT = """\
The expected loss above its minimum, exactly, from the starts of the paper on L-GSO (Shirobokov et al., 2020): (2,
0) for three humps, where it is 0.359, and 2 throughout for Rosenbrock's valley, where it is 45. The plain searches
see the mean loss of as many draws as the budget suggests. The paper has curves; we know of no table of its. With as
many simulations the evolution strategy goes as low as the local surrogate, or lower, in a hundredth of the time: on
these problems, nothing is gained by a surrogate."""
KEYS = ("problem", *cells.KEYS)
METHODS = ("local-surrogate", "cma-es", "nelder-mead")
PROBLEMS: dict[str, Any] = {"three-hump": ThreeHump, "rosenbrock-10": Rosenbrock}
LEAST = {"three-hump": -0.8582, "rosenbrock-10": 0.0}


class MeanLoss:
    """What the plain searches minimise: an :class:`Objective` of a loss instead of a discrepancy."""

    def __init__(self, question: Any, loss: Any) -> None:
        from implicit_infer.fitting.search import EVALUATIONS
        from implicit_infer.fitting.space import Space

        self.question, self.loss = question, loss
        self.space = Space.of(question.simulator, question.seed)
        self.draws = min(200, max(10, question.budget // (EVALUATIONS * (question.simulator.dim + 2))))
        self.best: tuple[float, Tensor] = (math.inf, self.space.start(question.start).double())

    def __call__(self, v: Tensor) -> Tensor:
        """Mean losses with shape (n,)."""
        theta = self.space.theta(v).float()
        x = self.question.simulate(theta.repeat_interleave(self.draws, 0))
        values = self.loss(x).double().reshape(len(v), self.draws).mean(1)
        low = int(values.argmin())
        if float(values[low]) < self.best[0]:
            self.best = (float(values[low]), v[low].clone())
        return values


def wanted(seeds: list[int]) -> list[dict[str, Any]]:
    """Both problems."""
    each = cells.wanted(seeds, METHODS, {"local-surrogate": cells.Effort(5)})
    return [{"problem": name, **keys} for keys in each for name in PROBLEMS]


def run(problem: str, method: str, budget: int, seed: int) -> dict[str, Any]:
    """One search."""
    from implicit_infer.fitting import CMAES, NelderMead
    from implicit_infer.fitting.minimising import minimise
    from implicit_infer.fitting.question import FitQuestion

    simulator = PROBLEMS[problem]()
    began = time.process_time()
    if method == "local-surrogate":
        found = minimise(simulator, simulator.loss, budget, start=simulator.start, seed=seed, progress=False)
        theta, spent = found.theta, found.simulations
    else:
        start = torch.tensor(simulator.start, dtype=torch.float32)
        data = torch.zeros(0, *simulator.event_shape)
        question = FitQuestion(simulator, data, budget, seed, start, progress=False)
        objective: Any = MeanLoss(question, simulator.loss)
        search = CMAES() if method == "cma-es" else NelderMead()
        v = search.search(objective, lambda point, value: None)
        theta, spent = objective.space.theta(v[None])[0].float(), question.spent
    return {
        "theta": theta.tolist(),
        "excess": float(simulator.expected_loss(theta[None])) - LEAST[problem],
        "simulations": spent,
        "seconds": time.process_time() - began,
    }


def tables(rows: list[dict[str, Any]]) -> str:
    """A table for each problem."""
    parts = []
    for problem in PROBLEMS:
        lines = ["| method | simulations | excess loss (quartiles) | CPU s | seeds |", "|" + "---|" * 5]
        for method in METHODS:
            for budget in sorted({row["budget"] for row in rows}):
                some = [r for r in rows if (r["problem"], r["method"], r["budget"]) == (problem, method, budget)]
                if some:
                    excess = cells.quartiles(sorted(row["excess"] for row in some))
                    seconds = statistics.median(row["seconds"] for row in some)
                    lines.append(f"| {method} | {budget} | {excess} | {seconds:.0f} | {len(some)} |")
        parts.append(f"{problem}:\n\n" + "\n".join(lines))
    return "\n\n".join(parts)
