"""What every user's own program needs as a simulator: a record of the rows that failed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from implicit_simulators.adapters.own import OwnSimulator
from implicit_simulators.streams import Seed

logger = logging.getLogger(__name__)

KEPT_FAILURES = 1000


class Failure(NamedTuple):
    """One row whose simulation failed.

    Attributes:
        theta: Its parameters, with shape (d,).
        message: Why: what was raised, or what became of the program.
        seed: The seed of an external program's run.
        status: Its exit status, negative for the signal that killed it; None if it was ended for its time.
        stderr: The end of what it wrote to standard error.
    """

    theta: Tensor
    message: str
    seed: int | None = None
    status: int | None = None
    stderr: str = ""


class ProgramSimulator(OwnSimulator):
    """The part that a function, a Pyro model and an external program share; use one of these instead.

    Attributes:
        failures: The first 1000 rows that failed in this process, each as (theta, message).
        failed: How many rows failed in this process in all.
    """

    _record: Record

    def simulate(self, theta: Any, seed: Seed = None) -> Tensor:
        """As every simulator does, and log how many rows failed."""
        before = len(self.failures), self.failed
        x = super().simulate(theta, seed)
        if failed := self.failed - before[1]:
            said = [failure.message for failure in self.failures[before[0] : before[0] + 1]]
            first = f"; first: {said[0]}" if said else ""  # no longer kept after very many
            logger.warning("%s: %d of %d rows failed%s", self.name, failed, len(x), first)
        return x

    def simulate_block(self, theta: Tensor, seed: int, block: int) -> Tensor:
        """Simulate one block with its own stream; :meth:`take_failures` then tells which rows failed and why."""
        self._record.begin()
        return super().simulate_block(theta, seed, block)

    def take_failures(self) -> dict[int, str]:
        """Why rows of the last block that this thread simulated failed, by their place in it; asked again, nothing."""
        return self._record.take()

    @property
    def failures(self) -> list[Failure]:
        """The first 1000 rows that failed, each as (theta, message)."""
        return self._record.failures

    @property
    def failed(self) -> int:
        """How many rows failed in all."""
        return self._record.failed

    def _fail(self, row: int, theta: Tensor, message: str, *details: Any) -> Tensor:
        """Note that a row failed, for ``message``; the x that stands for it."""
        self._record.add(row, Failure(theta.detach().clone(), message, *details))
        return theta.new_full(self.event_shape, torch.nan)

    def _begin(self, summarize: Callable[[Tensor], Any] | None) -> None:
        """Take over what is the same for all and needs no trial run."""
        self._take_statistics(summarize)
        self._record = Record()


class Record:
    """Rows that failed: all are counted, the first are kept, and each thread knows those of its last block.

    A copy in another process starts empty: what it records travels back with its blocks.
    """

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self.failed = 0
        self._lock = threading.Lock()
        self._last = threading.local()

    def begin(self) -> None:
        """Start a block in this thread."""
        self._last.reasons = {}

    def add(self, row: int, failure: Failure) -> None:
        """Keep a failure."""
        self._last.__dict__.setdefault("reasons", {})[row] = failure.message
        with self._lock:
            self.failed += 1
            if len(self.failures) < KEPT_FAILURES:
                self.failures.append(failure)

    def take(self) -> dict[int, str]:
        """The reasons of this thread's last block, which are then forgotten here."""
        return self._last.__dict__.pop("reasons", {})

    def __reduce__(self) -> tuple[type[Record], tuple[()]]:
        return Record, ()


def parameter_names_of(names: Any, d: int) -> tuple[str, ...]:
    """The d names, or theta_1, ..., theta_d for None.

    Raises:
        TypeError: If they are no strings.
        ValueError: If they are not d different ones.
    """
    if names is None:
        return tuple(f"theta_{i + 1}" for i in range(d))
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"parameter_names: expected {d} strings; got {names!r}")
    if len(set(names)) != d or len(names) != d:
        raise ValueError(f"parameter_names: expected {d} different names, one for each parameter; got {list(names)}")
    return tuple(names)


def event_shape_of(shape: Any) -> torch.Size:
    """The shape of one x; that of a number is (1,)."""
    size = torch.Size([shape]) if isinstance(shape, int) else torch.Size(shape)
    return size or torch.Size([1])
