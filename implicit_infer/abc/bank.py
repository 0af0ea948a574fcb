"""The simulations that rejection ranks, in memory or on disk: there only their distances are ever held all at once."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from implicit_infer.abc.distances import Distance
from implicit_infer.runs import Runs
from implicit_infer.stored import StoredRuns
from implicit_simulators import Simulator


class Bank:
    """Features of simulations, part by part, and the rows that are picked of them.

    Args:
        distance: Whose features they are.
        simulator: What made the simulations.
        runs: The simulations.

    Attributes:
        sample: The features that scales are fitted to, with shape (m, k): all, or of a store that does not fit in its
            window as many of the first as do.
        theta: Their parameters, with shape (m, d).
    """

    def __init__(self, distance: Distance, simulator: Simulator, runs: Runs | StoredRuns) -> None:
        self.distance, self.simulator = distance, simulator
        if isinstance(runs, StoredRuns) and runs.fits:
            runs = runs.in_memory()
        self.runs = runs
        first = runs.first(max(1, runs.window // runs.row_bytes)).in_memory() if isinstance(runs, StoredRuns) else runs
        self.sample, self.theta = distance.features(simulator, first.x), first.theta

    def parts(self) -> Iterator[Tensor]:
        """The features of all simulations, in order."""
        if not isinstance(self.runs, StoredRuns):
            yield self.sample
            return
        for start in range(0, len(self.runs), self.runs.block):
            yield self.distance.features(self.simulator, self.runs.x[start : start + self.runs.block])

    def failed(self) -> int:
        """How many simulations can never be accepted."""
        if isinstance(self.runs, StoredRuns):
            return len(self.runs.failures)
        return int((~torch.isfinite(self.sample).all(1)).sum())

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Theta and features of some rows."""
        if not isinstance(self.runs, StoredRuns):
            return self.runs.theta[rows], self.sample[rows]
        theta = torch.empty((len(rows), self.simulator.dim))
        features = self.sample.new_empty((len(rows), self.sample.shape[1]))
        blocks = rows // self.runs.block
        for block in blocks.unique().tolist():
            here, start = blocks == block, block * self.runs.block
            part, local = slice(start, start + self.runs.block), rows[here] - start
            theta[here] = self.runs.theta[part][local]
            features[here] = self.distance.features(self.simulator, self.runs.x[part][local])
        return theta, features
