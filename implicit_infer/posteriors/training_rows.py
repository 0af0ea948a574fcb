"""What networks are trained on, from a bank in memory or on disk: of each simulation the row that the method makes.

A bank whose rows fit in its window is read whole, so that nothing then tells it from one in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from implicit_estimators.networks.sources import Windowed
from implicit_infer.posteriors.coordinates import Coordinates
from implicit_infer.runs import Runs
from implicit_infer.stored import StoredRuns
from implicit_simulators import Simulator

MakeRows = Callable[[Tensor, Tensor], tuple[Tensor, ...]]
"""From (theta, x) to the tensors that a network is trained on, row by row."""


def coordinates_of(simulator: Simulator, runs: Runs | StoredRuns) -> Coordinates:
    """Coordinates fitted to a bank; chunk by chunk if it is on disk and does not fit in its window."""
    if isinstance(runs, StoredRuns) and not runs.fits:
        return Coordinates.of_chunks(simulator, runs.chunks)
    return Coordinates(simulator, *runs.valid())


def training_rows(runs: Runs | StoredRuns, make: MakeRows, device: str) -> tuple[Tensor, ...] | Windowed:
    """The rows of a bank on the device where they fit in memory, else a source that reads them from disk.

    What is made of a simulation is often much smaller than the simulation, so it may fit where they do not.
    """
    if not isinstance(runs, StoredRuns) or runs.fits:
        return tuple(tensor.to(device) for tensor in make(*runs.valid()))
    lengths = runs.lengths
    first = next(block for block, length in enumerate(lengths) if length)
    size = sum(tensor[0].numel() * tensor.element_size() for tensor in make(*runs.read(first)))
    if sum(lengths) * size <= runs.window:
        parts = [make(*runs.read(block)) for block, length in enumerate(lengths) if length]
        return tuple(torch.cat(tensors).to(device) for tensors in zip(*parts, strict=True))
    # whatever is larger decides: the rows, or the simulations that they are made of
    rows = max(1, runs.window // max(size, runs.row_bytes))
    return Windowed(lambda block: make(*runs.read(block)), lengths, rows, device)


def endless(
    data: tuple[Tensor, ...] | Windowed, batch_size: int, generator: torch.Generator
) -> Callable[[], list[Tensor]]:
    """Batches without end: of rows in memory drawn anew each time, of rows on disk one shuffled pass after another."""
    if isinstance(data, tuple):
        n, device = len(data[0]), data[0].device

        def drawn() -> list[Tensor]:
            rows = torch.randint(n, (batch_size,), generator=generator, device=device)
            return [tensor[rows] for tensor in data]

        return drawn

    def passes() -> Iterator[list[Tensor]]:
        while True:
            yield from data.batches(max(1, len(data) // batch_size), generator)

    return passes().__next__


def head(runs: Runs | StoredRuns, n: int) -> tuple[Tensor, Tensor]:
    """Theta and x of about the first ``n`` rows that did not fail (all of them, if the bank is in memory)."""
    if not isinstance(runs, StoredRuns):
        return runs.valid()
    return runs.first(min(n, len(runs))).valid()
