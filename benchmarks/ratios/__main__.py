"""The command: ``python -m benchmarks.ratios [run | summary] ...``; see ``--help`` of each."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.ratios.measure import Cell
    from benchmarks.ratios.methods import Method

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # CPU time means little when threads spin

RESULTS = Path("runs/ratios/results.jsonl")


def parser() -> argparse.ArgumentParser:
    """Both commands; ``run`` if none is named."""
    top = argparse.ArgumentParser(prog="python -m benchmarks.ratios", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="measure what is missing; a line is written after each fit")
    one.add_argument("--suite", choices=["core", "large", "all"], default="core", help="problems and their rows")
    one.add_argument("--quick", action="store_true", help="two minutes: three problems, 1,000 rows, one seed")
    one.add_argument("--problems", nargs="+", metavar="NAME", help="of any suite")
    one.add_argument("--methods", nargs="+", metavar="NAME", help='names, or "peers", or "ours"')
    one.add_argument("--seeds", nargs="+", type=int, help="default: 0 1 2 3 4")
    one.add_argument("--rows", nargs="+", type=int, help="rows of each side, instead of the suite's")
    one.add_argument("--jobs", type=int, default=1, help="processes at a time, of one thread each")
    one.add_argument("--again", action="store_true", help="measure what is there already, too: the later line counts")
    one.add_argument("--estimate", action="store_true", help="say how long it would take, and do nothing")
    two = commands.add_parser("summary", help="print the tables")
    two.add_argument("--markdown", action="store_true", help="exactly the tables of docs/ratio-benchmark.md")
    two.add_argument("--detail", action="store_true", help="with one table for each problem")
    two.add_argument("--into", type=Path, help="replace the tables of this page, instead of printing them")
    for command in (one, two):
        command.add_argument("--results", type=Path, default=RESULTS, help=f"the file of lines (default: {RESULTS})")
    return top


def main(arguments: list[str]) -> None:
    """Do what was asked. Fits that fail are a result, and no failure of the command."""
    if not arguments or (arguments[0].startswith("--") and arguments[0] != "--help"):
        arguments = ["run", *arguments]
    options = parser().parse_args(arguments)
    path = options.results
    if options.command == "run":
        from benchmarks.ratios.run import estimate, run

        wanted, methods = choose(options)
        path = path.with_name("quick.jsonl") if options.quick else path
        print(estimate(wanted, methods, path, options.again), flush=True)
        if options.estimate:
            return
        failed = run(wanted, methods, path, options.jobs, options.again)
        print(f"{failed} fits failed" if failed else "no fit failed")
    if options.command == "summary" or options.quick:
        from benchmarks.ratios.tables import summary

        shown = vars(options)
        summary(path, markdown=shown.get("markdown", False), detail=shown.get("detail", True), into=shown.get("into"))


def choose(options: argparse.Namespace) -> tuple[list[Cell], dict[str, Method]]:
    """The cells that the options name, and the methods by name.

    Raises:
        SystemExit: If there is no such problem or method.
    """
    from benchmarks.ratios import methods as known
    from benchmarks.ratios.run import cells, expected
    from implicit_estimators.problems import PROBLEMS

    methods = known.methods()
    asked = options.methods or ["peers", "ours"]
    _refuse("--methods", asked, ["peers", "ours", *methods])
    chosen = [each for each in methods.values() if {each.name, "peers" if each.peer else "ours"} & set(asked)]
    suite = known.SUITES["quick" if options.quick else options.suite]
    if options.problems:
        _refuse("--problems", options.problems, list(PROBLEMS))
        suite = {name: suite.get(name, known.ALL[name]) for name in options.problems}
    seeds = options.seeds if options.seeds is not None else ([0] if options.quick else [0, 1, 2, 3, 4])
    suites = [dict.fromkeys(suite, rows) for rows in options.rows] if options.rows else [suite]
    wanted = [cell for each in suites for cell in cells(each, chosen, seeds)]
    if options.quick:
        wanted = [cell for cell, seconds in expected(wanted, methods, {}).items() if seconds < 20]
    return wanted, methods


def _refuse(option: str, given: list[str], known: list[str]) -> None:
    wrong = [name for name in given if name not in known]
    if wrong:
        raise SystemExit(f"{option}: no {', '.join(wrong)}; there are {', '.join(known)}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit("stopped; what was measured is kept, and the same command goes on from there")
