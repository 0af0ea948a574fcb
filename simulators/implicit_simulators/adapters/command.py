"""An external program as a simulator: whatever the language, its failures told apart run by run."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import json
import math
import os
import queue
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_simulators.adapters.printed import READERS, UnreadableError
from implicit_simulators.adapters.prior import as_prior
from implicit_simulators.adapters.process import Kept, Once, Outcome, interrupted_together
from implicit_simulators.adapters.program import ProgramSimulator, event_shape_of, parameter_names_of
from implicit_simulators.adapters.template import Template, digests_of, find_program
from implicit_simulators.failures import one_row
from implicit_simulators.streams import Stream

PROTOCOLS = ("run", "lines")
TRIALS = 5
SEEDS = 2**31
"""Seeds are below this, so that a signed int of C holds them."""

LAST_LINES = 3


class CommandSimulator(ProgramSimulator):
    r"""Runs ``command`` once for each row, never through a shell.

    **Parameters** stand in the command as ``{alpha}``, with a format if need be, as in ``{alpha:.3f}``; they are
    written with all their digits otherwise. A command without them is given ``{"alpha": 0.5, ..., "seed": 123}`` on
    standard input. ``{{alpha}}`` is the text ``{alpha}``.

    **Random numbers.** ``{seed}`` is an int below :math:`2^{31}` that belongs to the row. A program that seeds its
    generator with it gives the same numbers in every run and for any ``jobs``.

    **Outcome.** The program prints x to standard output and ends with status 0: as JSON, a number or nested lists of
    them, bare or as ``{"x": ...}``, or ``{"error": "why"}``; or as CSV. If ``{output}`` stands in the command, it is
    the path of a file that the program writes instead.

    **Failures.** A run that ends with another status, is killed, takes longer than ``timeout``, or prints what cannot
    be read or has another shape, is a row of NaN. It stands in ``failures`` with theta, the reason, its seed, its exit
    status and the end of what it wrote to standard error. At its time limit and on Ctrl-C a program is ended with all
    that it started.

    **Slow starts.** With ``protocol="lines"`` a process is kept for a block of rows. It reads one JSON object a line,
    and answers each with one line of JSON, which it must flush. It has to seed its generator for each line.

    **Versions.** ``settings()`` holds a digest of the program and of every argument that is a file, so that
    simulations stored by an older version are not mixed with those of this one; name a ``version`` where that does not
    tell (a module, a container).

    Args:
        command: The program and its arguments, ``["./model", "--rate", "{alpha}", "{seed}"]``.
        prior: See :func:`implicit_simulators.adapters.prior.as_prior`.
        parameter_names: The d names, in the order of the prior; theta_1, ..., theta_d if None.
        event_shape: Shape of one x; found by a trial run with draws from the prior if None.
        output: ``"json"`` or ``"csv"``.
        protocol: ``"run"``: a process for each row; ``"lines"``: a process for many, see above.
        timeout: Seconds a run may take; no limit if None.
        jobs: Runs at the same time, in threads that wait for them. (A time limit of ``ii.simulate`` then holds for
            blocks rather than rows; ``timeout`` holds for every run.)
        environment: Variables to set besides those of this process.
        cwd: Folder the program runs in, and in which its relative paths are looked up; this process's if None.
        observed: Data, with shape ``event_shape``, available as ``observation("observed")``.
        summarize: Summary statistics, from (n, \*event_shape) to (n, k); x flattened if None.
        version: What else tells this program from another version of it.
        name: Name in reports; the program's if None.

    Attributes:
        failures: The first 1000 runs that failed, each as (theta, message, seed, status, stderr).
        failed: How many runs failed in all.

    Raises:
        TypeError: If ``command`` is no list of strings, or an argument has another type.
        ValueError: If the program is not found, a placeholder has no parameter or a parameter no placeholder, an
            argument does not fit, or each of 5 trial runs with draws from the prior fails.

    Example:
        >>> import sys
        >>> square = CommandSimulator(
        ...     [sys.executable, "-c", "import sys; print(float(sys.argv[1]) ** 2)", "{side}"],
        ...     prior=([0.0], [1.0]),
        ...     parameter_names=["side"],
        ... )
        >>> square.simulate([[0.5], [2.0]], seed=0)
        tensor([[0.2500],
                [4.0000]])
    """

    def __init__(
        self,
        command: Sequence[str | os.PathLike[str]],
        prior: Any,
        *,
        parameter_names: Any = None,
        event_shape: Any = None,
        output: str = "json",
        protocol: str = "run",
        timeout: float | None = None,
        jobs: int = 1,
        environment: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        observed: Any = None,
        summarize: Callable[[Tensor], Any] | None = None,
        version: str | None = None,
        name: str | None = None,
    ) -> None:
        self._begin(summarize)
        self.prior = as_prior(prior)
        self.parameter_names = parameter_names_of(parameter_names, self.prior.event_shape[0])
        self._template = Template(command, self.parameter_names)
        if output not in READERS:
            raise ValueError(f"output: expected one of {', '.join(READERS)}; got {output!r}")
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol: expected one of {', '.join(PROTOCOLS)}; got {protocol!r}")
        if protocol == "lines" and output != "json":
            raise ValueError(f'output: protocol="lines" answers in JSON; got {output!r}')
        if protocol == "lines" and self._template.places:
            place = min(self._template.places)
            raise ValueError(f'command: protocol="lines" gives parameters on standard input; {{{place}}} has no value')
        if isinstance(jobs, bool) or not isinstance(jobs, int):
            raise TypeError(f"jobs: expected a positive int; got {type(jobs).__name__}")
        if jobs < 1:
            raise ValueError(f"jobs: expected a positive int; got {jobs}")
        if timeout is not None and not 0 < timeout < math.inf:
            raise ValueError(f"timeout: expected a positive number of seconds or None; got {timeout}")
        self.output, self.protocol, self.timeout, self.jobs, self.version = output, protocol, timeout, jobs, version
        self.environment = _environment(environment)
        self.cwd = None if cwd is None else os.path.abspath(cwd)
        if self.cwd is not None and not os.path.isdir(self.cwd):
            raise ValueError(f"cwd: expected a folder; got {self.cwd!r}")
        self._program = find_program(self._template.words[0], self.cwd, self.environment)
        self.digests = digests_of(self._template.words, self._program, self.cwd)
        self.name = str(name or Path(self._template.words[0]).stem)
        if event_shape is not None:
            self.event_shape = event_shape_of(event_shape)
        else:
            self.event_shape = self._try()
        self._take_data(observed)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        theta = theta.detach()
        if not len(theta):
            return theta.new_zeros((0, *self.event_shape))
        seeds = [Stream.of(stream.key, row, "simulate").key % SEEDS for row in range(len(theta))]
        rows = []
        with self._runs(theta.double().tolist(), seeds) as runs:
            for i, (run, seed) in enumerate(zip(runs, seeds, strict=True)):
                try:
                    with one_row(i):
                        x = self._read(run(), self.event_shape)
                    rows.append(torch.from_numpy(x).to(theta))
                except RunError as failed:
                    outcome = failed.outcome
                    rows.append(self._fail(i, theta[i], str(failed), seed, outcome.status, outcome.stderr))
                except TimeoutError as error:  # a limit of whoever runs the blocks
                    rows.append(self._fail(i, theta[i], f"it {error}", seed))
        return torch.stack(rows)

    @contextlib.contextmanager
    def _runs(self, thetas: list[list[float]], seeds: list[int]) -> Iterator[list[Callable[[], Outcome]]]:
        """What gives the outcome of each row, which is made then, or with several jobs was made before."""
        environment = {**os.environ, **self.environment}
        jobs = min(self.jobs, len(seeds))
        runners: list[Once | Kept] = [
            Once(self.cwd, environment, self.timeout)
            if self.protocol == "run"
            else Kept([self._program, *self._template.fill({})[1:]], self.cwd, environment, self.timeout)
            for _ in range(jobs)
        ]
        with tempfile.TemporaryDirectory() as folder, interrupted_together(runners):
            tasks = [
                functools.partial(self._run, theta=theta, seed=seed, file=Path(folder, str(row)))
                for row, (theta, seed) in enumerate(zip(thetas, seeds, strict=True))
            ]
            if jobs == 1:
                yield [functools.partial(task, runners[0]) for task in tasks]
                return
            idle: queue.SimpleQueue[Once | Kept] = queue.SimpleQueue()
            for runner in runners:
                idle.put(runner)

            def with_an_idle_runner(task: Callable[[Once | Kept], Outcome]) -> Outcome:
                runner = idle.get()
                try:
                    return task(runner)
                finally:
                    idle.put(runner)

            with _threads(jobs, runners) as pool:
                futures = [pool.submit(with_an_idle_runner, task) for task in tasks]
                concurrent.futures.wait(futures)
            yield [future.result for future in futures]

    def _run(self, runner: Once | Kept, theta: list[float], seed: int, file: Path) -> Outcome:
        values = dict(zip(self.parameter_names, theta, strict=True))
        line = json.dumps({**values, "seed": seed})
        if isinstance(runner, Kept):
            outcome = runner.run(line)
            if not outcome.problem and not _is_json(outcome.output):
                runner.restart()  # it no longer answers line by line
            return outcome
        by_arguments = bool(self._template.places & set(self.parameter_names))
        words = self._template.fill({**values, "seed": seed, "output": str(file)})
        outcome = runner.run([self._program, *words[1:]], None if by_arguments else line)
        if "output" in self._template.places and not outcome.problem:
            try:
                outcome = outcome._replace(output=file.read_text(encoding="utf-8", errors="replace"))
                file.unlink()
            except OSError as error:
                outcome = outcome._replace(problem=f"it left no file: {error.strerror}")
        return outcome

    def _read(self, outcome: Outcome, shape: torch.Size | None) -> np.ndarray:
        r"""The numbers of one run, with shape ``event_shape`` (any, if that is not known yet)."""
        if outcome.problem:
            raise RunError(outcome.problem, outcome)
        try:
            x = READERS[self.output](outcome.output)
        except UnreadableError as error:
            raise RunError(str(error), outcome) from None
        x = x.reshape(1) if not x.ndim else x
        if shape is not None and x.shape != shape:
            if [n for n in x.shape if n != 1] != [n for n in shape if n != 1]:
                raise RunError(f"expected shape {tuple(shape)}; it printed shape {x.shape}", outcome)
            x = x.reshape(shape)
        return x

    def _try(self) -> torch.Size:
        """The shape that the program gives, from the first draw of the prior that does not fail."""
        first = ""
        for trial in range(TRIALS):
            theta = self.sample_prior(1, seed=0, block=trial)
            with self._runs(theta.double().tolist(), [trial]) as (run,):
                try:
                    return torch.Size(self._read(run(), None).shape)
                except RunError as error:
                    first = first or str(error)
        raise ValueError(f"command: {self.name} failed for each of {TRIALS} draws of the prior; first: {first}")

    def settings(self) -> dict[str, Any]:
        """The command, digests of the files in it, and how it is spoken to."""
        return {
            "command": list(self._template.words),
            "digests": dict(self.digests),
            "environment": dict(self.environment),
            "output": self.output,
            "protocol": self.protocol,
            "version": self.version,
            "name": self.name,
        }


class RunError(RuntimeError):
    """One run has no outcome: why, and the last lines of standard error."""

    def __init__(self, problem: str, outcome: Outcome) -> None:
        lines = [line.strip() for line in outcome.stderr.splitlines() if line.strip()]
        said = "; stderr: " + " | ".join(lines[-LAST_LINES:]) if lines else ""
        super().__init__(problem + said)
        self.outcome = outcome


@contextlib.contextmanager
def _threads(jobs: int, runners: Sequence[Once | Kept]) -> Iterator[concurrent.futures.Executor]:
    """A pool that can be left at once: processes are killed, so that no thread waits for them."""
    pool = concurrent.futures.ThreadPoolExecutor(jobs, thread_name_prefix="command")
    try:
        yield pool
    except BaseException:
        for runner in runners:
            runner.stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _environment(environment: Any) -> dict[str, str]:
    if environment is None:
        return {}
    if not isinstance(environment, Mapping) or not all(
        isinstance(item, str) for pair in environment.items() for item in pair
    ):
        raise TypeError(f"environment: expected strings by strings; got {environment!r}")
    return dict(environment)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
