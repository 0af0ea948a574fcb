"""ABC on the ten tasks of the SBI benchmark as its paper measures, 10,000 draws against 10,000, beside its figures."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.abc.accuracy import cell, scored
from benchmarks.abc.contestants import OURS
from benchmarks.sbi.published import METHODS, TABLE

NAME = "ten_tasks"
TITLE = "The SBI benchmark"
ABOUT = """\
As above with 10,000 draws, which is how the paper scores its two ABC methods (mean over ten observations), at 10,000
simulations. In brackets: lowest and highest, observations, and the fewest distinct draws."""
KEYS = ("method", "task", "seed")

BUDGET, DRAWS = 10_000, 10_000


def wanted(seeds: list[int]) -> list[dict[str, Any]]:
    """Our methods on every task; seeds 0 to 9 are observations 6 to 10 and 1 to 5."""
    return [
        {"method": method, "task": task, "seed": seed}
        for seed in seeds
        if seed < 10
        for task in TABLE[BUDGET]
        for method in OURS
    ]


def run(method: str, task: str, seed: int) -> dict[str, Any]:
    """One posterior and its score."""
    return scored(method, task, BUDGET, seed, DRAWS)


def tables(rows: list[dict[str, Any]]) -> str:
    """Tasks down, ours and the paper's two across."""
    ours = [method for method in OURS if any(row["method"] == method for row in rows)]
    lines = ["| task | " + " | ".join([*ours, *METHODS[:2]]) + " |", "| --- |" + " --- |" * (len(ours) + 2)]
    for task, values in TABLE[BUDGET].items():
        cells = [cell([row for row in rows if (row["method"], row["task"]) == (method, task)]) for method in ours]
        lines.append("| " + " | ".join([task, *cells, *(f"{value:.3f}" for value in values[:2])]) + " |")
    means = []
    for method in ours:
        by_task = {
            task: [row["c2st"] for row in rows if (row["method"], row["task"]) == (method, task)]
            for task in TABLE[BUDGET]
        }
        known = [statistics.mean(scores) for scores in by_task.values() if scores]
        means.append(f"{statistics.mean(known):.3f}" + ("" if len(known) == 10 else f" ({len(known)} tasks)"))
    paper = [f"{statistics.mean(values[i] for values in TABLE[BUDGET].values()):.3f}" for i in range(2)]
    lines.append("| " + " | ".join(["*mean of tasks*", *means, *paper]) + " |")
    return "\n".join(lines)
