"""Worker processes of this machine: each can be killed, by us or by anything, and costs no more than its own work.

Every worker has a pipe of its own, so that it is known who does what. Hence one that dies takes one block with it and
not the others' (which a pool with shared queues would lose), a simulation that hangs in compiled code can be ended by
ending its process, and one that crashes its process is recorded as a failed row like any other. There is nothing
shared, hence nothing to leak. Idle workers stay for the next run, and end by themselves when none comes or when their
parent does.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_infer.blocks import Block, Row, joined, simulate_block, simulate_rows
from implicit_infer.limits import Clock
from implicit_simulators import Simulator

logger = logging.getLogger(__name__)

DEATHS = 5
"""Times in a row, without anything finished between, that workers may die before the run is given up."""

PATIENCE = 2
"""Deaths over one block before the block itself is taken to be the cause; its rows are then tried one by one."""

AHEAD = 2
"""Blocks that a worker has: one in hand, and one so that it need not wait for the parent."""

GRACE = 1.0
"""Seconds that a simulation may be late with stopping itself before its process is ended."""

IDLE = 60.0
"""Seconds for which a worker waits for the next run."""

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "NUMBA_THREADING_LAYER": "workqueue",  # never OpenMP in a worker: it hangs or aborts after a fork
}
"""Environment of workers: they share the cores among themselves, so each takes one."""


@dataclass
class Task:
    """A block to be done: whole, or row by row, with the rows that are done already."""

    index: int
    theta: Tensor
    deaths: int = 0
    rows: list[Row] | None = None


def run_in_processes(
    simulator: Simulator,
    blocks: Iterator[tuple[int, Tensor]],
    seed: int,
    workers: int,
    timeout: float | None,
    stop: threading.Event,
) -> Iterator[Block]:
    """Simulate blocks in ``workers`` processes, yielding each as it is finished, in any order.

    Raises:
        TypeError: If the simulator cannot be sent to another process.
        RuntimeError: If workers keep dying, or cannot load the simulator.
    """
    run = _Run(simulator, seed, workers, timeout)
    try:
        stopped = False
        while True:
            if stop.is_set() and not stopped:
                stopped = True
                run.stop()
            if not stopped:
                run.hand_out(blocks)
            if not run.busy():
                return
            yield from run.hear()
    finally:
        run.close()


class _Run:
    """The parent's side: who does what, until when, and what must be done again."""

    def __init__(self, simulator: Simulator, seed: int, workers: int, timeout: float | None) -> None:
        self.simulator, self.seed, self.timeout = simulator, seed, timeout
        self.packed = packed(simulator)
        self.workers = workers
        self.crew: list[_Worker] = []
        self.again: deque[Task] = deque()
        self.deaths = 0

    def hand_out(self, blocks: Iterator[tuple[int, Tensor]]) -> None:
        """One block to each worker first, and then a second."""
        for depth in range(AHEAD):
            for place in range(self.workers):
                task = self._next(blocks) if place >= len(self.crew) or len(self.crew[place].tasks) <= depth else None
                if task is None:
                    continue
                if place >= len(self.crew):
                    self.crew.append(_take())
                worker = self.crew[place]
                worker.tasks.append(task)
                done = None if task.rows is None else len(task.rows)
                order = (task.index, task.theta.numpy(), self.seed, done, self.timeout)
                with contextlib.suppress(OSError):  # it has died, which `hear` will notice
                    if worker.packed is not self.packed:
                        worker.connection.send(("simulator", self.packed))
                        worker.packed = self.packed
                    worker.connection.send(("block", order))

    def _next(self, blocks: Iterator[tuple[int, Tensor]]) -> Task | None:
        if self.again:
            return self.again.popleft()
        block = next(blocks, None)
        return None if block is None else Task(*block)

    def busy(self) -> bool:
        return any(worker.tasks or worker.stopping for worker in self.crew)

    def stop(self) -> None:
        """Have every worker finish what it has in hand and forget the rest."""
        self.again.clear()
        for worker in self.crew:
            # its answer must be heard, or the next run would take it for its own
            worker.stopping = bool(worker.tasks)
            if worker.stopping:
                with contextlib.suppress(OSError):
                    worker.connection.send(("stop", None))

    def hear(self) -> list[Block]:
        """Wait until something happens; the blocks that are finished by it."""
        deadlines = [worker.deadline for worker in self.crew if worker.tasks and worker.deadline is not None]
        patience = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        ready = wait([worker.connection for worker in self.crew], patience)
        finished: list[Block] = []
        for worker in list(self.crew):
            if worker.connection in ready:
                try:
                    kind, content = worker.connection.recv()
                except (EOFError, OSError):
                    finished += self._lost(worker)
                else:
                    finished += self._said(worker, kind, content)
            elif worker.tasks and worker.deadline is not None and time.monotonic() >= worker.deadline:
                logger.debug("ending worker %d, which took too long", worker.process.pid)
                finished += self._lost(worker, f"TimeoutError: took longer than {self.timeout:g} s")
        return finished

    def _said(self, worker: _Worker, kind: str, content: Any) -> list[Block]:
        if kind == "limit":
            worker.deadline = time.monotonic() + content + GRACE
            return []
        if kind == "broken":
            raise RuntimeError(f"simulator: a worker process cannot load {self.simulator.name}: {content}")
        if kind == "stopped":
            worker.tasks.clear()
            worker.stopping = False
            return []
        self.deaths = 0
        task = worker.tasks[0]
        if kind == "block":
            x, errors = content
            return self._finished(worker, Block(task.index, task.theta, torch.from_numpy(x), errors))
        assert task.rows is not None
        task.deaths = 0
        x, reason = content
        task.rows.append((None if x is None else torch.from_numpy(x), reason))
        return self._finished(worker, self._whole(task))

    def _finished(self, worker: _Worker, block: Block | None) -> list[Block]:
        if block is None:
            return []
        worker.tasks.popleft()
        worker.deadline = None
        return [block]

    def _whole(self, task: Task) -> Block | None:
        if task.rows is None or len(task.rows) < len(task.theta):
            return None
        return joined(self.simulator, task.index, task.theta, task.rows)

    def _lost(self, worker: _Worker, reason: str = "") -> list[Block]:
        """A worker is gone: its work is done again, except for the row that is to blame."""
        end = worker.end(patience=0.0 if reason else 1.0)
        self.crew.remove(worker)
        if not worker.tasks:
            return []
        task, *waiting = worker.tasks
        self.again.extend(waiting)
        if not reason:
            task.deaths += 1
            self.deaths += 1
            if self.deaths >= DEATHS:
                raise RuntimeError(
                    f"worker processes died while simulating (killed, perhaps for want of memory): {end}"
                )
            logger.warning("a worker process died (%s); its block is simulated again in a new one", end)
            if task.rows is not None or task.deaths >= PATIENCE:
                reason = f"ended its process ({end})"
        if reason:
            task.deaths = 0
            if task.rows is None:  # which row it was is not known yet
                task.rows = []
            else:
                task.rows.append((None, reason))
        block = self._whole(task)
        if block is None:
            self.again.appendleft(task)
        return [] if block is None else [block]

    def close(self) -> None:
        """Keep the idle workers for the next run; the others have work that nobody waits for."""
        for worker in self.crew:
            if worker.tasks or worker.stopping or not _keep(worker):
                worker.end()


class _Worker:
    """One process, the pipe to it, and what it has been given."""

    def __init__(self) -> None:
        from loky.backend import get_context
        from loky.backend.process import LokyProcess  # starts afresh, and never runs the user's main module

        self.connection, theirs = get_context("loky").Pipe()
        self.process = LokyProcess(target=_serve, args=(theirs,), daemon=True, env=ONE_THREAD)
        with _sigint_blocked():
            self.process.start()
        theirs.close()
        self.packed: bytes | None = None
        self.tasks: deque[Task] = deque()
        self.deadline: float | None = None
        self.stopping = False
        self.since = time.monotonic()

    def end(self, patience: float = 0.0) -> str:
        """End the process if it does not end by itself within ``patience`` seconds, and say how it ended."""
        if patience:
            self.process.join(patience)
        if self.process.is_alive():
            if sys.platform == "win32":
                self.process.terminate()
            else:
                os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()
        self.connection.close()
        code = int(self.process.exitcode)
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
        return f"exit code {code}"


_idle: list[_Worker] = []
_guard = threading.Lock()


def _take() -> _Worker:
    """An idle worker, or a new one."""
    while True:
        with _guard:
            worker = _idle.pop() if _idle else None
        if worker is None:
            return _Worker()
        # one that is about to leave by itself must not be given work
        if worker.process.is_alive() and time.monotonic() - worker.since < IDLE - 10:
            return worker
        worker.end()


def _keep(worker: _Worker) -> bool:
    if not worker.process.is_alive():
        return False
    worker.since, worker.deadline = time.monotonic(), None
    with _guard:
        _idle.append(worker)
    return True


def _forget() -> None:
    """A forked child has no workers, and must not keep its parent's from noticing that the parent has ended."""
    global _guard
    _guard = threading.Lock()
    for worker in _idle:
        worker.connection.close()
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def packed(simulator: Simulator) -> bytes:
    """The simulator as bytes.

    Raises:
        TypeError: If it cannot travel.
    """
    import cloudpickle

    try:
        return cloudpickle.dumps(simulator)
    except Exception as error:
        raise TypeError(
            f"simulator: {simulator.name} cannot be sent to worker processes; use workers=1 and no timeout: {error}"
        ) from error


@functools.lru_cache(maxsize=4)
def unpacked(data: bytes) -> Simulator:
    """The simulator that this very run sent to its worker; kept, so that compiled kernels and tables are, too."""
    import pickle

    simulator: Simulator = pickle.loads(data)
    return simulator


@contextlib.contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Ctrl-C must not reach a worker before it has said that it will not listen."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection) -> None:
    """A worker's life: blocks as they come, until nobody sends any more."""
    # Ctrl-C reaches the whole group of processes; only the parent decides, and it lets blocks in hand finish
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    torch.set_num_threads(1)
    orders: queue.Queue[tuple[str, Any]] = queue.Queue()
    threading.Thread(target=_receive, args=(connection, orders), daemon=True).start()
    clock = Clock(tell=lambda seconds: connection.send(("limit", seconds)))
    data = b""
    while True:
        try:
            kind, content = orders.get(timeout=IDLE)
        except queue.Empty:
            return
        if kind == "simulator":
            data = content
        elif kind == "stop":
            connection.send(("stopped", None))
        else:
            try:
                simulator = unpacked(data)
            except Exception as error:
                connection.send(("broken", f"{type(error).__name__}: {error}"))
                continue
            _do(connection, clock, simulator, *content)


def _receive(connection: Connection, orders: queue.Queue[tuple[str, Any]]) -> None:
    """Take orders while the work goes on, so that the parent never waits to give one; leave when the parent has."""
    while True:
        try:
            kind, content = connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        if kind == "stop":
            with contextlib.suppress(queue.Empty):
                while True:
                    orders.get_nowait()
        orders.put((kind, content))


def _do(
    connection: Connection,
    clock: Clock,
    simulator: Simulator,
    index: int,
    theta: np.ndarray,
    seed: int,
    done: int | None,
    timeout: float | None,
) -> None:
    """One block, whole or the rows that are missing; arrays travel as NumPy, since tensors would as shared memory."""
    rows = torch.from_numpy(theta)
    if done is None:
        block = simulate_block(simulator, rows, seed, index, timeout, clock)
        connection.send(("block", (block.x.cpu().numpy(), block.errors)))
    else:
        for x, reason in simulate_rows(simulator, rows, seed, index, timeout, clock, done):
            connection.send(("row", (None if x is None else x.cpu().numpy(), reason)))
