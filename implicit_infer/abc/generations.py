"""A run on disk, generation by generation: one that was killed goes on, bit by bit as if it had never stopped.

::

    run.json                        what was asked; another question is refused
    generation-0000.safetensors     the particles after a generation, and in the header where the run then stood
    generation-0001.safetensors
    ...

A generation is written to a draft, flushed to the disk and renamed, which file systems do atomically: whatever a kill
leaves is either a whole generation or a draft that nobody reads. Any reader of safetensors opens the particles. The
budget and the wall time are no part of what was asked, so that a finished run can be given more of either.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from implicit_estimators.networks import storage
from implicit_infer.posteriors.method import Question
from implicit_infer.posteriors.saving import identity
from implicit_infer.store import fsync

if TYPE_CHECKING:
    from implicit_infer.posteriors.method import Method

KIND = "abc-generation"
FREE = ("max_time",)
"""Settings that may differ from one start to the next."""


class Generations:
    """The folder of one run.

    Args:
        folder: Where; made when the first generation is written.
        settings: The method.
        question: What was asked.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: Method, question: Question) -> None:
        self.folder = Path(folder)
        said = {
            "method": settings.name,
            "settings": {name: value for name, value in settings.settings().items() if name not in FREE},
            # two settings may look alike as numbers and be of different classes
            "classes": {name: type(value).__name__ for name, value in vars(settings).items() if name not in FREE},
            "simulator": {**identity(question.simulator), "block": question.simulator.block},
            "observed": question.observed.tolist(),
            "seed": question.seed,
            "bank": None if question.bank is None else question.bank.seed,
        }
        # an object's address is not a setting
        self.about: dict[str, Any] = json.loads(re.sub(r" at 0x[0-9a-f]+", "", json.dumps(said, default=repr)))

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the folder for this process.

        Raises:
            ValueError: If it is the folder of another run, or of something else; the message says what differs.
            RuntimeError: If another process is at work in it.
        """
        from filelock import FileLock, Timeout

        self._check()
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise RuntimeError(f"checkpoint: another process is at work in {self.folder}") from error
        try:
            if not self._about.is_file():
                draft = self._about.with_suffix(".draft")
                draft.write_text(json.dumps(self.about, indent=1))
                self._move(draft, self._about)
            yield
        finally:
            lock.release()

    @property
    def _about(self) -> Path:
        return self.folder / "run.json"

    def _check(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"checkpoint: expected a folder; {self.folder} is a file")
        if not self._about.is_file():
            if any(self.folder.glob("generation-*.safetensors")):
                raise ValueError(f"checkpoint: {self.folder} has generations and no run.json that says of what")
            return
        try:
            theirs = json.loads(self._about.read_text())
        except json.JSONDecodeError as error:
            raise ValueError(f"checkpoint: {self._about} is not JSON") from error
        for key in dict.fromkeys((*self.about, *theirs)):
            there, here = theirs.get(key), self.about.get(key)
            if there != here:
                if isinstance(there, dict) and isinstance(here, dict):
                    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
                    there, here = ({name: side.get(name) for name in names} for side in (there, here))
                raise ValueError(
                    f"checkpoint: {self.folder} was made with {key} {there!r}; this run has {here!r}: "
                    "give another folder, or what made this one"
                )

    def write(self, index: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Keep a generation: after this it survives a kill, and a power cut."""
        path = self._path(index)
        draft = path.with_suffix(".draft")
        storage.save(draft, KIND, tensors, state)
        self._move(draft, path)

    def read(self, device: torch.device) -> list[tuple[dict[str, Tensor], dict[str, Any]]]:
        """All generations that are there, in order."""
        found: list[tuple[dict[str, Tensor], dict[str, Any]]] = []
        while (path := self._path(len(found))).is_file():
            found.append(storage.load(path, KIND, device))
        return found

    def _path(self, index: int) -> Path:
        return self.folder / f"generation-{index:04d}.safetensors"

    def _move(self, draft: Path, path: Path) -> None:
        fsync(draft)
        os.replace(draft, path)
        fsync(self.folder)
