"""Python code is interrupted when its time is up, in any thread; limits stand one inside the other."""

import concurrent.futures
import contextlib
import signal
import sys
import threading
import time

import pytest

from implicit_infer.limits import Clock

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no interval timer")


def busy(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def in_main_thread(function):
    return function()


def in_another_thread(function):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


@pytest.fixture(params=[in_main_thread, in_another_thread])
def anywhere(request):
    return request.param


def test_what_takes_too_long_is_interrupted(anywhere):
    def work():
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=r"^took longer than 0\.05 s$"), Clock().limit(0.05):
            busy(20)
        return time.monotonic() - began

    assert 0.04 < anywhere(work) < 5


def test_what_is_in_time_is_left_alone_and_nothing_stays_behind(anywhere):
    before = signal.getsignal(signal.SIGALRM)

    def work():
        clock = Clock()
        for _ in range(20):
            with clock.limit(0.3):
                pass
        busy(0.4)  # an alarm that was forgotten would ring now
        return 7

    assert anywhere(work) == 7
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_code_that_catches_all_errors_does_not_catch_this_one(anywhere):
    def careless():
        for _ in range(100):
            with contextlib.suppress(Exception):
                busy(20)

    def work():
        with pytest.raises(TimeoutError), Clock().limit(0.05):
            careless()

    anywhere(work)


def test_an_inner_limit_ends_only_what_is_inside_it(anywhere):
    def work():
        clock, done = Clock(), []
        with clock.limit(20):
            for seconds in (0, 20, 0):
                try:
                    with clock.limit(0.3):
                        busy(seconds)
                    done.append(seconds)
                except TimeoutError:
                    done.append("late")
        return done

    assert anywhere(work) == [0, "late", 0]


def test_an_outer_limit_holds_across_inner_ones(anywhere):
    def work():
        clock, rows = Clock(), []

        def many():
            while True:
                with clock.limit(5):
                    busy(0.02)
                rows.append(0)

        with pytest.raises(TimeoutError, match=r"took longer than 0\.4 s"), clock.limit(0.4):
            many()
        return len(rows)

    assert 1 <= anywhere(work) <= 20


def test_a_watcher_is_told_seldom():
    told = []
    clock = Clock(tell=told.append)
    with clock.limit(10):
        for _ in range(1000):
            with clock.limit(1):
                pass
    assert told[0] == 10
    assert len(told) < 20


def test_errors_pass_through():
    with pytest.raises(KeyError), Clock().limit(1):
        raise KeyError("rate")
    assert threading.active_count() < 50
