"""Rows to train on that need not fit in memory: read in blocks, shuffled in windows, and read ahead of the training.

A *source* gives batches, epoch after epoch. Of simulations on disk, one window at a time is in memory: blocks in random
order until the window is full, their rows shuffled, and cut into batches, while a thread reads the next window. Rows
that are independent of their place in the store (draws from a prior are) lose nothing by that.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from implicit_estimators.seeds import resolve_seed, stream


@runtime_checkable
class Source(Protocol):
    """Rows that :func:`implicit_estimators.networks.train.train` takes in place of tensors."""

    device: torch.device

    def __len__(self) -> int:
        """How many rows there are."""

    def batches(self, steps: int, shuffler: torch.Generator | None) -> Iterator[list[Tensor]]:
        """All rows in ``steps`` nearly equal batches, after a shuffle if there is a generator."""

    def split(self, share: float, seed: int) -> tuple[Source, Source]:
        """Two sources: the rows that remain, and a random ``share`` of them set aside."""


class Windowed:
    """Rows that are read block by block.

    Args:
        read: ``read(i)`` gives the tensors of block i, whose rows belong together; called from another thread.
        lengths: How many rows each block has.
        window: Rows in memory at once (one block at least); what is read ahead comes on top.
        device: Where batches go.
        rows: Which rows of each block belong to this source, as bool masks; all if None.
    """

    def __init__(
        self,
        read: Callable[[int], Sequence[Tensor]],
        lengths: Sequence[int],
        window: int,
        device: torch.device | str = "cpu",
        rows: Sequence[Tensor] | None = None,
    ) -> None:
        self.read, self.window, self.device = read, window, torch.device(device)
        self.rows = [torch.ones(length, dtype=torch.bool) for length in lengths] if rows is None else list(rows)
        self._lengths = [int(mask.sum()) for mask in self.rows]

    def __len__(self) -> int:
        return sum(self._lengths)

    def split(self, share: float, seed: int) -> tuple[Windowed, Windowed]:
        """Set a random ``share`` of the rows aside.

        Raises:
            ValueError: If there are fewer than two.
        """
        n = len(self)
        if n < 2:
            raise ValueError(f"data: expected at least 2 rows to hold out a share of {share}; got {n}")
        aside = torch.zeros(n, dtype=torch.bool)
        first = min(n - 1, max(1, round(share * n)))
        aside[torch.randperm(n, generator=stream(seed, "split"))[:first]] = True
        out, start = [], 0
        for mask, length in zip(self.rows, self._lengths, strict=True):
            chosen = torch.zeros_like(mask)
            chosen[mask] = aside[start : start + length]
            out.append(chosen)
            start += length
        kept = [mask & ~chosen for mask, chosen in zip(self.rows, out, strict=True)]
        lengths = [len(mask) for mask in self.rows]
        one, other = (Windowed(self.read, lengths, self.window, self.device, rows) for rows in (kept, out))
        return one, other

    def batches(self, steps: int, shuffler: torch.Generator | None) -> Iterator[list[Tensor]]:
        """All rows in ``steps`` nearly equal batches; with a generator, shuffled within windows of random blocks."""
        n = len(self)
        sizes = iter([n // steps + (step < n % steps) for step in range(steps)])
        wanted = next(sizes)
        rest: list[Tensor] = []
        for window in self._ahead(shuffler):
            parts = [torch.cat(pair) for pair in zip(rest, window, strict=True)] if rest else window
            start = 0
            while len(parts[0]) - start >= wanted:
                yield [part[start : start + wanted] for part in parts]
                start += wanted
                wanted = next(sizes, n + 1)
            # a copy: a slice would keep the whole window alive
            rest = [part[start:].clone() for part in parts]
            del parts, window

    def _ahead(self, shuffler: torch.Generator | None) -> Iterator[list[Tensor]]:
        """Windows on the device, the next one being read while this one is used."""
        own = None
        if shuffler is not None:
            drawn = torch.randint(2**62, (), generator=shuffler, device=shuffler.device)
            own = torch.Generator().manual_seed(resolve_seed(int(drawn)))
        windows = self._windows(own)
        with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:
            coming = reader.submit(next, windows, None)
            while (window := coming.result()) is not None:
                coming = reader.submit(next, windows, None)
                yield window
                del window

    def _windows(self, generator: torch.Generator | None) -> Iterator[list[Tensor]]:
        blocks = [block for block, length in enumerate(self._lengths) if length]
        if generator is not None:
            blocks = [blocks[i] for i in torch.randperm(len(blocks), generator=generator).tolist()]
        while blocks:
            filled = 0
            chosen: list[int] = []
            while blocks and (not chosen or filled + self._lengths[blocks[0]] <= self.window):
                chosen.append(blocks.pop(0))
                filled += self._lengths[chosen[-1]]
            yield self._window(chosen, filled, generator)

    @torch.no_grad()
    def _window(self, blocks: list[int], filled: int, generator: torch.Generator | None) -> list[Tensor]:
        """The rows of some blocks, each put straight where the shuffle wants it."""
        places = torch.arange(filled) if generator is None else torch.randperm(filled, generator=generator)
        window: list[Tensor] = []
        start = 0
        for block in blocks:
            mask = self.rows[block]
            tensors = [tensor[mask] for tensor in self.read(block)]
            window = window or [tensor.new_empty((filled, *tensor.shape[1:])) for tensor in tensors]
            where = places[start : start + self._lengths[block]]
            for held, tensor in zip(window, tensors, strict=True):
                held[where] = tensor
            start += self._lengths[block]
        return [tensor.to(self.device) for tensor in window]
