"""Run a simulator many times: blocks, workers, progress, a store, and failures counted instead of fatal."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal, overload

import numpy as np
import torch
from torch import Tensor

from implicit_infer.blocks import NOT_FINITE, Block
from implicit_infer.executors import check_timeout, check_workers, run_blocks
from implicit_infer.interrupts import stopping
from implicit_infer.progress import track
from implicit_infer.runs import Runs
from implicit_infer.store import Store
from implicit_infer.stored import StoredRuns, open_runs
from implicit_simulators import Seed, Simulator, resolve_seed

logger = logging.getLogger(__name__)

NOTICED = 0.5
"""Seconds of compiling from which on they are shown."""

HOPELESS = 100
"""Simulations after which a simulator that has only raised is taken to be broken."""


@overload
def simulate(
    simulator: Simulator,
    n: int,
    *,
    seed: Seed = None,
    workers: int = 1,
    store: str | os.PathLike[str] | None = None,
    memory: Literal[True] = True,
    timeout: float | None = None,
    progress: bool = True,
    executor: Any = None,
) -> Runs: ...


@overload
def simulate(
    simulator: Simulator,
    n: int,
    *,
    seed: Seed = None,
    workers: int = 1,
    store: str | os.PathLike[str],
    memory: Literal[False],
    timeout: float | None = None,
    progress: bool = True,
    executor: Any = None,
) -> StoredRuns: ...


def simulate(
    simulator: Simulator,
    n: int,
    *,
    seed: Seed = None,
    workers: int = 1,
    store: str | os.PathLike[str] | None = None,
    memory: bool = True,
    timeout: float | None = None,
    progress: bool = True,
    executor: Any = None,
) -> Runs | StoredRuns:
    r"""Draw ``n`` parameters from the prior and simulate each.

    Block i draws its parameters and its simulations with the streams (seed, i), so the result is the same for any
    number of workers, on any executor, and in one run or several; and ``runs.x`` equals
    ``simulator.simulate(runs.theta, seed)``.

    Simulations that fail are kept as rows that are not finite, counted, and logged in one sentence;
    ``runs.failures`` and ``runs.failure_table()`` say which and why. A block that raises is simulated again row by row,
    so that only the rows that raise are lost. A simulation that crashes its worker process is a failed row, too.

    Ctrl-C stops after the blocks in hand and returns the simulations finished until then (with a store, those are kept
    in it, and the same call goes on from there); a second Ctrl-C stops at once.

    Args:
        simulator: What draws x given theta.
        n: How many simulations.
        seed: An int, a ``torch.Generator`` or None for fresh entropy (with a store that exists: the store's own seed).
        workers: Processes on this machine, of one thread each. For a simulator that ``releases_gil`` (its time is spent
            in compiled code): threads of this process, which start at once and share what is compiled.
        store: A folder, ``"runs.zarr"``, that finished blocks are written to and read from; see
            :class:`implicit_infer.store.Store`.
        memory: Whether the result is held in memory. If not, it stays in the store, and ``ii.infer(..., runs=runs)``
            reads what it needs; see :class:`implicit_infer.stored.StoredRuns`.
        timeout: Seconds that one simulation may take; those that take longer fail. Simulations then run in processes
            even for ``workers=1``, so that one which hangs in compiled code can be ended with its process. A simulator
            that makes many rows at once is given as long as they may take together before its rows are tried one by
            one. Which simulations time out depends on the machine, all else on the seed alone.
        progress: Whether to show a bar with the rate and the time left.
        executor: Run blocks there instead: any ``concurrent.futures`` executor, or a ``dask.distributed.Client``.
            Threads suit only simulators that draw from their own stream's generator, not from torch's global one; and
            there, ``timeout`` reaches Python code only.

    Returns:
        The simulations in order, on the CPU; ``Runs`` in memory, or ``StoredRuns`` if ``memory`` is False.

    Raises:
        ValueError: If ``n``, ``workers`` or ``timeout`` is not positive, ``memory`` is False without a store, or the
            store was made by another simulator or seed.
        TypeError: If ``simulator`` is no ``Simulator``, its prior has no ``sample``, it must be sent to another process
            and cannot, or an argument has another type.
        RuntimeError: If every one of the first simulations raised, worker processes keep dying, or another process
            writes to the store.
    """
    check_simulator(simulator)
    n = check_count(n, "n")
    check_workers(workers, executor)
    how = {"workers": workers, "executor": executor, "timeout": check_timeout(timeout)}
    if store is None:
        if not memory:
            raise ValueError("memory: without a store, simulations can be nowhere but in memory; got False")
        rows = _Rows(simulator, n, keep=True)
        _simulate(simulator, rows, resolve_seed(seed), how, progress, None)
        return rows.runs()
    with Store(store, simulator, seed) as kept:
        rows = _Rows(simulator, n, keep=memory)
        _simulate(simulator, rows, kept.seed, how, progress, kept)
    if memory:
        return rows.runs()
    stored = open_runs(store).first(rows.whole())
    rows.tell(stored.failures, len(stored))
    return stored


def _simulate(
    simulator: Simulator, rows: _Rows, seed: int, how: dict[str, Any], progress: bool, store: Store | None
) -> None:
    rows.seed = seed
    missing = list(range(rows.blocks))
    if store is not None:
        store.reserve(rows.n)
        missing = [index for index in missing if not store.holds(index, rows.size(index))]
        for index in sorted(set(range(rows.blocks)) - set(missing)):
            if rows.keep:
                rows.put(store.read(index, rows.size(index)))
            else:
                rows.count(index, rows.size(index), 0)

    def todo() -> Iterator[tuple[int, Tensor]]:
        for index in missing:
            yield index, simulator.sample_prior(rows.size(index), seed, index)

    with (
        track(f"simulating {simulator.name}", total=rows.n, show=progress) as bar,
        stopping("the blocks in hand") as stop,
    ):
        bar.update(rows.done)
        if missing and how["executor"] is None and (seconds := simulator.prepare()) > NOTICED:
            bar.update(0, **{"compiled, s": seconds})  # paid once: the code is kept on disk
        began, before = time.monotonic(), rows.done
        for block in run_blocks(simulator, todo(), seed, stop=stop, **how):
            if store is not None:
                store.write(block)
            rows.put(block)
            rows.check_hope()
            rate = (rows.done - before) / max(time.monotonic() - began, 1e-9)
            bar.update(len(block.theta), **{"per second": rate, "failed": rows.failed})


class _Rows:
    """The result being filled, block by block and in any order; or only counted, where it is kept elsewhere."""

    def __init__(self, simulator: Simulator, n: int, keep: bool) -> None:
        self.simulator, self.n, self.keep = simulator, n, keep
        self.seed = 0
        self.blocks = -(-n // simulator.block)
        self.finished = np.zeros(self.blocks, dtype=bool)
        self.theta = torch.empty((n if keep else 0, simulator.dim), dtype=torch.float32)
        self.x: Tensor | None = None
        self.errors: dict[int, str] = {}
        self.done = self.failed = 0
        self.reason: str | None = ""
        """Why nothing but errors has come, or None as soon as something else has."""

    def size(self, block: int) -> int:
        return min(self.simulator.block, self.n - block * self.simulator.block)

    def put(self, block: Block) -> None:
        start = block.index * self.simulator.block
        rows = slice(start, start + len(block.theta))
        if self.keep:
            if self.x is None:
                self.x = block.x.new_empty((self.n, *self.simulator.event_shape), device="cpu")
            self.theta[rows] = block.theta
            self.x[rows] = block.x
            self.errors.update({start + row: reason for row, reason in block.errors.items()})
        raised = [reason for reason in block.errors.values() if reason != NOT_FINITE]
        if len(raised) < len(block.theta):
            self.reason = None
        elif self.reason == "":
            self.reason = raised[0]
        self.count(block.index, len(block.theta), len(block.errors))

    def count(self, block: int, size: int, failed: int) -> None:
        self.finished[block] = True
        self.done += size
        self.failed += failed
        if failed < size:
            self.reason = None

    def check_hope(self) -> None:
        """Stop when nothing but errors has come: that is a mistake in the simulator, not a rare failure."""
        if self.done >= min(self.n, HOPELESS) and self.reason:
            raise RuntimeError(f"{self.simulator.name}: all of the first {self.done} simulations raised: {self.reason}")

    def whole(self) -> int:
        """How many rows there are; after an interruption, up to the first unfinished block."""
        whole = self.blocks if self.finished.all() else int(np.argmin(self.finished))
        n = min(self.n, whole * self.simulator.block)
        if n == 0:
            raise KeyboardInterrupt("stopped before the first block was finished")
        if n < self.n:
            logger.warning("%s: stopped after %d of %d simulations", self.simulator.name, n, self.n)
        return n

    def runs(self) -> Runs:
        n = self.whole()
        assert self.x is not None
        names = self.simulator.parameter_names
        runs = Runs(self.theta, self.x, self.seed, dict(sorted(self.errors.items())), names).first(n)
        self.tell(runs.failures, n)
        return runs

    def tell(self, failures: Mapping[int, str], n: int) -> None:
        if failures:
            row, reason = next(iter(failures.items()))
            logger.warning(
                "%s: %d of %d simulations failed (%.3g %%) and are NaN or infinite, as runs.failures tells; row %d: %s",
                *(self.simulator.name, len(failures), n, 100 * len(failures) / n, row, reason),
            )


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
