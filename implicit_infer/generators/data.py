"""Data to learn from, whatever the user has (tensors, arrays, frames, datasets, functions), as a source of batches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from implicit_estimators.inputs import as_samples

Rows = tuple[Tensor, Tensor | None]
"""Samples with shape (n, *event_shape), and their conditions with shape (n, width), or None."""

LOOK = 4096
"""Rows that are looked at to standardise what has no end."""


class Source(Protocol):
    """Where batches come from.

    Attributes:
        device: Where the random numbers are drawn that choose a batch.
    """

    @property
    def device(self) -> torch.device:
        """Of the generator that chooses rows."""

    def batch(self, n: int, random: torch.Generator, share: slice) -> Rows:
        """The ``share`` of a batch of n: it depends on the generator's position alone."""

    def look(self, random: torch.Generator) -> Rows:
        """Many rows, to see what the data are like."""

    def identity(self) -> dict[str, Any]:
        """What two runs must share to be of the same data, as JSON."""


@dataclass(frozen=True)
class Held(Source):
    """Rows on the device, drawn with replacement."""

    samples: Tensor
    condition: Tensor | None

    @property
    def device(self) -> torch.device:
        """That of the rows."""
        return self.samples.device

    def batch(self, n: int, random: torch.Generator, share: slice) -> Rows:
        """Rows drawn at random."""
        chosen = torch.randint(len(self.samples), (n,), generator=random, device=self.device)[share]
        return self.samples[chosen], None if self.condition is None else self.condition[chosen]

    def look(self, random: torch.Generator) -> Rows:
        """All of them."""
        return self.samples, self.condition

    def identity(self) -> dict[str, Any]:
        """Their shape and a digest of their bytes."""
        digest = hashlib.sha256()
        for part in (self.samples, self.condition):
            if part is not None:
                digest.update(np.ascontiguousarray(part.cpu().numpy()).data)
        return {"shape": list(self.samples.shape), "sha256": digest.hexdigest()}


@dataclass(frozen=True)
class Indexed(Source):
    """A map-style dataset: items by number, read as they are drawn."""

    items: Any
    to: torch.device
    dtype: torch.dtype

    @property
    def device(self) -> torch.device:
        """The processor's."""
        return torch.device("cpu")

    def batch(self, n: int, random: torch.Generator, share: slice) -> Rows:
        """Items drawn at random."""
        chosen = torch.randint(len(self.items), (n,), generator=random)[share]
        return self._read(chosen.tolist())

    def look(self, random: torch.Generator) -> Rows:
        """As many as may be looked at, evenly spaced."""
        step = -(-len(self.items) // LOOK)
        return self._read(list(range(0, len(self.items), step)))

    def identity(self) -> dict[str, Any]:
        """Its class and length."""
        return {"dataset": type(self.items).__qualname__, "length": len(self.items)}

    def _read(self, numbers: list[int]) -> Rows:
        read = [self.items[i] for i in numbers]
        if isinstance(read[0], (tuple, list)):
            samples, given = (torch.stack([torch.as_tensor(item[part]) for item in read]) for part in (0, 1))
            return _placed((samples, given), self.to, self.dtype)
        return _placed(torch.stack([torch.as_tensor(item) for item in read]), self.to, self.dtype)


@dataclass(frozen=True)
class Made(Source):
    """A function ``make(n, seed)`` that makes batches of n, drawing from the ``torch.Generator`` that it is given."""

    make: Callable[..., Any]
    to: torch.device
    dtype: torch.dtype

    @property
    def device(self) -> torch.device:
        """The processor's."""
        return torch.device("cpu")

    def batch(self, n: int, random: torch.Generator, share: slice) -> Rows:
        """What the function makes."""
        samples, condition = _placed(self.make(n, random), self.to, self.dtype)
        if len(samples) != n or (condition is not None and len(condition) != n):
            raise ValueError(f"data: expected a function that makes {n} rows for n = {n}; got {len(samples)}")
        return samples[share], None if condition is None else condition[share]

    def look(self, random: torch.Generator) -> Rows:
        """As many as may be looked at."""
        return self.batch(LOOK, random, slice(None))

    def identity(self) -> dict[str, Any]:
        """Its name."""
        return {"function": getattr(self.make, "__qualname__", type(self.make).__qualname__)}


def as_source(data: Any, condition: Any, device: torch.device, dtype: torch.dtype) -> Source:
    """A source of batches of whatever the user has.

    Args:
        data: Samples with shape (n, d), (n,), (n, channels, height, width) or (n, length): a tensor, an array or a
            frame; a map-style ``torch.utils.data.Dataset`` of samples, or of pairs (sample, condition); or a function
            ``data(n, seed)`` of a number of rows and a ``torch.Generator`` that gives samples, or a pair of samples
            and conditions.
        condition: One row for each sample of a tensor, an array or a frame; None where there are none.
        device: Where batches shall lie.
        dtype: Their floating type.

    Raises:
        TypeError: If ``data`` is none of these, or is not numeric.
        ValueError: If there are fewer than 2 samples, values are not finite, or the numbers of rows differ.
    """
    endless = not isinstance(data, Tensor) and not hasattr(data, "to_numpy") and callable(data)
    dataset = isinstance(data, torch.utils.data.Dataset)
    if endless or dataset:
        if condition is not None:
            raise ValueError(
                "condition: expected None; a dataset or a function gives its conditions beside its samples"
            )
        if dataset and not hasattr(data, "__len__"):
            raise TypeError("data: expected a dataset with a length; wrap a stream in a function data(n, seed)")
        return Indexed(data, device, dtype) if dataset else Made(data, device, dtype)
    samples = _rows(data, "data", 2).to(device, dtype)
    if condition is None:
        return Held(samples, None)
    given = as_samples(condition, "condition")
    if len(given) != len(samples):
        raise ValueError(f"condition: expected {len(samples)} rows, one for each sample; got {len(given)}")
    return Held(samples, given.to(device, dtype))


def _rows(value: Any, name: str, least: int) -> Tensor:
    """Samples with any event shape: as ``as_samples`` takes them, flattened."""
    if isinstance(value, (Tensor, np.ndarray)) and value.ndim > 2:
        flat = as_samples(value.reshape(len(value), -1), name, rows=least)
        return flat.reshape(tuple(value.shape))
    return as_samples(value, name, rows=least)


def _placed(rows: Any, device: torch.device, dtype: torch.dtype) -> Rows:
    samples, given = rows if isinstance(rows, (tuple, list)) else (rows, None)
    placed = _rows(samples, "data", 1).to(device, dtype)
    if given is None:
        return placed, None
    return placed, as_samples(given, "condition").to(device, dtype)
