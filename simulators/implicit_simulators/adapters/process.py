"""Run an external program for one row: fed, timed, and ended with everything it started."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import IO, Any, NamedTuple

logger = logging.getLogger(__name__)

GRACE = 1.0
"""Seconds that a program is given to end once nothing more is asked of it, or once it was told to end."""

PATIENCE = 10.0
"""Seconds after which a program that has never answered is suspected of keeping its lines to itself."""

KEPT_ERRORS = 4000
"""Characters of a run's standard error that are kept: the last."""


class Outcome(NamedTuple):
    """What became of one run.

    Attributes:
        output: What it printed.
        problem: Why there is no outcome; empty if the program ended well.
        status: Exit status, negative for the signal that killed it, None where it was not its own end.
        stderr: The end of what it wrote to standard error.
    """

    output: str
    problem: str = ""
    status: int | None = None
    stderr: str = ""


class Once:
    """Starts the program anew for every row.

    Args:
        cwd: Folder it runs in.
        environment: All of its environment.
        timeout: Seconds a run may take.
    """

    def __init__(self, cwd: str | None, environment: dict[str, str], timeout: float | None) -> None:
        self.cwd, self.environment, self.timeout = cwd, environment, timeout
        self._started = _Started()

    def run(self, command: Sequence[str], given: str | None) -> Outcome:
        """Run ``command`` with ``given`` on standard input."""
        feed = subprocess.DEVNULL if given is None else subprocess.PIPE
        try:
            process = self._started.start(command, self.cwd, self.environment, feed, subprocess.PIPE)
        except OSError as error:
            return Outcome("", f"it could not be started: {error}")
        try:
            out, err = process.communicate(None if given is None else given.encode(), self.timeout)
        except subprocess.TimeoutExpired:
            out, err = end(process)
            return Outcome(_text(out), f"it took longer than {self.timeout:g} s", None, _tail(err))
        except BaseException:
            end(process)
            raise
        finally:
            self._started.forget()
        return Outcome(_text(out), _problem(process.returncode), process.returncode, _tail(err))

    def stop(self) -> None:
        """Kill what runs, from another thread, and start nothing more."""
        self._started.stop()

    def close(self) -> None:
        """Nothing is left running between rows."""


class Kept:
    """Keeps one process alive that answers a line for every line; one that ended is started again for the next row.

    Args:
        command: The program and its arguments.
        cwd: Folder it runs in.
        environment: All of its environment.
        timeout: Seconds an answer may take, the start of the program included.
    """

    def __init__(
        self, command: Sequence[str], cwd: str | None, environment: dict[str, str], timeout: float | None
    ) -> None:
        self.command, self.cwd, self.environment, self.timeout = command, cwd, environment, timeout
        self._started = _Started()
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._errors: IO[bytes] | None = None
        self._proven = False

    def run(self, line: str) -> Outcome:
        """The program's answer to ``line``."""
        if not self._answers.empty():
            self._drop()  # it has said more than was asked: what comes next would be taken for another row's
        try:
            process = self._running()
        except OSError as error:
            return Outcome("", f"it could not be started: {error}")
        assert self._errors is not None
        before = os.fstat(self._errors.fileno()).st_size
        try:
            with contextlib.suppress(OSError):  # it has ended, as the missing answer will tell
                assert process.stdin is not None
                process.stdin.write(line.encode() + b"\n")
                process.stdin.flush()
            answer = self._answer()
        except queue.Empty:
            return self._over(f"it took longer than {self.timeout:g} s", None, before)
        except BaseException:
            self._drop()
            raise
        if answer is not None:
            return Outcome(_text(answer), "", None, self._said(before))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)  # its standard output has ended; it is about to
        return self._over(_problem(process.returncode) or "it ended without an answer", process.returncode, before)

    def _answer(self) -> bytes | None:
        if self._proven or (self.timeout is not None and self.timeout <= PATIENCE):
            return self._answers.get(timeout=self.timeout)
        try:
            answer = self._answers.get(timeout=PATIENCE)
        except queue.Empty:
            logger.warning(
                "%s has not answered its first line for %g s; does it read line by line, and flush what it prints?",
                *(self.command[0], PATIENCE),
            )
            answer = self._answers.get(timeout=None if self.timeout is None else self.timeout - PATIENCE)
        self._proven = True
        return answer

    def restart(self) -> None:
        """Start a new process for the next row: this one no longer answers line by line."""
        self._drop()

    def stop(self) -> None:
        """Kill what runs, from another thread, and start nothing more."""
        self._started.stop()

    def close(self) -> None:
        """Let the program see the end of its input, and end it if it stays."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE)
        self._drop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process; a pipe could fill up
            self._answers = queue.SimpleQueue()
            self._process = self._started.start(
                self.command, self.cwd, self.environment, subprocess.PIPE, subprocess.PIPE, self._errors
            )
            threading.Thread(target=_listen, args=(self._process.stdout, self._answers), daemon=True).start()
        return self._process

    def _over(self, problem: str, status: int | None, before: int) -> Outcome:
        said = self._said(before)
        self._drop()
        return Outcome("", problem, status, said)

    def _said(self, before: int) -> str:
        """What it wrote to standard error since it had written ``before`` bytes."""
        assert self._errors is not None
        written = os.fstat(self._errors.fileno()).st_size
        self._errors.seek(max(before, written - KEPT_ERRORS))
        return _tail(self._errors.read())

    def _drop(self) -> None:
        if self._process is not None:
            kill(self._process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE)
            with contextlib.suppress(OSError):
                assert self._process.stdin is not None
                self._process.stdin.close()
        if self._errors is not None:
            self._errors.close()
        self._process = self._errors = None
        self._started.forget()


class _Started:
    """The one process of a runner, so that another thread can kill it and nothing is started after that."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        command: Sequence[str],
        cwd: str | None,
        environment: dict[str, str],
        stdin: int,
        stdout: int,
        stderr: Any = subprocess.PIPE,
    ) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                raise InterruptedError("the run was stopped")
            # a session of its own: a signal to its group reaches all that it starts, and Ctrl-C does not reach it twice
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                env=environment,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
            return self._process

    def forget(self) -> None:
        with self._lock:
            self._process = None

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._process is not None:
                kill(self._process)


@contextlib.contextmanager
def interrupted_together(runners: Sequence[Once | Kept]) -> Iterator[None]:
    """End all processes if what is done inside is interrupted, and in any case when it is over."""
    try:
        yield
    except BaseException:
        for runner in runners:
            runner.stop()
        raise
    finally:
        for runner in runners:
            runner.close()


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all of its group, unless it was waited for (its number may be another's by then)."""
    if process.returncode is not None:
        return
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def end(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Kill a process and its group; what it had written until then."""
    kill(process)
    try:
        return process.communicate(timeout=GRACE)
    except subprocess.TimeoutExpired as late:  # something that left the group still holds the pipes
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.wait()
        return late.output or b"", late.stderr or b""


def _listen(stdout: IO[bytes], answers: queue.SimpleQueue[bytes | None]) -> None:
    with contextlib.suppress(OSError, ValueError), stdout:
        for line in stdout:
            answers.put(line)
    answers.put(None)


def _problem(status: int | None) -> str:
    if not status:
        return ""
    if status > 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace")


def _tail(raw: bytes) -> str:
    return _text(raw)[-KEPT_ERRORS:]
