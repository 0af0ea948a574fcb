"""Run blocks of simulations here, in processes, in threads or on a cluster; what comes back never depends on which."""

from __future__ import annotations

import concurrent.futures
import math
import numbers
from collections.abc import Iterable, Iterator
from threading import Event
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_infer.blocks import Block, simulate_block
from implicit_infer.processes import packed, run_in_processes, unpacked
from implicit_simulators import Simulator


def run_blocks(
    simulator: Simulator,
    blocks: Iterable[tuple[int, Tensor]],
    seed: int,
    *,
    workers: int = 1,
    executor: Any = None,
    timeout: float | None = None,
    stop: Event | None = None,
) -> Iterator[Block]:
    """Simulate many blocks, yielding each as it is finished (in any order when there are several workers).

    Args:
        simulator: What draws x given theta.
        blocks: Pairs (index, theta); read only as fast as they are simulated.
        seed: Root of the blocks' streams.
        workers: Processes on this machine, when no ``executor`` is given; threads of this process where the simulator
            spends its time outside Python (``releases_gil``) and there is no ``timeout``.
        executor: A ``concurrent.futures`` executor or a ``dask.distributed.Client``; it is left open.
        timeout: Seconds that one simulation may take. Without an ``executor``, simulations then run in processes even
            for one worker: only a process can be ended whatever it does.
        stop: Once set, no block is begun any more; those in hand are finished.

    Raises:
        ValueError: If ``workers`` or ``timeout`` is not positive.
        TypeError: If ``executor`` cannot take work, or the simulator cannot be sent to another process.
        RuntimeError: If worker processes keep dying.
    """
    check_workers(workers, executor)
    timeout, stop = check_timeout(timeout), stop or Event()
    if executor is not None:
        yield from _on(executor, simulator, iter(blocks), seed, workers, timeout, stop)
    elif workers > 1 and simulator.releases_gil and timeout is None:
        with concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix="simulate") as threads:
            yield from _on(threads, simulator, iter(blocks), seed, workers, timeout, stop)
    elif workers > 1 or timeout is not None:
        yield from run_in_processes(simulator, iter(blocks), seed, workers, timeout, stop)
    else:
        for index, theta in blocks:
            if stop.is_set():
                return
            yield simulate_block(simulator, theta, seed, index)


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


def check_timeout(timeout: Any) -> float | None:
    """Seconds, or None for no limit."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, numbers.Real):
        raise TypeError(f"timeout: expected seconds as a number, or None; got {type(timeout).__name__}")
    if not 0 < float(timeout) < math.inf:
        raise ValueError(f"timeout: expected a positive number of seconds; got {timeout}")
    return float(timeout)


def _on(
    executor: Any,
    simulator: Simulator,
    blocks: Iterator[tuple[int, Tensor]],
    seed: int,
    workers: int,
    timeout: float | None,
    stop: Event,
) -> Iterator[Block]:
    """Keep an executor busy with a few blocks in waiting."""
    # threads share the simulator; anything else may be another process, and is sent it once
    here = isinstance(executor, concurrent.futures.ThreadPoolExecutor)
    sent: Any = simulator if here else packed(simulator)
    pool, window = _window(executor, workers)
    waiting: dict[concurrent.futures.Future[Any], tuple[int, Tensor]] = {}
    try:
        while True:
            while len(waiting) < window and not stop.is_set():
                item = next(blocks, None)
                if item is None:
                    break
                waiting[pool.submit(_work, sent, item[1].numpy(), seed, item[0], timeout)] = item
            if stop.is_set():
                for future in [future for future in waiting if future.cancel()]:
                    del waiting[future]
            if not waiting:
                return
            done, _ = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                index, theta = waiting.pop(future)
                x, errors = future.result()
                yield Block(index, theta, torch.from_numpy(x), errors)
    except concurrent.futures.BrokenExecutor as error:
        raise RuntimeError(
            f"executor: its worker processes died while simulating (killed, perhaps for want of memory): {error}"
        ) from error
    finally:
        for future in waiting:
            future.cancel()


def _window(executor: Any, workers: int) -> tuple[Any, int]:
    """Something with ``submit`` that gives ``concurrent.futures`` futures, and how many blocks to keep there."""
    if hasattr(executor, "get_executor"):
        threads = sum(executor.nthreads().values())
        return executor.get_executor(pure=False), 2 * max(threads, workers, 1)
    return executor, 2 * max(getattr(executor, "_max_workers", 1), workers)


def _work(
    sent: Simulator | bytes, theta: np.ndarray, seed: int, index: int, timeout: float | None
) -> tuple[np.ndarray, dict[int, str]]:
    """One block, wherever it runs; arrays travel as NumPy, since tensors would travel as handles of shared memory."""
    simulator = sent if isinstance(sent, Simulator) else unpacked(sent)
    block = simulate_block(simulator, torch.from_numpy(theta), seed, index, timeout)
    return block.x.cpu().numpy(), block.errors
