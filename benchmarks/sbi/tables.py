"""The tables: tasks down, ours and the published ones across, and what ours cost."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.sbi.published import METHODS, TABLE

Rows = list[dict[str, Any]]


def tables(rows: Rows) -> str:
    """A section for each budget that was measured."""
    return "\n\n".join(_section(rows, budget) for budget in sorted({row["budget"] for row in rows}))


def _section(rows: Rows, budget: int) -> str:
    rows = [row for row in rows if row["budget"] == budget]
    ours = sorted({row["method"] for row in rows}, key=lambda label: (label != "auto", label))
    published = TABLE[budget]
    head = ["task", *ours, "best published", *METHODS]
    lines = [f"## {budget:,} simulations", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for task, values in published.items():
        found = [_of(rows, label, task) for label in ours]
        lines.append("| " + " | ".join([task, *found, f"{min(values):.3f}", *(f"{v:.3f}" for v in values)]) + " |")
    means = [_mean(rows, label) for label in ours]
    bests = statistics.mean(min(values) for values in published.values())
    columns = [f"{statistics.mean(column):.3f}" for column in zip(*published.values(), strict=True)]
    lines.append("| " + " | ".join(["*mean of tasks*", *means, f"{bests:.3f}", *columns]) + " |")
    return "\n".join([*lines, "", *_scaled(rows, ours), *_costs(rows, ours)])


def _scaled(rows: Rows, ours: list[str]) -> list[str]:
    """The sharper test, on scaled draws, of the tasks that it was done for."""
    lines = []
    for task in TABLE[1000]:
        for label in ours:
            found = [row for row in rows if row["method"] == label and row["task"] == task]
            scores = [row["scaled"] for row in found if row.get("scaled") is not None]
            if scores:
                spread = f"{min(scores):.2f}-{max(scores):.2f}, {len(scores)} obs."
                lines.append(f"On scaled draws: {task}, {label} {statistics.mean(scores):.3f} ({spread}).")
    return [*lines, ""] if lines else []


def _of(rows: Rows, label: str, task: str) -> str:
    """Mean over observations, bold where it is at or below the best published one; lowest and highest, and how many."""
    cells = [row for row in rows if row["method"] == label and row["task"] == task]
    if not cells:
        return "-"
    scores = [row["c2st"] for row in cells]
    mean = statistics.mean(scores)
    best = min(TABLE[cells[0]["budget"]][task])
    shown = f"**{mean:.3f}**" if mean <= best else f"{mean:.3f}"
    count = "" if len(scores) == 10 else f", {len(scores)} obs."
    return f"{shown} ({min(scores):.2f}-{max(scores):.2f}{count})"


def _mean(rows: Rows, label: str) -> str:
    """Mean over tasks of the means over observations; of how many tasks, if not of all."""
    by_task: dict[str, list[float]] = {}
    for row in rows:
        if row["method"] == label:
            by_task.setdefault(row["task"], []).append(row["c2st"])
    mean = statistics.mean(statistics.mean(scores) for scores in by_task.values())
    return f"{mean:.3f}" + ("" if len(by_task) == 10 else f" ({len(by_task)} tasks)")


def _costs(rows: Rows, ours: list[str]) -> list[str]:
    head = ["seconds for one observation", *(f"{label}: CPU (wall with C2ST)" for label in ours)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for task in TABLE[1000]:
        cells = []
        for label in ours:
            found = [row for row in rows if row["method"] == label and row["task"] == task]
            if not found:
                cells.append("-")
                continue
            cpu = statistics.median(row["training"] + row["sampling"] for row in found)
            wall = statistics.median(row["wall"] for row in found)
            chosen = sorted({row["chosen"] for row in found} - {""})
            cells.append(f"{cpu:.0f} ({wall:.0f})" + (f", {' or '.join(chosen)}" if chosen else ""))
        lines.append("| " + " | ".join([task, *cells]) + " |")
    return lines
