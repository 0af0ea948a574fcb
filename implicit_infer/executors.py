"""Run blocks of simulations here, in processes or on a cluster; what comes back never depends on which."""

from __future__ import annotations

import concurrent.futures
import functools
import logging
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_simulators import Simulator, Stream

logger = logging.getLogger(__name__)

DEATHS = 3
"""Times in a row that worker processes may die before the run is given up."""

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "NUMBA_THREADING_LAYER": "workqueue",  # never OpenMP in a worker: it hangs or aborts after a fork
}
"""Environment of worker processes: they share the cores among themselves, so each takes one."""


@dataclass(frozen=True)
class Block:
    r"""Simulations made with one stream.

    Attributes:
        index: Its place in the run, which with the seed makes the stream.
        theta: Parameters, with shape (size, d).
        x: Simulations, with shape (size, \*event_shape); rows that raised are NaN.
        errors: Why, for each row that raised, by its place in the block.
    """

    index: int
    theta: Tensor
    x: Tensor
    errors: dict[int, str] = field(default_factory=dict)


def simulate_block(simulator: Simulator, theta: Tensor, seed: int, index: int) -> Block:
    """Simulate one block; where it raises, its rows are tried one by one and only those that raise are lost.

    The rows of a second try have streams of their own, made from (seed, block, row): with the block's own stream each
    would start from the same random numbers.
    """
    with torch.no_grad():
        try:
            return Block(index, theta, simulator.simulate_block(theta, seed, index))
        except Exception as error:
            logger.debug("block %d of %s raised %r; trying its rows one by one", index, simulator.name, error)
        own_seed = Stream.of(seed, index, "split").key
        rows: list[Tensor | None] = []
        errors = {}
        for row in range(len(theta)):
            try:
                rows.append(simulator.simulate_block(theta[row : row + 1], own_seed, row)[0])
            except Exception as error:
                rows.append(None)
                errors[row] = f"{type(error).__name__}: {error}"
        made = [row for row in rows if row is not None]
        lost = torch.full_like(made[0], torch.nan) if made else theta.new_full(simulator.event_shape, torch.nan)
        return Block(index, theta, torch.stack([lost if row is None else row for row in rows]), errors)


def run_blocks(
    simulator: Simulator,
    blocks: Iterable[tuple[int, Tensor]],
    seed: int,
    *,
    workers: int = 1,
    executor: Any = None,
    stop: Event | None = None,
) -> Iterator[Block]:
    """Simulate many blocks, yielding each as it is finished (in any order when there are several workers).

    Args:
        simulator: What draws x given theta.
        blocks: Pairs (index, theta); read only as fast as they are simulated.
        seed: Root of the blocks' streams.
        workers: Processes on this machine, when no ``executor`` is given.
        executor: A ``concurrent.futures`` executor or a ``dask.distributed.Client``; it is left open.
        stop: Once set, no block is begun any more; those in hand are finished.

    Raises:
        ValueError: If ``workers`` is not positive.
        TypeError: If ``executor`` cannot take work, or the simulator cannot be sent to another process.
        RuntimeError: If worker processes keep dying.
    """
    check_workers(workers, executor)
    if workers == 1 and executor is None:
        for index, theta in blocks:
            if stop is not None and stop.is_set():
                return
            yield simulate_block(simulator, theta, seed, index)
    else:
        yield from _elsewhere(_packed(simulator), iter(blocks), seed, workers, executor, stop or Event())


def check_workers(workers: int, executor: Any) -> None:
    """Refuse what cannot run blocks, before anything runs."""
    if isinstance(workers, bool) or not isinstance(workers, (int, np.integer)):
        raise TypeError(f"workers: expected an int; got {type(workers).__name__}")
    if workers < 1:
        raise ValueError(f"workers: expected a positive int; got {workers}")
    if executor is not None and not hasattr(executor, "submit"):
        raise TypeError(
            "executor: expected a concurrent.futures executor or a dask.distributed.Client; "
            f"got {type(executor).__name__}"
        )


def _elsewhere(
    packed: bytes,
    blocks: Iterator[tuple[int, Tensor]],
    seed: int,
    workers: int,
    executor: Any,
    stop: Event,
) -> Iterator[Block]:
    """Keep every worker busy with a few blocks in waiting; blocks of workers that died are simulated again."""
    pool, window = _open(workers, executor)
    waiting: dict[concurrent.futures.Future[Any], tuple[int, Tensor]] = {}
    again: deque[tuple[int, Tensor]] = deque()
    deaths = 0
    try:
        while True:
            broken: BaseException | None = None
            while len(waiting) < window and not stop.is_set():
                item = again.popleft() if again else next(blocks, None)
                if item is None:
                    break
                try:
                    waiting[pool.submit(_work, packed, item[1].numpy(), seed, item[0])] = item
                except concurrent.futures.BrokenExecutor as error:
                    again.append(item)
                    broken = error
                    break
            if stop.is_set():
                for future in [future for future in waiting if future.cancel()]:
                    del waiting[future]
            if not waiting and broken is None:
                return
            done, _ = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                index, theta = waiting.pop(future)
                try:
                    x, errors = future.result()
                except concurrent.futures.BrokenExecutor as error:
                    again.append((index, theta))
                    broken = error
                else:
                    deaths = 0
                    yield Block(index, theta, torch.from_numpy(x), errors)
            if broken is not None:
                again.extend(waiting.values())
                waiting.clear()
                deaths += 1
                if executor is not None or deaths >= DEATHS:
                    raise RuntimeError(
                        f"worker processes died while simulating (killed, perhaps for want of memory): {broken}"
                    ) from broken
                logger.warning("a worker process died; its blocks are simulated again in new ones")
                pool, window = _open(workers, executor)
    finally:
        for future in waiting:
            future.cancel()


def _open(workers: int, executor: Any) -> tuple[Any, int]:
    """Something with ``submit`` that gives ``concurrent.futures`` futures, and how many blocks to keep there."""
    if executor is None:
        from loky import get_reusable_executor

        return get_reusable_executor(workers, timeout=60, env=ONE_THREAD, initializer=_begin_worker), 2 * workers
    if hasattr(executor, "get_executor"):
        threads = sum(executor.nthreads().values())
        return executor.get_executor(pure=False), 2 * max(threads, workers, 1)
    return executor, 2 * max(getattr(executor, "_max_workers", 1), workers)


def _packed(simulator: Simulator) -> bytes:
    import cloudpickle

    try:
        return cloudpickle.dumps(simulator)
    except Exception as error:
        raise TypeError(
            f"simulator: {simulator.name} cannot be sent to worker processes; use workers=1: {error}"
        ) from error


@functools.lru_cache(maxsize=4)
def _unpacked(packed: bytes) -> Simulator:
    """The simulator that this very run sent to its worker; kept, so that compiled kernels and tables are, too."""
    import pickle

    simulator: Simulator = pickle.loads(packed)
    return simulator


def _work(packed: bytes, theta: np.ndarray, seed: int, index: int) -> tuple[np.ndarray, dict[int, str]]:
    """One block in a worker; arrays travel as NumPy, since torch tensors would travel as handles of shared memory."""
    block = simulate_block(_unpacked(packed), torch.from_numpy(theta), seed, index)
    return block.x.cpu().numpy(), block.errors


def _begin_worker() -> None:
    torch.set_num_threads(1)
    # Ctrl-C reaches the whole group of processes; only the parent decides, and it lets blocks in hand finish
    signal.signal(signal.SIGINT, signal.SIG_IGN)
