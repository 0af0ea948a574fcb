"""Progress of long work: a bar on a terminal, or a file that another process watches.

Work says ``with track("training nre", total=200) as bar: bar.update(1, loss=0.3)`` and does not know who listens. A
process that runs for somebody else (a worker of ``compare``) installs a listener with :func:`listening`.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Listener = Callable[["Bar"], None]
_listener: contextvars.ContextVar[Listener | None] = contextvars.ContextVar("listener", default=None)


@dataclass
class Bar:
    """One piece of work: how much of it is done, and the numbers that matter now."""

    name: str
    total: int | None
    done: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    finished: bool = False
    listener: Listener | None = None
    _told: float = 0.0

    def update(self, step: int = 1, **figures: float) -> None:
        """Advance by ``step`` and show ``figures``; listeners hear at most ten times a second."""
        self.done += step
        self.figures.update(figures)
        now = time.monotonic()
        if self.listener is not None and (now - self._told > 0.1 or self.done == self.total):
            self._told = now
            self.listener(self)


@contextlib.contextmanager
def track(name: str, total: int | None = None, show: bool = True) -> Iterator[Bar]:
    """Follow a piece of work with ``total`` steps (None: unknown); ``show=False`` is silent unless somebody listens."""
    listener = _listener.get()
    if listener is not None:
        bar = Bar(name, total, listener=listener)
        yield bar
        bar.finished = True
        listener(bar)
    elif show:
        with _terminal_bar(name, total) as bar:
            yield bar
    else:
        yield Bar(name, total)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send every bar opened inside to ``listener`` instead of the terminal."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def to_file(path: Path) -> Listener:
    """A listener that keeps the newest state of the work in a small JSON file, replaced atomically."""

    def write(bar: Bar) -> None:
        state: dict[str, Any] = {"name": bar.name, "total": bar.total, "done": bar.done, "figures": bar.figures}
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(state))
        os.replace(draft, path)

    return write


@contextlib.contextmanager
def _terminal_bar(name: str, total: int | None) -> Iterator[Bar]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=10),  # a line of 80 characters must hold the rate and the time left, too
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("{task.fields[left]}{task.fields[figures]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=total, figures="", left="")

        def show(bar: Bar) -> None:
            figures = "  ".join(
                f"{value:.4g}/s" if key == "per second" else f"{key} {value:.4g}" for key, value in bar.figures.items()
            )
            left = "" if bar.finished or bar.done == total else "left  "
            progress.update(task, completed=bar.done, figures=figures, left=left)

        bar = Bar(name, total, listener=show)
        yield bar
        bar.finished = True
        show(bar)
