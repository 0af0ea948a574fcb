"""Many simulations at each of many parameters, in one batch, with the budget counted and random numbers kept by name.

A method that estimates a likelihood needs m simulations at each point. They are simulated together, in as large blocks
as the simulator takes. With several groups, each point's simulations are split into blocks of their own whose numbers
the caller keeps: simulated again under the same number, a block draws the same random numbers, so that two neighbouring
points can share most of theirs (the correlated pseudo-marginal method).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from implicit_infer.blocks import not_finite
from implicit_infer.executors import run_blocks
from implicit_infer.posteriors.method import Question
from implicit_simulators import Stream

View = Callable[[Tensor], Tensor]
r"""From simulations (n, \*event_shape) to what is compared of each, with shape (n, r, k); failed ones to NaN."""


class Replicates:
    r"""Simulates ``count`` times at each point.

    Args:
        question: Gives the simulator, the budget, the seed and the workers.
        view: What is made of the simulations.
        count: Simulations at each point, m.
        groups: Blocks of random numbers that each point's simulations are split into; must divide ``count``.

    Attributes:
        spent: Simulations so far.
        failed: How many of them were not finite.

    Raises:
        ValueError: If ``groups`` does not divide ``count``.
    """

    def __init__(self, question: Question, view: View, count: int, groups: int = 1) -> None:
        if groups < 1 or count % groups:
            raise ValueError(f"groups: expected a positive divisor of the {count} replicates; got {groups}")
        self.question, self.view, self.count, self.groups = question, view, count, groups
        # a root of its own: the bank may have been made with the question's seed
        self.root = Stream.of(question.seed, 1, "sample").key
        self.spent = self.failed = self._blocks = 0

    @property
    def affordable(self) -> int:
        """Points that the rest of the budget pays for."""
        return (self.question.budget - self.spent) // self.count

    def fresh(self, *shape: int) -> Tensor:
        """Numbers of blocks that have not been used, with the given shape and dtype int64."""
        n = int(torch.Size(shape).numel())
        numbers = torch.arange(self._blocks, self._blocks + n).reshape(shape)
        self._blocks += n
        return numbers

    def at(self, theta: Tensor, numbers: Tensor | None = None, count: int | None = None) -> Tensor:
        """Simulate at each row of theta.

        Args:
            theta: Parameters with shape (n, d).
            numbers: Blocks of random numbers for each point, with shape (n, groups); fresh ones if None.
            count: Simulations at each point, instead of the usual number.

        Returns:
            What ``view`` makes of them, with shape (n, m r, k).

        Raises:
            RuntimeError: If that is more than the budget.
        """
        m = count or self.count
        total = len(theta) * m
        if self.spent + total > self.question.budget:
            raise RuntimeError(f"budget: {self.question.budget} simulations, of which {self.spent} are spent; {total}?")
        rows = theta.repeat_interleave(m, 0)
        if numbers is None or self.groups == 1:
            parts = rows.split(self.question.simulator.block)
            numbers = self.fresh(len(parts))
        else:
            parts = rows.split(m // self.groups)
        # keyed by place: two blocks may share a number, as chains do after resampling
        numbered: dict[int, list[int]] = {}
        for place, number in enumerate(numbers.flatten().tolist()):
            numbered.setdefault(number, []).append(place)
        found: list[Tensor | None] = [None] * len(parts)
        rounds = max(map(len, numbered.values()))
        for turn in range(rounds):
            here = {number: places[turn] for number, places in numbered.items() if turn < len(places)}
            blocks = [(number, parts[place]) for number, place in here.items()]
            simulator = self.question.simulator
            for block in run_blocks(simulator, blocks, self.root, workers=self.question.workers):
                found[here[block.index]] = block.x
        x = torch.cat([part for part in found if part is not None])
        self.spent += total
        self.failed += int(not_finite(x).sum())
        made = self.view(x)
        return made.reshape(len(theta), m * made.shape[1], made.shape[2])
