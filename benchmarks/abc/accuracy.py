"""How near ABC comes at an exact budget: 1,000 draws against 1,000 of the SBI benchmark's reference posteriors."""

from __future__ import annotations

import statistics
import time
from typing import Any

from benchmarks.abc.contestants import METHODS, draws_of

NAME = "accuracy"
TITLE = "How near they come"
ABOUT = """\
Classifier two-sample test of 1,000 draws against 1,000 reference draws (0.5 is perfect, 1 is worst), mean over
observations of the SBI benchmark's tasks, from the sixth on (settings were chosen on the first five, which come last);
in brackets the lowest and the highest, how many observations, and how many of the draws differ at least: repeated draws
alone make the score worse. The seed of everything is the observation's number. All contestants simulate exactly as
often as the column says."""
KEYS = ("method", "task", "budget", "seed")

TASKS = ("two-moons", "gaussian-linear-uniform", "slcp")
BUDGETS = (10_000, 100_000)
DRAWS = 1_000


def wanted(seeds: list[int]) -> list[dict[str, Any]]:
    """Every contestant on every task; seeds 0 to 9 are observations 6 to 10 and 1 to 5."""
    return [
        {"method": method, "task": task, "budget": budget, "seed": seed}
        for seed in seeds
        if seed < 10
        for budget in BUDGETS
        for task in TASKS
        for method in METHODS
    ]


def run(method: str, task: str, budget: int, seed: int) -> dict[str, Any]:
    """One posterior and its score."""
    return scored(method, task, budget, seed, DRAWS)


def scored(method: str, task: str, budget: int, seed: int, draws: int) -> dict[str, Any]:
    """Draws of a contestant at the seed's observation held against as many of the reference."""
    import implicit_infer as ii
    from implicit_infer.diagnose import c2st
    from implicit_simulators.benchmark.publication import published

    simulator = ii.simulators()[task]()
    number = (seed + 5) % 10 + 1
    truth = published(task, number)
    begun = time.process_time()
    found = draws_of(method, simulator, truth.observation, budget, number, draws)
    spent = time.process_time() - begun
    score = c2st(truth.reference_samples[:draws], found, z_score=False)
    return {"c2st": score.score, "distinct": score.distinct[1], "seconds": spent}


def tables(rows: list[dict[str, Any]]) -> str:
    """Methods down, tasks and budgets across."""
    columns = [(task, budget) for budget in BUDGETS for task in TASKS]
    lines = ["| | " + " | ".join(f"{task}, {budget:,}" for task, budget in columns) + " |"]
    lines.append("| --- |" + " --- |" * len(columns))
    for method in METHODS:
        cells = []
        for task, budget in columns:
            found = [row for row in rows if (row["method"], row["task"], row["budget"]) == (method, task, budget)]
            cells.append(cell(found))
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(found: list[dict[str, Any]]) -> str:
    """Mean score, its lowest and highest, how many observations, and the fewest distinct draws."""
    if not found:
        return "-"
    scores = [row["c2st"] for row in found]
    distinct = min(row["distinct"] for row in found)
    spread = f"{min(scores):.2f}-{max(scores):.2f}, {len(found)} obs."
    return f"{statistics.mean(scores):.3f} ({spread}; {distinct:,})"
