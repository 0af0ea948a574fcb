"""Simulations that a sequential method asks for: counted, within the budget, and none begun once time is over."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from implicit_infer.blocks import NOT_FINITE, Block
from implicit_infer.executors import run_blocks
from implicit_infer.interrupts import stopping
from implicit_infer.posteriors.method import Question
from implicit_infer.progress import Bar
from implicit_infer.stored import StoredRuns
from implicit_simulators import Stream


class Halt(threading.Event):
    """An event that is also set once a time has passed.

    Args:
        seconds: From now, or None for no limit.
    """

    def __init__(self, seconds: float | None = None) -> None:
        super().__init__()
        self.until = None if seconds is None else time.monotonic() + seconds
        self.asked: threading.Event | None = None

    def is_set(self) -> bool:
        """Whether no block may be begun any more."""
        return bool(self.why())

    def why(self) -> str:
        """What stops, or an empty string."""
        if super().is_set() or (self.asked is not None and self.asked.is_set()):
            return "it was interrupted"
        return "the time is over" if self.until is not None and time.monotonic() >= self.until else ""

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Inside, the first Ctrl-C sets it."""
        with stopping("the blocks in hand") as self.asked:
            yield


class Simulations:
    """What a run simulates. Its state is three numbers, so that a run that goes on later repeats nothing.

    A block belongs to its place in the run: its random numbers do not depend on workers, nor on what was interrupted.

    Args:
        question: The question, with its budget.
        halt: Once set, no block is begun any more; those in hand are finished, and count.

    Attributes:
        bar: Hears of every block.
        root: Seed of the run's own streams. A bank may have been made with the question's seed, hence another.
        spent: Simulations so far, the bank's included.
        blocks: Blocks simulated so far.
        failed: Simulations that raised, or are not finite, or whose summaries are not.
        undefined: Simulations with finite summaries whose distance is no number.
    """

    def __init__(self, question: Question, halt: Halt) -> None:
        self.question, self.simulator, self.halt = question, question.simulator, halt
        self.bar = Bar("", None)
        self.root = Stream.of(question.seed, 0, "sample").key
        self.blocks = self.spent = self.failed = self.undefined = 0

    @property
    def left(self) -> int:
        """Simulations that may still be spent."""
        return self.question.budget - self.spent

    def stopped(self) -> str:
        """Why nothing more may be simulated, or an empty string."""
        return "the budget is spent" if self.left <= 0 else self.halt.why()

    def from_prior(self, n: int) -> tuple[Tensor, Tensor]:
        r"""Parameters (m, d) from the prior and their simulations (m, \*event_shape): m = n, or fewer once halted.

        They are the first rows of the bank; what it lacks is simulated. Without a bank they are those of
        ``ii.simulate(simulator, n, seed)``.

        Raises:
            RuntimeError: If every simulation raised, which is a mistake in the simulator.
            TimeoutError, KeyboardInterrupt: If nothing was finished before the halt.
        """
        bank, theta, x = self.question.bank, [], []
        if bank is not None:
            first = bank.first(min(n, len(bank)))
            first = first.in_memory() if isinstance(first, StoredRuns) else first
            theta, x = [first.theta], [first.x]
            self.spent += len(first)
            self.bar.update(len(first))
        missing = n - sum(map(len, theta))
        seed = self.question.seed if bank is None else self.root
        size = self.simulator.block
        sizes = [size] * (missing // size) + [missing % size] * (missing % size > 0)
        drawn = ((i, self.simulator.sample_prior(m, seed, i)) for i, m in enumerate(sizes))
        made = self._run(drawn, seed)
        if bank is not None:
            self.blocks += len(sizes)
        theta += [block.theta for block in made]
        x += [block.x for block in made]
        if not theta:
            error = KeyboardInterrupt if "interrupted" in self.halt.why() else TimeoutError
            raise error("stopped before the first block was finished")
        reasons = [reason for block in made for reason in block.errors.values() if reason != NOT_FINITE]
        if bank is None and len(reasons) == self.spent:
            raise RuntimeError(f"{self.simulator.name}: all of the first {self.spent} simulations raised: {reasons[0]}")
        return torch.cat(theta), torch.cat(x)

    def at(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        r"""Simulate parameters (n, d), in order.

        Returns:
            Which rows were simulated, with shape (m,), and their x, with shape (m, \*event_shape): all, unless halted.

        Raises:
            ValueError: If there are more than the budget allows.
        """
        if len(theta) > self.left:
            raise ValueError(f"theta: expected at most {self.left} rows, what is left of the budget; got {len(theta)}")
        parts = theta.split(self.simulator.block)
        first = self.blocks
        made = self._run(enumerate(parts, start=first), self.root)
        self.blocks += len(parts)
        if not made:
            none = torch.empty(0, dtype=torch.long, device=theta.device)
            return none, theta.new_empty((0, *self.simulator.event_shape))
        x = torch.cat([block.x for block in made])
        if len(x) == len(theta):
            return torch.arange(len(theta)), x
        starts = [(block.index - first) * self.simulator.block for block in made]
        return torch.cat([torch.arange(s, s + len(b.theta)) for s, b in zip(starts, made, strict=True)]), x

    def count(self, features: Tensor, distances: Tensor) -> None:
        """Count what can never be accepted, and why."""
        finite = torch.isfinite(features).all(1)
        self.failed += int((~finite).sum())
        self.undefined += int((finite & ~torch.isfinite(distances)).sum())

    def state(self) -> dict[str, int]:
        """The numbers that :meth:`restore` takes."""
        return {name: getattr(self, name) for name in ("blocks", "spent", "failed", "undefined")}

    def restore(self, state: dict[str, int]) -> None:
        """Go on from there."""
        for name, value in state.items():
            setattr(self, name, value)

    def _run(self, numbered: Iterable[tuple[int, Tensor]], seed: int) -> list[Block]:
        """The finished blocks, in the order in which they were begun; whichever was quick is not preferred."""
        how: dict[str, Any] = {"workers": self.question.workers, "executor": self.question.executor}
        made = []
        for block in run_blocks(self.simulator, numbered, seed, stop=self.halt, **how):
            self.spent += len(block.theta)
            self.bar.update(len(block.theta))
            made.append(block)
        return sorted(made, key=lambda block: block.index)
