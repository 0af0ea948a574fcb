"""The command: ``python -m benchmarks.sbi [run | coverage | summary] ...``; see ``--help`` of each."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks.parts import show
from benchmarks.results import Results
from benchmarks.sbi import coverage
from benchmarks.sbi.cells import METHODS, amortised, measure
from benchmarks.sbi.published import TABLE
from benchmarks.sbi.tables import tables

KEYS = ("method", "task", "budget", "observation")
RESULTS = Results("results", KEYS, Path("runs/sbi"))
COVERAGE = Results("coverage", ("task", "seed", "truths"), Path("runs/sbi"))


def parser() -> argparse.ArgumentParser:
    """The commands."""
    top = argparse.ArgumentParser(prog="python -m benchmarks.sbi", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="measure what is missing; lines are written as runs end")
    one.add_argument("--methods", nargs="+", choices=list(METHODS), default=["auto"], help="default: auto")
    one.add_argument("--tasks", nargs="+", choices=list(TABLE[1000]), default=list(TABLE[1000]), help="default: all")
    one.add_argument("--budgets", nargs="+", type=int, choices=list(TABLE), default=[1_000, 10_000])
    one.add_argument("--observations", nargs="+", type=int, default=list(range(1, 11)), help="default: 1 to 10")
    one.add_argument("--jobs", type=int, default=1, help="processes at a time, of one thread each")
    cover = commands.add_parser("coverage", help="rank true parameters among the default's draws")
    cover.add_argument("--tasks", nargs="+", choices=coverage.TASKS, default=list(coverage.TASKS), help="default: all")
    cover.add_argument("--seeds", nargs="+", type=int, default=[0], help="default: 0")
    cover.add_argument("--truths", type=int, default=200, help="default: 200")
    two = commands.add_parser("summary", help="print the tables")
    two.add_argument("--into", type=Path, help="replace the tables of this page, instead of printing them")
    return top


def main(arguments: list[str]) -> None:
    """Do what was asked."""
    options = parser().parse_args(arguments)
    if options.command == "run":
        run(options)
        return
    if options.command == "coverage":
        cells = [
            {"task": task, "seed": seed, "truths": options.truths} for seed in options.seeds for task in options.tasks
        ]
        for cell in COVERAGE.missing(cells):
            COVERAGE.add(row := coverage.measure(**cell))
            print("  {task} seed {seed}: {inside}, p-values {p_values}".format(**row), flush=True)
        return
    ranked = COVERAGE.rows()
    show("\n\n".join([tables(RESULTS.rows()), *([coverage.table(ranked)] if ranked else [])]), options.into)


def run(options: argparse.Namespace) -> None:
    """What is missing, in the order of the options; amortised methods take a task's observations together."""
    from concurrent.futures import as_completed

    from loky import get_reusable_executor

    work: list[tuple[str, str, int, list[int]]] = []
    for budget in options.budgets:
        for label in options.methods:
            for task in options.tasks:
                cells = [dict(zip(KEYS, (label, task, budget, n), strict=True)) for n in options.observations]
                numbers = [row["observation"] for row in RESULTS.missing(cells)]
                groups = [numbers] if amortised(label) else [[number] for number in numbers]
                work += [(label, task, budget, group) for group in groups if group]
    print(f"{len(work)} runs", flush=True)
    if options.jobs == 1:
        for job in work:
            keep(measure(*job))
        return
    executor = get_reusable_executor(options.jobs)
    for done in as_completed([executor.submit(measure, *job) for job in work]):
        keep(done.result())


def keep(rows: list[dict[str, Any]]) -> None:
    """Write rows, and say what came out."""
    for row in rows:
        RESULTS.add(row)
        print(
            "  {method} {task} {budget} observation {observation}: {c2st:.3f} {chosen} "
            "(CPU s: {training:.0f} training, {sampling:.0f} drawing)".format(**row),
            flush=True,
        )


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit("stopped; what was measured is kept, and the same command goes on from there")
