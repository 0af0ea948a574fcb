"""Why rows fail: what a simulator that goes through its rows one by one tells whoever runs it.

A simulator that catches what a row raises, and returns NaN for it, wraps the row in :func:`one_row`:

    for i in range(len(theta)):
        try:
            with one_row(i):
                rows.append(program(theta[i]))
        except Exception:
            rows.append(nan)

A run that limits the time of a simulation then limits that of each row, and learns why the row failed. Where nobody
listens, ``one_row`` does nothing. A simulator that only raises, or returns NaN, needs none of this.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol


class Watch(Protocol):
    """Who listens to the rows of a block."""

    def row(self, row: int) -> AbstractContextManager[None]:
        """A context around the simulation of one row of the block; it lets through whatever is raised inside."""


_watch: contextvars.ContextVar[Watch | None] = contextvars.ContextVar("watch", default=None)


def one_row(row: int) -> AbstractContextManager[None]:
    """A context around the simulation of one row, by its place in the block.

    Raises:
        TimeoutError: From inside, if the run limits the time of a simulation and this one took longer.
    """
    watch = _watch.get()
    return contextlib.nullcontext() if watch is None else watch.row(row)


@contextlib.contextmanager
def regrouped(size: int, first: int = 0) -> Iterator[None]:
    """Tell of row i of whatever runs inside as of row (first + i) // size: a simulation may be made of several.

    Args:
        size: Rows inside that make one row of the block.
        first: Rows inside that came before.
    """
    outside = _watch.get()
    with watching(None if outside is None else _Regrouped(outside, size, first)):
        yield


class _Regrouped:
    def __init__(self, outside: Watch, size: int, first: int) -> None:
        self.outside, self.size, self.first = outside, size, first

    def row(self, row: int) -> AbstractContextManager[None]:
        return self.outside.row((self.first + row) // self.size)


@contextlib.contextmanager
def watching(watch: Watch | None) -> Iterator[None]:
    """Have ``watch`` told of every row that is simulated inside, in this thread."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)
