"""What a comparison shows while it runs: a live bar per method on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from implicit_infer.compare.folder import ABSENT, FINISHED
from implicit_infer.compare.plan import REFERENCE, Job, Plan
from implicit_infer.compare.words import clock, duration, work_in_words

EVERY = 20.0
"""Seconds between two plain lines about the same work."""

BANK = "prior simulations"


class Watch:
    """Hears of everything and shows nothing; children show it. Use it as a context.

    Args:
        plan: The comparison.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.began = time.monotonic()
        self.jobs: list[Job] = []
        self.over: list[Job] = []
        self.since: dict[Job, float] = {}

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop showing."""

    def expect(self, jobs: Sequence[Job]) -> None:
        """These jobs come next."""
        self.jobs += jobs

    def banking(self, state: Mapping[str, Any]) -> None:
        """How far the prior simulations are."""

    def banked(self, repeat: int, n: int, seconds: float) -> None:
        """The prior simulations of one repetition are there."""

    def started(self, job: Job) -> None:
        """A job begins."""
        self.since[job] = time.monotonic()

    def told(self, job: Job, state: Mapping[str, Any]) -> None:
        """The newest state of a job's work: ``name``, ``total``, ``done`` and ``figures``; empty if none is known."""

    def ended(self, job: Job, status: str, error: str | None) -> None:
        """A job is over."""
        self.over.append(job)

    def stopped(self, text: str) -> None:
        """The user stopped the comparison."""

    def which(self, job: Job) -> str:
        """Which run of its method a job is, in words; empty for the reference."""
        if job.run is None:
            return ""
        repeat = f", repeat {job.run.repeat + 1} of {self.plan.repeats}" if self.plan.repeats > 1 else ""
        return f"{job.run.budget:,} simulations{repeat}"

    def describe(self, job: Job) -> str:
        """A job in words."""
        if job.run is None:
            return "reference posterior"
        return f"{'scoring ' if job.scores else ''}{job.label}, {self.which(job)}"

    def tally(self) -> str:
        """How much is done, in words."""
        done, asked = (Counter(job.scores for job in jobs) for jobs in (self.over, self.jobs))
        parts = [(asked[False], f"{done[False]} of {asked[False]} runs done"), (asked[True], f"{done[True]} scored")]
        return ", ".join(text for there_are, text in parts if there_are) or "nothing left to do"


class Lines(Watch):
    """A line at each start, every twenty seconds, and at each end: for logs and pipes.

    Args:
        plan: The comparison.
        stream: Where the lines go.
        every: Seconds between two lines about the same work.
    """

    def __init__(self, plan: Plan, stream: TextIO, every: float = EVERY) -> None:
        super().__init__(plan)
        self.stream, self.every = stream, every
        self.said: dict[Job | str, float] = {}

    def __exit__(self, *_: object) -> None:
        """Say how much is done."""
        self._say(self.tally())

    def banking(self, state: Mapping[str, Any]) -> None:
        """Say how far the prior simulations are, now and then."""
        self.said.setdefault(BANK, time.monotonic())
        if self._due(BANK):
            self._say(f"{BANK}: {work_in_words(state)}")

    def banked(self, repeat: int, n: int, seconds: float) -> None:
        """Say that the prior simulations are there."""
        which = f" for repeat {repeat + 1} of {self.plan.repeats}" if self.plan.repeats > 1 else ""
        self._say(f"{BANK}: {n:,}{which} made in {duration(seconds)}")

    def started(self, job: Job) -> None:
        """Say what begins."""
        super().started(job)
        self.said[job] = time.monotonic()
        self._say(f"{self.describe(job)}: started")

    def told(self, job: Job, state: Mapping[str, Any]) -> None:
        """Say how far it is, now and then."""
        if self._due(job):
            at_work = f"at work for {duration(time.monotonic() - self.since[job])}"
            self._say(f"{self.describe(job)}: {work_in_words(state) or at_work}")

    def ended(self, job: Job, status: str, error: str | None) -> None:
        """Say how it ended."""
        super().ended(job, status, error)
        self._say(f"{self.describe(job)}: {ending(status, error)} ({duration(time.monotonic() - self.since[job])})")

    def stopped(self, text: str) -> None:
        """Say how to go on."""
        self._say(text)

    def _say(self, text: str) -> None:
        print(f"[{clock(time.monotonic() - self.began)}] {text}", file=self.stream, flush=True)

    def _due(self, what: Job | str) -> bool:
        now = time.monotonic()
        if now - self.said[what] < self.every:
            return False
        self.said[what] = now
        return True


class Live(Watch):
    """One bar per method, redrawn in place, with what it is doing now; the last line counts everything.

    Args:
        plan: The comparison.
        stream: The terminal.
    """

    def __init__(self, plan: Plan, stream: TextIO) -> None:
        super().__init__(plan)
        self.stream = stream
        self.bars = _bars(stream)
        self.rows: dict[str, Any] = {BANK: self._row(BANK, visible=False)}
        for label in ([] if plan.reference is None else [REFERENCE], plan.methods):
            self.rows |= {name: self._row(name) for name in label}
        self.total = self._row("total")
        self.bars.update(self.total, since=self.began)
        self.farewell = ""

    def __enter__(self) -> Watch:
        """Begin to draw."""
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last state on the screen."""
        self._count()
        self.bars.update(self.total, since=None, spent=time.monotonic() - self.began)
        self.bars.stop()
        if self.farewell:
            print(self.farewell, file=self.stream)

    def expect(self, jobs: Sequence[Job]) -> None:
        """Say of each method what comes."""
        super().expect(jobs)
        for label, count in Counter(job.label for job in jobs if not job.scores).items():
            self._set(label, text="waiting" if count == 1 else f"{count} runs waiting")
        for label in self.rows.keys() - {BANK} - {job.label for job in self.jobs}:
            self._set(label, completed=1, text="done before")
        self._count()

    def banking(self, state: Mapping[str, Any]) -> None:
        """Move the bar of the prior simulations, which is there only when they are made."""
        row = self.bars.tasks[self.rows[BANK]]
        since = row.fields["since"] or time.monotonic()
        total, done = state["total"], state["done"]
        self._set(BANK, visible=True, since=since, total=total, completed=done, text=work_in_words(state))

    def banked(self, repeat: int, n: int, seconds: float) -> None:
        """Fill the bar of the prior simulations."""
        self._rest(BANK)
        self._set(BANK, visible=True, total=n, completed=n, text=f"{n:,} made")

    def started(self, job: Job) -> None:
        """Let the method's bar begin anew."""
        super().started(job)
        self._set(job.label, total=None, completed=0, text=self.describe(job), since=self.since[job])
        self._count()

    def told(self, job: Job, state: Mapping[str, Any]) -> None:
        """Move the method's bar."""
        if state:
            several = job.run is not None and len(self.plan.budgets) * self.plan.repeats > 1
            text = work_in_words(state) + (f"  ({self.which(job)})" if several else "")
            self._set(job.label, total=state["total"], completed=state["done"], text=text)

    def ended(self, job: Job, status: str, error: str | None) -> None:
        """Say how it ended, and whether more of the method is to come."""
        super().ended(job, status, error)
        left = sum(other.label == job.label for other in self.jobs) - sum(o.label == job.label for o in self.over)
        text = ending(status, error) + (f", {left} more waiting" if left else "")
        self._rest(job.label)
        self._set(job.label, total=1, completed=0 if error else 1, text=text)
        self._count()

    def stopped(self, text: str) -> None:
        """Say how to go on, under the bars."""
        self.farewell = text

    def _row(self, name: str, visible: bool = True) -> Any:
        return self.bars.add_task(name, total=1, visible=visible, text="", since=None, spent=0.0)

    def _rest(self, label: str) -> None:
        """Stop a row's clock until its next job; rows show the time of all their jobs."""
        fields = self.bars.tasks[self.rows[label]].fields
        if fields["since"] is not None:
            self._set(label, since=None, spent=fields["spent"] + time.monotonic() - fields["since"])

    def _set(self, label: str, **fields: Any) -> None:
        self.bars.update(self.rows[label], **fields)

    def _count(self) -> None:
        self.bars.update(self.total, total=max(len(self.jobs), 1), completed=len(self.over), text=self.tally())


def _bars(stream: TextIO) -> Any:
    """Rich's progress display with a clock for each row."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.table import Column
    from rich.text import Text

    class Clock(ProgressColumn):
        def render(self, task: Task) -> Text:
            since, spent = task.fields["since"], task.fields["spent"]
            seconds = spent + (0.0 if since is None else time.monotonic() - since)
            return Text(clock(seconds) if seconds else "", style="progress.elapsed")

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        Clock(table_column=Column(justify="right", min_width=5)),
        TextColumn("{task.fields[text]}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
        # the stream itself and no redirection: what methods print is captured by replacing sys.stderr
        console=Console(file=stream),
        redirect_stdout=False,
        redirect_stderr=False,
        expand=True,
    )


def watching(plan: Plan, show: bool) -> Watch:
    """The kind of watch that suits where standard error goes."""
    if not show:
        return Watch(plan)
    return Live(plan, sys.stderr) if sys.stderr.isatty() else Lines(plan, sys.stderr)


def ending(status: str, error: str | None) -> str:
    """How a job ended, in words."""
    if error is not None:
        return f"failed: {error}"
    return {FINISHED: "done", ABSENT: "nothing exact is known for this simulator"}.get(status, status)
