"""One cell of the tables, in a process of its own: its CPU time, its memory, and its crash are nobody else's."""

from __future__ import annotations

import contextlib
import math
import os
import resource
import signal
import time
import warnings
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from benchmarks.ratios.methods import LogRatio, Method, methods
from implicit_estimators.problems import PROBLEMS, Problem

HELD_OUT = 10_000
"""Fresh samples of each side that errors are measured on."""


@dataclass(frozen=True)
class Cell:
    """What is measured once."""

    problem: str
    method: str
    rows: int
    seed: int


def measure(cell: Cell, method: Method) -> dict[str, Any]:
    """Errors of log r on both sides, its mean over p beside the truth, CPU seconds and memory of the fit."""
    torch.set_num_threads(1)
    problem = PROBLEMS[cell.problem]
    p, q = problem.samples(cell.rows, cell.rows, cell.seed)
    if method.warm:
        method.fit(problem, p[:60], q[:60], cell.seed)
    memory, wall, cpu = _peak(), time.perf_counter(), time.process_time()
    log_ratio = method.fit(problem, p, q, cell.seed)
    figures: dict[str, Any] = {
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "memory": _peak() - memory,
    }
    if not method.peer:  # what auto chose, for instance
        figures["note"] = repr(getattr(log_ratio, "__self__", ""))[:300]
    cpu = time.process_time()
    return figures | score(log_ratio, problem, cell.seed) | {"cpu_predict": time.process_time() - cpu}


def score(log_ratio: LogRatio, problem: Problem, seed: int) -> dict[str, Any]:
    """Errors at fresh samples. Where q has points at which the true ratio is zero, they are left out."""
    figures: dict[str, Any] = {"truth": problem.kl, "not_finite": 0}
    for name, side in zip("pq", problem.samples(HELD_OUT, HELD_OUT, 10**6 + seed), strict=True):
        estimate = torch.as_tensor(log_ratio(side)).detach().double()
        if estimate.shape != (len(side),):
            raise ValueError(f"log_ratio: expected shape {(len(side),)}; got {tuple(estimate.shape)}")
        figures["not_finite"] += int((~estimate.isfinite()).sum())
        exact = problem.log_ratio(side)
        error = (estimate - exact)[exact.isfinite()]
        figures |= {f"mae_{name}": _mean(error.abs()), f"rmse_{name}": math.sqrt(_mean(error**2))}
        if name == "p":
            figures["kl"] = _mean(estimate)
    figures["rmse"] = math.sqrt((figures["rmse_p"] ** 2 + figures["rmse_q"] ** 2) / 2)
    if figures["not_finite"]:
        raise ValueError(f"log_ratio: {figures['not_finite']} of {2 * HELD_OUT} values are not finite")
    return figures


def _mean(values: Tensor) -> float:
    return float(values.mean())


def _peak() -> float:
    """Largest memory that this process has had so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_process(cell: Cell, answer: Connection) -> None:
    """Measure ``cell`` and send what came out, or what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its children
    warnings.filterwarnings("ignore")  # the peers' own: convergence, deprecation
    line: dict[str, Any] = asdict(cell)
    try:
        method = methods()[cell.method]
        resource.setrlimit(resource.RLIMIT_CPU, (method.limit, method.limit + 10))
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            line |= measure(cell, method)
    except Exception as error:
        line["error"] = f"{type(error).__name__}: {error}"[:300]
    answer.send(line)
    answer.close()
