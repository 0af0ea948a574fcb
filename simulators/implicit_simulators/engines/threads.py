"""Rows spread over this process's own threads, for kernels that release the interpreter's lock.

Never OpenMP: a process forked after its first parallel loop hangs or is ended by the runtime, and numba's other pool
aborts when two Python threads enter it. Plain threads have neither fault, and results do not depend on how rows are
split, since every row owns its random numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def in_threads(work: Callable[[int, int], None], rows: int, threads: int, parts: int = 4, least: int = 256) -> None:
    """Call ``work(first, last)`` for consecutive ranges that make up ``rows``, in ``threads`` threads.

    Args:
        work: Does rows first to last, without the interpreter's lock; what it raises is raised here.
        rows: How many there are.
        threads: How many threads; 1 calls ``work`` once, here.
        parts: Ranges a thread: rows do not take equally long, so each thread takes another range when it ends one.
        least: Rows below which a part is not worth a thread.

    Raises:
        ValueError: If ``threads`` is not positive.
    """
    if threads < 1:
        raise ValueError(f"threads: expected a positive int; got {threads}")
    if threads == 1 or rows <= least:
        if rows:
            work(0, rows)
        return
    size = max(least, -(-rows // (threads * parts)))
    size = -(-size // 64) * 64
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(work, start, min(rows, start + size)) for start in range(0, rows, size)]:
            future.result()
