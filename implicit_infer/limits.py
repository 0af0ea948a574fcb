"""Limit the time of a simulation from inside, so that one that hangs is one failure and not the end of a run.

Python code is interrupted where it stands: in the main thread by the system's interval timer, in other threads by an
exception that CPython delivers. Compiled code that never returns hears of neither; only whoever watches its process
from outside (:mod:`implicit_infer.processes`) can end it.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

TOLD = 0.1
"""Seconds between two words to the watcher, which rows of microseconds would otherwise drown."""


class OutOfTime(BaseException):
    """Raised inside the simulation that took too long."""


class Clock:
    """Limits, one inside the other, on what one thread does.

    Args:
        tell: Called with the seconds of each limit as it begins, for a watcher in another process.
    """

    def __init__(self, tell: Callable[[float], None] | None = None) -> None:
        self.tell = tell
        self.deadlines: list[float] = []
        self._told = 0.0
        self._telling = False
        self._alarm: _Signal | _Exception | None = None

    @contextlib.contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Interrupt what is done inside after ``seconds``.

        Raises:
            TimeoutError: If it was.
        """
        now, depth = time.monotonic(), len(self.deadlines)
        deadline = now + seconds
        if self.tell is not None and (depth == 0 or now - self._told > TOLD):
            self._told, self._telling = now, True  # a message cut short would spoil all that follow
            self.tell(seconds)
            self._telling = False
        if depth == 0:
            on_main = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
            self._alarm = _Signal(self.overdue) if on_main else _Exception(self.overdue)
        assert self._alarm is not None
        self.deadlines.append(deadline)
        try:
            self._alarm.arm(seconds)
            yield
        except OutOfTime:
            if time.monotonic() < deadline:  # it is an outer limit's
                raise
            raise TimeoutError(f"took longer than {seconds:g} s") from None
        finally:
            del self.deadlines[depth:]
            if depth:
                self._alarm.arm(self.deadlines[-1] - time.monotonic())
            else:
                self._alarm.close()

    def overdue(self) -> bool:
        """Whether the innermost limit has passed."""
        return not self._telling and bool(self.deadlines) and time.monotonic() >= self.deadlines[-1]


class _Signal:
    """The interval timer of the process; its handler runs in the main thread."""

    def __init__(self, overdue: Callable[[], bool]) -> None:
        def ring(signum: int, frame: Any) -> None:
            if overdue():
                raise OutOfTime

        self.before = signal.signal(signal.SIGALRM, ring)

    def arm(self, seconds: float) -> None:
        # again and again: code that swallows the first is asked once more
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6), 0.5)

    def close(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)


class _Exception:
    """A timer thread that raises in the thread that made it."""

    def __init__(self, overdue: Callable[[], bool]) -> None:
        self.overdue = overdue
        self.thread = ctypes.c_ulong(threading.get_ident())
        self.lock = threading.Lock()
        self.timer: threading.Timer | None = None

    def arm(self, seconds: float) -> None:
        self._cancel()
        self.timer = threading.Timer(max(seconds, 0), self._ring)
        self.timer.daemon = True
        self.timer.start()

    def _ring(self) -> None:
        with self.lock:
            if self.overdue():
                ctypes.pythonapi.PyThreadState_SetAsyncExc(self.thread, ctypes.py_object(OutOfTime))

    def _cancel(self) -> None:
        with self.lock:
            if self.timer is not None:
                self.timer.cancel()
            ctypes.pythonapi.PyThreadState_SetAsyncExc(self.thread, None)  # what was raised and not yet delivered

    def close(self) -> None:
        self._cancel()
