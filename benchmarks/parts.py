"""The command that benchmarks made of parts share: run what is missing, and print the tables.

A part is a module with ``NAME``, ``TITLE``, ``ABOUT`` (sentences that stand above its tables), ``KEYS`` (fields that
tell one run from another), ``wanted(seeds)`` (the runs, as dicts of the keys), ``run(**keys)`` (a dict of results) and
``tables(rows)`` (markdown).
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks.results import Results

MARKS = ("<!-- tables: begin -->", "<!-- tables: end -->")
SEEDS = tuple(range(10))


def parser(package: str, parts: tuple[str, ...]) -> argparse.ArgumentParser:
    """Both commands; ``run`` if none is named."""
    top = argparse.ArgumentParser(prog=f"python -m {package}", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="measure what is missing; a line is written after each run")
    one.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), help="default: 0 to 9")
    one.add_argument("--jobs", type=int, default=1, help="processes at a time, of one thread each")
    two = commands.add_parser("summary", help="print the tables")
    two.add_argument("--into", type=Path, help="replace the tables of this page, instead of printing them")
    for command in (one, two):
        command.add_argument("--parts", nargs="+", choices=parts, default=list(parts), help="default: all")
    return top


def main(package: str, parts: tuple[str, ...], arguments: list[str]) -> None:
    """Do what was asked.

    Args:
        package: The benchmark's package, such as ``benchmarks.gans``; results lie in ``runs/`` under its last name.
        parts: Names of its modules, in the order of the page.
        arguments: What was typed.
    """
    if not arguments or (arguments[0].startswith("--") and arguments[0] != "--help"):
        arguments = ["run", *arguments]
    options = parser(package, parts).parse_args(arguments)
    if options.command == "run":
        measure(package, options.parts, options.seeds, options.jobs)
        return
    show(summary(package, options.parts), options.into)


def show(text: str, into: Path | None) -> None:
    """Print tables, or put them in the place of those of a page."""
    if into is None:
        print(text)
        return
    page = into.read_text()
    if not all(mark in page for mark in MARKS):
        raise SystemExit(f"{into}: expected the lines {MARKS[0]} and {MARKS[1]}")
    between = re.compile(f"{re.escape(MARKS[0])}.*{re.escape(MARKS[1])}", re.DOTALL)
    into.write_text(between.sub(lambda _: f"{MARKS[0]}\n\n{text}\n\n{MARKS[1]}", page))


def part(package: str, name: str) -> Any:
    """The module of a part."""
    return importlib.import_module(f"{package}.{name}")


def results_of(package: str, name: str) -> Results:
    """The results of a part."""
    return Results(name, part(package, name).KEYS, Path("runs") / package.rsplit(".", 1)[-1])


def measure(package: str, names: list[str], seeds: list[int], jobs: int) -> None:
    """Run what is missing of each part, ``jobs`` at a time; lines are written as runs end."""
    from loky import get_reusable_executor

    for name in names:
        results = results_of(package, name)
        missing = results.missing(part(package, name).wanted(seeds))
        print(f"{name}: {len(missing)} runs", flush=True)
        if jobs == 1:
            made = (one(package, name, keys) for keys in missing)
        else:
            made = get_reusable_executor(jobs).map(one, [package] * len(missing), [name] * len(missing), missing)
        for row in made:
            results.add(row)
            print("  " + ", ".join(f"{key} {shown(value)}" for key, value in row.items()), flush=True)


def one(package: str, name: str, keys: dict[str, Any]) -> dict[str, Any]:
    """One run, on one thread."""
    import torch

    torch.set_num_threads(1)
    return {**keys, **part(package, name).run(**keys)}


def shown(value: Any) -> str:
    """A value in few characters."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def summary(package: str, names: list[str]) -> str:
    """The tables of the parts that were run."""
    sections = []
    for name in names:
        module = part(package, name)
        rows = results_of(package, name).rows()
        if rows or not module.KEYS:
            sections.append(f"## {module.TITLE}\n\n{module.ABOUT}\n\n{module.tables(rows)}")
    return "\n\n".join(sections)


def start(package: str, parts: tuple[str, ...]) -> None:
    """The command, as typed."""
    try:
        main(package, parts, sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit("stopped; what was measured is kept, and the same command goes on from there")
