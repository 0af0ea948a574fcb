"""Brings a comparison to its end: what is missing is done, what is there stays, and Ctrl-C loses nothing finished."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from implicit_infer.compare import bank, jobs
from implicit_infer.compare.comparison import Comparison
from implicit_infer.compare.folder import ABSENT, FINISHED, Folder, jsonable, shown
from implicit_infer.compare.plan import REFERENCE, Job, Plan
from implicit_infer.compare.run import digest, versions
from implicit_infer.compare.score import scored
from implicit_infer.compare.watch import watching


def run_all(plan: Plan, folder: Folder, *, workers: int = 1, progress: bool = True) -> Comparison:
    """Do every run and every score of ``plan`` that ``folder`` lacks.

    Raises:
        ValueError: If the folder belongs to another question, or a label to another method.
        RuntimeError: If another process is at work in the folder.
        TypeError: If there are several workers and something cannot be sent to them.
    """
    packed = jobs.pack(plan) if workers > 1 else None
    with folder.claimed(plan.question()):
        _refuse_changed_methods(folder, plan)
        folder.add_start({**plan.description(), "command": _command(), "workers": workers, **_here()})
        missing = [run for run in plan.runs() if not folder.finished(run.name)]
        reference = [Job(None)] if _lacks_reference(folder, plan) else []
        with watching(plan, progress) as watch, jobs.interruptible():

            def do(todo: Sequence[Job]) -> None:
                watch.expect(todo)
                if packed is None:
                    jobs.do_here(folder, plan, todo, watch)
                else:
                    jobs.do_in_workers(folder, plan, packed, todo, workers, watch)

            try:
                for repeat in sorted({run.repeat for run in missing}):
                    bank.make(folder, plan, repeat, workers, watch)
                do([*reference, *map(Job, missing)])
                ended = [run for run in plan.runs() if folder.finished(run.name)]
                do([Job(run, scores=True) for run in ended if not scored(folder, run.name)])
            except KeyboardInterrupt:
                watch.stopped(_how_to_resume(folder, plan))
                raise
    return Comparison(folder, plan.runs())


def _refuse_changed_methods(folder: Folder, plan: Plan) -> None:
    """Runs under one label must be runs of one method with one set of settings."""
    for run in plan.runs():
        before = folder.result(run.name)
        if before is None or before["status"] != FINISHED:
            continue
        method = plan.methods[run.label]
        for what, was, now in (
            ("method", before["method"], method.name),
            ("settings", before["settings"], jsonable(method.settings())),
        ):
            if was != now:
                raise ValueError(
                    f"methods: in {folder.root} the {what} of {run.label!r} was {shown(was)} and is now {shown(now)}; "
                    "give it another label, or name another folder"
                )


def _lacks_reference(folder: Folder, plan: Plan) -> bool:
    if plan.reference is None:
        return False
    before = folder.result(REFERENCE) or {}
    if isinstance(plan.reference, Tensor):
        return before.get("digest") != digest(plan.reference)
    return before.get("source") != "auto" or before.get("status") not in (FINISHED, ABSENT)


def _command() -> str | None:
    """What was typed, if it was our command; folders of this machine are nobody's business."""
    program, *arguments = sys.argv
    if Path(program).stem != "implicit-infer":
        return None
    return shlex.join(["implicit-infer", *(Path(a).name if Path(a).is_absolute() else a for a in arguments)])


def _here() -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"at": datetime.now(UTC).isoformat(timespec="seconds"), "cores": cores, "versions": versions()}


def _how_to_resume(folder: Folder, plan: Plan) -> str:
    runs = plan.runs()
    done = sum(folder.finished(run.name) for run in runs)
    return f"stopped: {done} of {len(runs)} runs are kept in {folder.root}; the same call does the rest"
