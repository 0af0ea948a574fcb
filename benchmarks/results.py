"""Lines of results on disk: each run is written when it is done, so that a benchmark goes on where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class Results:
    """The results of one part of a benchmark, ``FOLDER/PART.jsonl``: one JSON object a line.

    Args:
        part: Name of the part.
        keys: Fields that tell one run from another; of two lines that agree in them, the later one counts.
        folder: Where the file lies.
    """

    def __init__(self, part: str, keys: tuple[str, ...], folder: Path) -> None:
        self.path, self.keys = folder / f"{part}.jsonl", keys

    def rows(self) -> list[dict[str, Any]]:
        """Every run, the latest of each."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        found = [json.loads(line) for line in lines if line.strip()]
        return list({self._key(row): row for row in found}.values())

    def missing(self, wanted: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those of the wanted runs that are not there yet."""
        there = {self._key(row) for row in self.rows()}
        return [row for row in wanted if self._key(row) not in there]

    def add(self, row: dict[str, Any]) -> None:
        """Write a run."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def _key(self, row: dict[str, Any]) -> tuple[str, ...]:
        return tuple(json.dumps(row[key]) for key in self.keys)
