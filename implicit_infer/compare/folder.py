"""Where a comparison lives on disk: finished runs appear all at once, or not at all.

::

    out/question.json              what was asked; another question is refused
    out/starts.json                each start: when, how, with how many workers
    out/bank-<repeat>.zarr         prior simulations that methods share
    out/runs/<run>/result.json     figures, times, settings, versions, status
    out/runs/<run>/draws.zarr      draws, readable by xarray and ArviZ
    out/runs/<run>/scores.json     distance to the reference, predictive check
    out/runs/<run>/traceback.txt   of a run that failed
    out/runs/<run>/output.txt      what it printed
    out/drafts/                    what is being written; removed at the end

A run is written to ``drafts`` and renamed into ``runs`` when it is complete, which file systems do atomically.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from implicit_infer.compare.plan import REFERENCE, Run

QUESTION = "question.json"
STARTS = "starts.json"

FINISHED = "finished"
ABSENT = "absent"
FAILED = "failed"


class Folder:
    """The files of one comparison.

    Args:
        root: The folder that the user named.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self.runs = self.root / "runs"
        self.drafts = self.root / "drafts"

    @contextlib.contextmanager
    def claimed(self, question: Mapping[str, Any]) -> Iterator[None]:
        """Hold the folder for one process, after making sure that it belongs to ``question``.

        Raises:
            ValueError: If the folder belongs to another question, or holds something else.
            RuntimeError: If another process is at work in it.
        """
        from filelock import FileLock, Timeout

        question = jsonable(question)
        self._refuse_another(question)
        self.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.root / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise RuntimeError(f"out: another comparison is at work in {self.root}") from error
        try:
            # what an interrupted run left half written is of no use to anybody
            shutil.rmtree(self.drafts, ignore_errors=True)
            self.drafts.mkdir()
            self.runs.mkdir(exist_ok=True)
            if not (self.root / QUESTION).exists():
                write_json(self.root / QUESTION, question)
            yield
            shutil.rmtree(self.drafts)
        finally:
            lock.release()

    def question(self) -> dict[str, Any]:
        """What the folder's comparison asked.

        Raises:
            ValueError: If the folder holds no comparison.
        """
        try:
            return json.loads((self.root / QUESTION).read_text())
        except FileNotFoundError as error:
            raise ValueError(f"out: {self.root} holds no comparison") from error

    def starts(self) -> list[dict[str, Any]]:
        """Each start of the comparison: time, description, command, workers, cores."""
        return read_json(self.root / STARTS) or []

    def add_start(self, start: Mapping[str, Any]) -> None:
        """Remember that, and how, the comparison was started."""
        write_json(self.root / STARTS, [*self.starts(), start])

    def bank(self, repeat: int) -> Path:
        """The store of a repetition's prior simulations."""
        return self.root / f"bank-{repeat}.zarr"

    def result(self, name: str) -> dict[str, Any] | None:
        """What is known of a run that has ended, or None."""
        return read_json(self.runs / name / "result.json")

    def scores(self, name: str) -> dict[str, Any]:
        """The scores of a run, empty where there are none yet."""
        return read_json(self.runs / name / "scores.json") or {}

    def finished(self, name: str) -> bool:
        """Whether a run has ended well; runs that failed are tried again."""
        result = self.result(name)
        return result is not None and result["status"] == FINISHED

    def ended(self) -> list[Run]:
        """Every run of a method that has ended, in the order of the table."""
        results = [read_json(path) for path in sorted(self.runs.glob("*/result.json"))]
        runs = [Run(r["label"], r["budget"], r["repeat"]) for r in results if r["label"] != REFERENCE]
        order = [label for start in reversed(self.starts()) for label in start["methods"]]
        return sorted(runs, key=lambda run: (run.repeat, run.budget, order.index(run.label)))

    def draft(self, name: str) -> Path:
        """An empty folder to write a run in."""
        draft = self.drafts / f"{name}.{uuid.uuid4().hex}"
        draft.mkdir()
        return draft

    def publish(self, draft: Path, name: str) -> None:
        """Let a complete draft take its place as a run; one that failed makes room, a finished one stays.

        A reference is only made anew when another one is wanted, so there the new one takes the place.
        """
        target = self.runs / name
        if name != REFERENCE and self.finished(name):
            shutil.rmtree(draft)
            return
        if target.exists():
            shutil.rmtree(target)
        os.replace(draft, target)

    def progress(self, name: str) -> Path:
        """Where a worker keeps the newest state of its work."""
        return self.drafts / f"{name}.json"

    def _refuse_another(self, question: Mapping[str, Any]) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise ValueError(f"out: expected a folder; {self.root} is a file")
        if not (self.root / QUESTION).exists():
            strange = sorted(p.name for p in self.root.iterdir() if p.name != ".lock") if self.root.exists() else []
            if strange:
                raise ValueError(
                    f"out: {self.root} holds no comparison but other files ({strange[0]}); name a new folder"
                )
            return
        before = self.question()
        for key, now in question.items():
            if before.get(key) != now:
                raise ValueError(
                    f"out: {self.root} belongs to another question: {key} was {shown(before.get(key))} and is now "
                    f"{shown(now)}; name another folder"
                )


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of one."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(json.dumps(jsonable(value), indent=1, allow_nan=False) + "\n")
    os.replace(draft, path)


def read_json(path: Path) -> Any:
    """The content of a JSON file, or None if there is none."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def jsonable(value: Any) -> Any:
    """``value`` in JSON's types; numbers that JSON lacks become None, and what it does not know its ``repr``."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return jsonable(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))  # an address differs from one process to the next


def shown(value: Any) -> str:
    """``value`` short enough for a sentence."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
