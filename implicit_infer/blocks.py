"""One block of simulations: what raises, takes too long or is not finite loses its own rows, and leaves its reason."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from implicit_infer.limits import Clock, OutOfTime
from implicit_simulators import Simulator, Stream
from implicit_simulators.failures import watching

logger = logging.getLogger(__name__)

NOT_FINITE = "returned NaN or infinity"
LONGEST = 1000
"""Characters of a reason that are kept."""

COMPILING = 60.0
"""Seconds that a compiled simulator is given besides, since its first block may compile it."""

Row = tuple[Tensor | None, str]
"""A row simulated alone: x, or None where there is none, and why it failed (empty where it did not)."""


@dataclass(frozen=True)
class Block:
    r"""Simulations made with one stream.

    Attributes:
        index: Its place in the run, which with the seed makes the stream.
        theta: Parameters, with shape (size, d).
        x: Simulations, with shape (size, \*event_shape); rows that failed hold NaN or infinity.
        errors: Why, for each row that failed, by its place in the block.
    """

    index: int
    theta: Tensor
    x: Tensor
    errors: dict[int, str] = field(default_factory=dict)


def simulate_block(
    simulator: Simulator,
    theta: Tensor,
    seed: int,
    index: int,
    timeout: float | None = None,
    clock: Clock | None = None,
) -> Block:
    """Simulate one block; where it raises or overruns, its rows are tried one by one and only those that fail are lost.

    A block of n rows is given n times ``timeout``: only then is it certain that one of them took longer. Rows that the
    simulator goes through one by one (:func:`implicit_simulators.failures.one_row`) are each limited at once, and the
    others of the block keep their numbers.
    """
    with torch.no_grad():
        watch = _Watch(timeout, clock)
        try:
            with watch.limited(len(theta) + (COMPILING / timeout if timeout and simulator.releases_gil else 0)):
                x = simulator.simulate_block(theta, seed, index)
        except (Exception, OutOfTime) as error:
            logger.debug("block %d of %s raised %r; trying its rows one by one", index, simulator.name, error)
            return joined(simulator, index, theta, list(simulate_rows(simulator, theta, seed, index, timeout, clock)))
        return Block(index, theta, x, watch.failures(x))


def simulate_rows(
    simulator: Simulator,
    theta: Tensor,
    seed: int,
    index: int,
    timeout: float | None = None,
    clock: Clock | None = None,
    first: int = 0,
) -> Iterator[Row]:
    """Simulate the rows of a block one by one, beginning with row ``first``.

    They have streams of their own, made from (seed, block, row): with the block's own stream each would start from the
    same random numbers.
    """
    own_seed = Stream.of(seed, index, "split").key
    for row in range(first, len(theta)):
        watch = _Watch(timeout, clock)
        try:
            with torch.no_grad(), watch.limited(1):
                x = simulator.simulate_block(theta[row : row + 1], own_seed, row)
        except (Exception, OutOfTime) as error:
            yield None, _reason(error)
        else:
            yield x[0], watch.failures(x).get(0, "")


def joined(simulator: Simulator, index: int, theta: Tensor, rows: list[Row]) -> Block:
    """The block that its rows make up."""
    made = [x for x, _ in rows if x is not None]
    lost = torch.full_like(made[0], torch.nan) if made else theta.new_full(simulator.event_shape, torch.nan)
    x = torch.stack([lost if x is None else x for x, _ in rows])
    return Block(index, theta, x, {row: reason for row, (_, reason) in enumerate(rows) if reason})


def not_finite(x: Tensor) -> Tensor:
    r"""Which rows of x with shape (n, \*event_shape) hold NaN or infinity, with shape (n,)."""
    return ~torch.isfinite(x.reshape(len(x), math.prod(x.shape[1:]))).all(1)


class _Watch:
    """Hears of the rows that a simulator goes through one by one: limits each, and notes what it raised."""

    def __init__(self, timeout: float | None, clock: Clock | None) -> None:
        self.timeout = timeout
        self.clock = clock or Clock()
        self.reasons: dict[int, str] = {}

    @contextlib.contextmanager
    def limited(self, simulations: float) -> Iterator[None]:
        with watching(self), self._limit(simulations):
            yield

    @contextlib.contextmanager
    def row(self, row: int) -> Iterator[None]:
        try:
            with self._limit(1):
                yield
        except Exception as error:
            self.reasons[row] = _reason(error)
            raise

    def _limit(self, simulations: float) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self.timeout is None else self.clock.limit(simulations * self.timeout)

    def failures(self, x: Tensor) -> dict[int, str]:
        """Why each row failed that did."""
        bad: list[int] = not_finite(x).nonzero()[:, 0].tolist()
        return {row: self.reasons.get(row, NOT_FINITE) for row in bad}


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:LONGEST]
