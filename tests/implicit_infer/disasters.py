"""Ends a run at any one of the things that it does to the disk: the power goes, or the disk is full."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


class Disk:
    """Counts what is done to files, and has the ``fatal``-th go wrong, half-way through if it is a write."""

    def __init__(self, wrong: Callable[[Disk], None], fatal: int = 0) -> None:
        self.wrong, self.fatal = wrong, fatal
        self.count = 0
        self.dirty: set[str] = set()
        """Files of which something may not have reached the disk."""
        self.guard = threading.RLock()  # Zarr writes in threads

    def step(self, half: Callable[[], Any] = lambda: None) -> None:
        with self.guard:
            self.count += 1
            if self.count == self.fatal:
                half()
                self.wrong(self)

    def fsync(self, descriptor: int) -> None:
        with self.guard:
            self.dirty.discard(os.readlink(f"/proc/self/fd/{descriptor}"))

    def replace(self, source: Any, target: Any) -> None:
        with self.guard:
            self.dirty = {path.replace(str(source), str(target), 1) for path in self.dirty}

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Hear of all that is done to files inside."""
        kept = {name: getattr(os, name) for name in ("fsync", "replace", "unlink", "mkdir", "link")}
        opened = io.open

        def stepping(function: Callable[..., Any]) -> Callable[..., Any]:
            def stepped(*args: Any, **kwargs: Any) -> Any:
                self.step()
                result = function(*args, **kwargs)
                if function.__name__ in ("fsync", "replace"):
                    getattr(self, function.__name__)(*args)
                return result

            return stepped

        def opening(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            handle = opened(file, mode, *args, **kwargs)
            return _File(handle, self, str(file)) if set(mode) & set("wax+") and "lock" not in str(file) else handle

        try:
            for name, function in kept.items():
                setattr(os, name, stepping(function))
            io.open = opening
            yield
        finally:
            for name, function in kept.items():
                setattr(os, name, function)
            io.open = opened


class _File:
    """A file whose writes are heard of."""

    def __init__(self, file: Any, disk: Disk, path: str) -> None:
        self.file, self.disk, self.path = file, disk, path

    def write(self, data: Any) -> Any:
        with self.disk.guard:
            self.disk.dirty.add(self.path)

        def half() -> None:
            self.file.write(data[: len(data) // 2])
            self.file.flush()

        self.disk.step(half)
        return self.file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()


def full(disk: Disk) -> None:
    """What a full disk answers."""
    raise OSError(28, "No space left on device")


def kill(disk: Disk) -> None:
    """The process ends; what it has written reaches the disk in time."""
    os.kill(os.getpid(), signal.SIGKILL)


def power_off(disk: Disk) -> None:
    """The machine ends: of what was not flushed only the names have reached the disk."""
    for path in disk.dirty:
        with contextlib.suppress(FileNotFoundError):
            os.truncate(path, 0)
    kill(disk)


def ended(run: Callable[[], Any], how: Callable[[Disk], None], fatal: int) -> bool:
    """Whether a forked process that does ``run`` reaches the ``fatal``-th thing done to the disk, where it ends."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException), Disk(how, fatal).watched():
            run()
        os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
