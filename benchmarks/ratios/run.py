"""Measures the cells that are missing, each in a fresh process, and appends a line for each as it is done."""

from __future__ import annotations

import json
import multiprocessing
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from benchmarks.ratios.measure import Cell, in_process
from benchmarks.ratios.methods import Method
from implicit_estimators.problems import PROBLEMS


def read(path: Path) -> dict[Cell, dict[str, Any]]:
    """The lines of a results file by cell; of two for one cell the later, and nothing of a line that was cut off."""
    results: dict[Cell, dict[str, Any]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            values = json.loads(line)
        except json.JSONDecodeError:
            continue
        results[Cell(**{name: values[name] for name in Cell.__dataclass_fields__})] = values
    return results


def cells(problems: dict[str, int], chosen: Iterable[Method], seeds: Iterable[int]) -> list[Cell]:
    """Everything that these methods are measured on, seed by seed, so that a run that is stopped has some of all.

    Within a seed, methods that take long come last.
    """
    quick = [method for method in chosen if method.cost(10_000, 10) < 35]
    slow = [method for method in chosen if method not in quick]
    return [
        Cell(problem, method.name, rows, seed)
        for index, seed in enumerate(seeds)
        for part in (quick, slow)
        for problem, rows in problems.items()
        for method in part
        if index < method.seeds and method.where(PROBLEMS[problem], rows)
    ]


def expected(wanted: list[Cell], methods: dict[str, Method], results: dict[Cell, dict[str, Any]]) -> dict[Cell, float]:
    """CPU seconds: what the same cell took at other seeds, else a guess; and a little for samples and their truth."""
    spent = defaultdict(list)
    for cell, line in results.items():
        if "cpu" in line:
            spent[replace(cell, seed=0)].append(line["cpu"] + line["cpu_predict"])
    guesses = {cell: methods[cell.method].cost(cell.rows, PROBLEMS[cell.problem].dimension) for cell in wanted}
    return {cell: 0.3 + statistics.median(spent[replace(cell, seed=0)] or [guesses[cell]]) for cell in wanted}


def estimate(wanted: list[Cell], methods: dict[str, Method], path: Path, again: bool = False) -> str:
    """What :func:`run` would do, in a sentence."""
    results = read(path)
    missing = [cell for cell in wanted if again or cell not in results]
    minutes = sum(expected(missing, methods, results).values()) / 60
    return f"{len(missing)} of {len(wanted)} fits to do, about {minutes:.0f} CPU minutes"


def run(wanted: list[Cell], methods: dict[str, Method], path: Path, jobs: int, again: bool = False) -> int:
    """Measure what ``path`` does not hold yet.

    Args:
        wanted: The cells.
        methods: By name.
        path: The results file: a JSON object a line.
        jobs: Processes at a time, of one thread each.
        again: Measure the cells that the file holds, too.

    Returns:
        How many failed.
    """
    results = read(path)
    missing = [cell for cell in wanted if again or cell not in results]
    costs = expected(missing, methods, results)
    path.parent.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.ratios.preload"])
    queue, failed, began = list(reversed(missing)), 0, time.perf_counter()
    running: dict[Any, tuple[Cell, Any]] = {}  # by the end of the pipe that the answer comes out of
    done, spent = 0, 0.0
    cut = path.exists() and not path.read_bytes().endswith(b"\n")  # by a kill in the middle of a line
    with path.open("a") as file:
        file.write("\n" * cut)
        try:
            while queue or running:
                while queue and len(running) < jobs:
                    cell = queue.pop()
                    receiver, sender = context.Pipe(duplex=False)
                    process = context.Process(target=in_process, args=(cell, sender))
                    process.start()
                    sender.close()
                    running[receiver] = (cell, process)
                ready = wait([*running])
                for receiver in [end for end in running if end in ready]:
                    cell, process = running.pop(receiver)
                    line = _answer(cell, receiver, process, methods[cell.method].limit)
                    file.write(json.dumps(line) + "\n")
                    file.flush()
                    failed += "error" in line
                    done += 1
                    spent += costs[cell]
                    left = (time.perf_counter() - began) / spent * (sum(costs.values()) - spent) / 60
                    told = line.get("error") or f"rmse {line['rmse']:.3f}, {line['cpu']:.1f} CPU s"
                    minutes = f"{left:.0f}" if spent > 0.02 * sum(costs.values()) else "?"
                    place = f"[{done}/{len(missing)}, {minutes} min left] {cell.problem} {cell.rows}"
                    print(f"{place} {cell.method} seed {cell.seed}: {told}", flush=True)
        finally:
            for _, process in running.values():
                process.terminate()
    return failed


def _answer(cell: Cell, receiver: Any, process: Any, limit: int) -> dict[str, Any]:
    """What the process sent, or how it died."""
    try:
        line = receiver.recv()
    except EOFError:
        process.join()
        line = asdict(cell) | {"error": f"ended with {process.exitcode}; the limit is {limit} CPU seconds"}
    process.join()
    return line
