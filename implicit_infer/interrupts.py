"""Ctrl-C as a request: long work finishes what it has in hand, keeps it, and stops."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from typing import Any

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def stopping(after: str) -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, so that the work in hand can be finished; a second one interrupts it.

    Only Python's own reaction to Ctrl-C is replaced, only in the main thread, and only inside.

    Args:
        after: What is finished first, for the message ("the blocks in hand").
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
        logger.warning("stopping after %s; press Ctrl-C again to stop at once", after)

    signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
