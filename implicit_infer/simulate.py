"""Run a simulator many times: blocks, workers, progress, a store, and failures counted instead of fatal."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_infer.executors import Block, check_workers, run_blocks
from implicit_infer.progress import track
from implicit_simulators import Seed, Simulator, resolve_seed

logger = logging.getLogger(__name__)

HOPELESS = 100
"""Simulations after which a simulator that has only raised is taken to be broken."""


@dataclass(frozen=True)
class Runs:
    r"""Simulations from the prior, in order.

    Attributes:
        theta: Parameters, with shape (n, d).
        x: Simulations, with shape (n, \*event_shape); rows that failed hold NaN or infinity.
        seed: The seed they were made with.
        errors: What was raised, for each row that raised.
    """

    theta: Tensor
    x: Tensor
    seed: int
    errors: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.theta)

    @property
    def failed(self) -> Tensor:
        """Which rows are not finite, with shape (n,) and dtype bool."""
        return not_finite(self.x)

    @property
    def failures(self) -> dict[int, str]:
        """Every failed row and why: what it raised, or that it returned values that are not finite."""
        rows: list[int] = self.failed.nonzero()[:, 0].tolist()
        return {row: self.errors.get(row, "returned NaN or infinity") for row in rows}

    def first(self, n: int) -> Runs:
        """The first ``n`` rows.

        Raises:
            ValueError: If there are fewer.
        """
        if n > len(self):
            raise ValueError(f"n: the bank holds {len(self)} simulations; {n} were asked for")
        errors = {row: reason for row, reason in self.errors.items() if row < n}
        return Runs(self.theta[:n], self.x[:n], self.seed, errors)

    def valid(self) -> tuple[Tensor, Tensor]:
        """Theta and x of the rows that did not fail."""
        keep = ~self.failed
        return self.theta[keep], self.x[keep]


def simulate(
    simulator: Simulator,
    n: int,
    *,
    seed: Seed = None,
    workers: int = 1,
    store: str | os.PathLike[str] | None = None,
    progress: bool = True,
    executor: Any = None,
) -> Runs:
    r"""Draw ``n`` parameters from the prior and simulate each.

    Block i draws its parameters and its simulations with the streams (seed, i), so the result is the same for any
    number of workers, on any executor, and in one run or several; and ``runs.x`` equals
    ``simulator.simulate(runs.theta, seed)``.

    Simulations that fail are kept as rows that are not finite, counted, and logged in one sentence. A block that raises
    is simulated again row by row, so that only the rows that raise are lost; ``runs.failures`` says why.

    Ctrl-C stops after the blocks in hand and returns the simulations finished until then (with a store, those are kept
    in it, and the same call goes on from there); a second Ctrl-C stops at once.

    Args:
        simulator: What draws x given theta.
        n: How many simulations.
        seed: An int, a ``torch.Generator`` or None for fresh entropy (with a store that exists: the store's own seed).
        workers: Processes on this machine. Each uses one thread.
        store: A folder, ``"runs.zarr"``, that finished blocks are written to and read from; see
            :class:`implicit_infer.store.Store`.
        progress: Whether to show a bar with the rate.
        executor: Run blocks there instead: any ``concurrent.futures`` executor, or a ``dask.distributed.Client``.
            Threads suit only simulators that draw from their own stream's generator, not from torch's global one.

    Returns:
        The simulations in order, on the CPU.

    Raises:
        ValueError: If ``n`` or ``workers`` is not positive, or the store was made by another simulator or seed.
        TypeError: If ``simulator`` is no ``Simulator``, its prior has no ``sample``, or an argument has another type.
        RuntimeError: If every one of the first simulations raised, worker processes keep dying, or another process
            writes to the store.
    """
    check_simulator(simulator)
    n = check_count(n, "n")
    check_workers(workers, executor)
    if store is None:
        return _simulate(simulator, n, resolve_seed(seed), workers, executor, progress, None)
    from implicit_infer.store import Store

    with Store(store, simulator, seed) as kept:
        return _simulate(simulator, n, kept.seed, workers, executor, progress, kept)


def _simulate(simulator: Simulator, n: int, seed: int, workers: int, executor: Any, progress: bool, store: Any) -> Runs:
    rows = _Rows(simulator, n)
    missing = list(range(rows.blocks))
    if store is not None:
        store.reserve(n)
        missing = [index for index in missing if not store.holds(index, rows.size(index))]
        for index in sorted(set(range(rows.blocks)) - set(missing)):
            rows.put(store.read(index, rows.size(index)))

    def todo() -> Iterator[tuple[int, Tensor]]:
        for index in missing:
            yield index, simulator.sample_prior(rows.size(index), seed, index)

    with track(f"simulating {simulator.name}", total=n, show=progress) as bar, stopping() as stop:
        bar.update(rows.done)
        began, before = time.monotonic(), rows.done
        for block in run_blocks(simulator, todo(), seed, workers=workers, executor=executor, stop=stop):
            if store is not None:
                store.write(block)
            rows.put(block)
            rows.check_hope()
            rate = (rows.done - before) / max(time.monotonic() - began, 1e-9)
            bar.update(len(block.theta), **{"per second": rate, "failed": rows.failed})
    return rows.runs(seed)


class _Rows:
    """The result being filled, block by block and in any order."""

    def __init__(self, simulator: Simulator, n: int) -> None:
        self.simulator, self.n = simulator, n
        self.blocks = -(-n // simulator.block)
        self.finished = np.zeros(self.blocks, dtype=bool)
        self.theta = torch.empty((n, simulator.dim), dtype=torch.float32)
        self.x: Tensor | None = None
        self.errors: dict[int, str] = {}
        self.done = self.failed = 0

    def size(self, block: int) -> int:
        return min(self.simulator.block, self.n - block * self.simulator.block)

    def put(self, block: Block) -> None:
        start = block.index * self.simulator.block
        rows = slice(start, start + len(block.theta))
        if self.x is None:
            self.x = block.x.new_empty((self.n, *self.simulator.event_shape), device="cpu")
        self.theta[rows] = block.theta
        self.x[rows] = block.x
        self.errors.update({start + row: reason for row, reason in block.errors.items()})
        self.finished[block.index] = True
        self.done += len(block.theta)
        self.failed += int(not_finite(block.x).sum())

    def check_hope(self) -> None:
        """Stop when nothing but errors has come: that is a mistake in the simulator, not a rare failure."""
        if self.done >= min(self.n, HOPELESS) and len(self.errors) == self.done:
            reason = next(iter(self.errors.values()))
            raise RuntimeError(f"{self.simulator.name}: all of the first {self.done} simulations raised: {reason}")

    def runs(self, seed: int) -> Runs:
        """All rows, or after an interruption the rows up to the first unfinished block."""
        whole = self.blocks if self.finished.all() else int(np.argmin(self.finished))
        n = min(self.n, whole * self.simulator.block)
        if n == 0 or self.x is None:
            raise KeyboardInterrupt("stopped before the first block was finished")
        runs = Runs(self.theta, self.x, seed, dict(sorted(self.errors.items()))).first(n)
        if n < self.n:
            logger.warning("%s: stopped after %d of %d simulations", self.simulator.name, n, self.n)
        failed = runs.failed
        if failed.any():
            row = int(failed.nonzero()[0])
            logger.warning(
                "%s: %d of %d simulations failed (%.3g %%) and are NaN or infinite, as runs.failed tells; row %d: %s",
                *(self.simulator.name, int(failed.sum()), n, 100 * float(failed.float().mean())),
                *(row, runs.errors.get(row, "returned NaN or infinity")),
            )
        return runs


def not_finite(x: Tensor) -> Tensor:
    r"""Which rows of x with shape (n, \*event_shape) hold NaN or infinity, with shape (n,)."""
    return ~torch.isfinite(x.reshape(len(x), math.prod(x.shape[1:]))).all(1)


def check_simulator(simulator: Any) -> None:
    """Refuse what is not a simulator with a prior that can be drawn from."""
    if not isinstance(simulator, Simulator):
        raise TypeError(
            f"simulator: expected a Simulator (wrap a function in FunctionSimulator); got {type(simulator).__name__}"
        )
    prior = getattr(simulator, "prior", None)
    if not callable(getattr(prior, "sample", None)):
        raise TypeError(
            f"prior: expected a distribution with sample(shape); {simulator.name} has {type(prior).__name__}"
        )


def check_count(value: Any, name: str) -> int:
    """``value`` as a positive int, or an error that names the argument."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected a positive int; got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name}: expected a positive int; got {value}")
    return int(value)


@contextlib.contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, so that the work in hand can be finished; a second one interrupts it.

    Only Python's own reaction to Ctrl-C is replaced, only in the main thread, and only inside.
    """
    stop = threading.Event()
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield stop
        return

    def ask(signum: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        logger.warning("stopping after the blocks in hand; press Ctrl-C again to stop at once")

    signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
