"""Rows spread over threads: each done once, by threads of this process, and failures told."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from implicit_simulators.engines.threads import in_threads


@given(rows=st.integers(0, 5000), threads=st.integers(1, 6), parts=st.integers(1, 5), least=st.integers(1, 600))
def test_every_row_is_done_once(rows: int, threads: int, parts: int, least: int) -> None:
    done, ranges = np.zeros(rows, int), []

    def work(first: int, last: int) -> None:
        done[first:last] += 1
        ranges.append((first, last))

    in_threads(work, rows, threads, parts, least)
    assert (done == 1).all()
    assert all(last > first for first, last in ranges)
    assert all(first % 64 == 0 for first, _ in ranges)  # whole blocks of lanes, but for the last
    assert len(ranges) <= threads * parts


def test_one_thread_and_few_rows_stay_in_the_calling_thread() -> None:
    seen = []
    for rows, threads in ((10_000, 1), (100, 4)):
        in_threads(lambda first, last: seen.append((threading.get_ident(), last - first)), rows, threads)
    assert seen == [(threading.get_ident(), 10_000), (threading.get_ident(), 100)]


def test_several_threads_work_at_the_same_time() -> None:
    """Three of them meet at a barrier, which none could pass alone."""
    barrier = threading.Barrier(3, timeout=30)
    in_threads(lambda first, last: barrier.wait() and None, 3 * 256, 3, parts=1)
    assert not barrier.broken


@pytest.mark.parametrize("threads", [1, 3])
def test_what_work_raises_is_raised_here(threads: int) -> None:
    def work(first: int, last: int) -> None:
        if last > 1000:
            raise ArithmeticError(f"row {last}")

    with pytest.raises(ArithmeticError, match="row"):
        in_threads(work, 5000, threads)


@pytest.mark.parametrize("threads", [0, -2])
def test_fewer_than_one_thread_are_refused(threads: int) -> None:
    with pytest.raises(ValueError, match=f"threads: expected a positive int; got {threads}"):
        in_threads(lambda first, last: None, 10, threads)
