"""Simulations that stay on disk: a store larger than memory is read a block at a time, and can be trained from."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from implicit_infer.blocks import not_finite
from implicit_infer.runs import Runs, failure_table
from implicit_infer.store import finished_rows, open_store

if TYPE_CHECKING:
    import pandas as pd

WINDOW = 2**26
"""Bytes of simulations that training holds in memory at once; with what is read ahead it takes about three times it."""


def open_runs(path: str | os.PathLike[str], *, window: int = WINDOW) -> StoredRuns:
    """Open a store that ``ii.simulate`` wrote, for reading; several processes may, also while it is written.

    Args:
        path: Folder of the store.
        window: Bytes of simulations that training may hold in memory at once. Rows are shuffled inside a window; what
            fits in one is trained on as if it had been in memory all along, number by number.

    Returns:
        The simulations up to the first block that is not finished.

    Raises:
        ValueError: If there is no store at ``path``, or no simulation in it, or ``window`` is not positive.

    Example:
        >>> import implicit_infer as ii
        >>> runs = ii.open_runs("runs.zarr")                                            # doctest: +SKIP
        >>> posterior = ii.infer(simulator, observed, method="nre", runs=runs)          # doctest: +SKIP
    """
    if window < 1:
        raise ValueError(f"window: expected a positive number of bytes; got {window}")
    group, about = open_store(path)
    rows = finished_rows(group, Path(path))
    sizes = np.minimum(about["block"], group["theta"].shape[0] - about["block"] * np.arange(len(rows)))
    # a last block that was cut short counts as far as it goes
    whole = len(rows) if (rows >= sizes).all() else int(np.argmin(rows >= sizes))
    n = int(sizes[:whole].sum() + rows[whole : whole + 1].sum())
    if n == 0:
        raise ValueError(f"path: {path} holds no finished simulations")
    return StoredRuns(Path(path), group, about, n, window)


class StoredRuns:
    r"""Simulations in a store, in order, as :class:`implicit_infer.runs.Runs` shows them, read when asked for.

    ``runs.theta[i]`` and ``runs.x[i:j]`` read what they show and no more. Made by ``open_runs`` and by
    ``ii.simulate(..., memory=False)``.

    Attributes:
        path: The store.
        theta: Parameters, with shape (n, d).
        x: Simulations, with shape (n, \*event_shape); rows that failed hold NaN or infinity.
        about: The store's attributes: simulator, settings, versions, seed.
        window: Bytes of simulations that training may hold in memory at once.
    """

    def __init__(self, path: Path, group: Any, about: dict[str, Any], n: int, window: int) -> None:
        self.path, self.about, self.window = path, about, window
        self._group, self._n = group, n
        self.theta, self.x = Column(group["theta"], n), Column(group["x"], n)

    def __len__(self) -> int:
        return self._n

    @property
    def seed(self) -> int:
        """The seed they were made with."""
        return int(self.about["seed"])

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The d names of theta's columns."""
        return tuple(self.about["parameter_names"])

    @property
    def block(self) -> int:
        """Rows of a block: what one reading brings."""
        return int(self.about["block"])

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return -(-self._n // self.block)

    @functools.cached_property
    def failures(self) -> dict[int, str]:
        """Every failed row and why, without reading the simulations."""
        found = {}
        for start in range(0, self._n, self.block):
            reasons = self._group["reason"][start : min(start + self.block, self._n)]
            found.update({start + row: str(reason) for row, reason in enumerate(reasons) if reason})
        return found

    @property
    def failed(self) -> Tensor:
        """Which rows failed, with shape (n,) and dtype bool."""
        failed = torch.zeros(self._n, dtype=torch.bool)
        failed[list(self.failures)] = True
        return failed

    def failure_table(self) -> pd.DataFrame:
        """The failed rows with their parameters and the reason: a column for each parameter, and ``reason``."""
        rows = list(self.failures)
        theta = torch.stack([self.theta[row] for row in rows]) if rows else self.theta[:0]
        return failure_table(self.failures, theta, self.parameter_names)

    def first(self, n: int) -> StoredRuns:
        """The first ``n`` rows, on disk as before.

        Raises:
            ValueError: If there are fewer.
        """
        if n > self._n:
            raise ValueError(f"n: {self.path} holds {self._n} simulations; {n} were asked for")
        return StoredRuns(self.path, self._group, self.about, n, self.window)

    @property
    def row_bytes(self) -> int:
        """Bytes of one simulation with its parameters."""
        return sum(column.shape[1:].numel() * column.itemsize for column in (self.theta, self.x))

    @property
    def fits(self) -> bool:
        """Whether all of it fits in the window."""
        return len(self) * self.row_bytes <= self.window

    @property
    def lengths(self) -> list[int]:
        """How many rows of each block did not fail."""
        failed = self.failed
        return [int((~part).sum()) for part in failed.split(self.block)]

    def read(self, block: int) -> tuple[Tensor, Tensor]:
        """Theta and x of the rows of one block that did not fail."""
        start = block * self.block
        part = slice(start, min(start + self.block, self._n))
        theta, x = self.theta[part], self.x[part]
        keep = ~not_finite(x)
        return theta[keep], x[keep]

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All rows that did not fail, block by block."""
        for block in range(self.blocks):
            yield self.read(block)

    def in_memory(self) -> Runs:
        """All of it, read into memory."""
        return Runs(self.theta[:], self.x[:], self.seed, self.failures, self.parameter_names)

    def valid(self) -> tuple[Tensor, Tensor]:
        """Theta and x of all rows that did not fail, read into memory."""
        return self.in_memory().valid()

    def __repr__(self) -> str:
        return f"<{self._n} simulations of {self.about['simulator']} in {self.path}>"


class Column:
    """An array on disk whose rows are read when they are asked for: ``column[3]``, ``column[10:20]``.

    Args:
        array: The array, with at least ``n`` rows.
        n: Rows that are shown.
    """

    def __init__(self, array: Any, n: int) -> None:
        self._array = array
        self.shape = torch.Size((n, *array.shape[1:]))
        self.itemsize = int(array.dtype.itemsize)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice) -> Tensor:
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step < 0:
                return self[stop + 1 : start + 1].flip(0)[::-step]
            found = self._array[start : max(start, stop)]
            return torch.from_numpy(np.ascontiguousarray(found))[::step]
        if not -len(self) <= rows < len(self):
            raise IndexError(f"row {rows} of {len(self)}")
        row = rows % len(self)
        return torch.from_numpy(np.ascontiguousarray(self._array[row : row + 1]))[0]
