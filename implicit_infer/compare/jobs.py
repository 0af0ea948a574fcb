"""Does the jobs of a comparison one after another here, or several at once in worker processes."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from implicit_infer import progress
from implicit_infer.compare import bank
from implicit_infer.compare.folder import FAILED, FINISHED, Folder, read_json
from implicit_infer.compare.plan import Job, Plan
from implicit_infer.compare.run import answer, record, refer
from implicit_infer.compare.score import score
from implicit_infer.compare.watch import Watch
from implicit_infer.processes import ONE_THREAD

POLL = 0.2
"""Seconds between looks at what workers say of their progress."""


def do(folder: Folder, plan: Plan, job: Job, wanted: Any = lambda: True) -> str:
    """Do one job; errors of methods are kept in its folder, so what comes back is a status."""
    if job.scores:
        return FAILED if score(folder, plan, job.name)["error"] else FINISHED
    if job.run is None:
        return record(folder, plan, None, functools.partial(refer, plan), wanted)
    run = job.run
    return record(folder, plan, run, lambda: answer(plan, run, bank.shared(folder, plan, run.repeat)), wanted)


def do_here(folder: Folder, plan: Plan, jobs: Iterable[Job], watch: Watch) -> None:
    """Do the jobs one after another in this process."""
    for job in jobs:
        watch.started(job)

        def tell(bar: progress.Bar, job: Job = job) -> None:
            watch.told(job, vars(bar))

        with progress.listening(tell):
            status = do(folder, plan, job)
        watch.ended(job, status, reason(folder, job))


def pack(plan: Plan) -> bytes:
    """A plan as workers receive it.

    Raises:
        TypeError: If the simulator or a method cannot be sent to another process.
    """
    import cloudpickle

    try:
        return cloudpickle.dumps(plan)
    except Exception as error:
        raise TypeError(
            f"workers: the simulator or a method cannot be sent to another process; use workers=1: {error}"
        ) from error


def do_in_workers(folder: Folder, plan: Plan, packed: bytes, jobs: Iterable[Job], workers: int, watch: Watch) -> None:
    """Do the jobs in worker processes, one at a time in each.

    Every worker has an executor of its own, so that when one dies (killed for want of memory, or crashed in native
    code) it is known which job it had: that one has failed, and the others go on.

    Args:
        folder: The comparison's folder.
        plan: The comparison.
        packed: The same, from :func:`pack`.
        jobs: What is to be done.
        workers: How many processes.
        watch: What hears of it.
    """
    waiting = deque(jobs)
    lanes: dict[int, Any] = {}
    free = list(range(min(workers, len(waiting))))
    at_work: dict[concurrent.futures.Future[str], tuple[Job, int]] = {}
    try:
        while waiting or at_work:
            while waiting and free:
                job, lane = waiting.popleft(), free.pop()
                if lane not in lanes:
                    lanes[lane] = _open_lane()
                at_work[lanes[lane].submit(_do_as_worker, str(folder.root), packed, job)] = (job, lane)
                watch.started(job)
            done, _ = concurrent.futures.wait(at_work, POLL, concurrent.futures.FIRST_COMPLETED)
            for future in done:
                job, lane = at_work.pop(future)
                free.append(lane)
                try:
                    status = future.result()
                except Exception as error:
                    lanes.pop(lane).shutdown(wait=False, kill_workers=True)
                    status = _lost(folder, plan, job, error)
                watch.ended(job, status, reason(folder, job))
            for job, _ in at_work.values():
                watch.told(job, read_json(folder.progress(job.name)) or {})
    finally:
        for lane_pool in lanes.values():
            lane_pool.shutdown(wait=True, kill_workers=True)


def reason(folder: Folder, job: Job) -> str | None:
    """Why a job failed, in one line; None if it did not."""
    about = folder.scores(job.name) if job.scores else folder.result(job.name) or {}
    return about.get("error")


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C interrupt at once: parts of a run would otherwise end early and pass for the whole."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def interrupt(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@functools.lru_cache(maxsize=1)
def _unpack(packed: bytes) -> Plan:
    """The plan that this worker's own parent sent; kept, so that compiled kernels are, too."""
    import pickle

    plan: Plan = pickle.loads(packed)
    return plan


def _open_lane() -> Any:
    from loky import ProcessPoolExecutor

    return ProcessPoolExecutor(1, timeout=None, env=ONE_THREAD, initializer=_begin_worker, initargs=(os.getpid(),))


def _begin_worker(parent: int) -> None:
    torch.set_num_threads(1)
    # Ctrl-C reaches the whole group of processes; the parent decides, and ends its workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    # a worker whose parent was killed must not go on beside those of the next start
    threading.Thread(target=follow, daemon=True).start()


def _do_as_worker(root: str, packed: bytes, job: Job) -> str:
    folder, parent = Folder(root), os.getppid()
    newest = folder.progress(job.name)
    with progress.listening(progress.to_file(newest)):
        status = do(folder, _unpack(packed), job, wanted=lambda: os.getppid() == parent)
    newest.unlink(missing_ok=True)
    return status


def _lost(folder: Folder, plan: Plan, job: Job, error: Exception) -> str:
    """Record a job whose worker could not bring it to an end."""

    def work() -> None:
        raise RuntimeError(f"the worker process died, perhaps for want of memory ({type(error).__name__})") from error

    if job.scores:
        return FAILED
    return record(folder, plan, job.run, work)
