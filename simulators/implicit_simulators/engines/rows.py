"""What compiled engines ask of their arguments, refused with a reason before any row is simulated."""

from __future__ import annotations

import inspect
import operator
from typing import Any

import numpy as np


def matrix(value: Any, name: str, columns: int, rows: int | None = None) -> np.ndarray:
    """``value`` as a contiguous float64 array with shape (n, columns), one that may be written to.

    numba compiles a kernel anew for an array that is read-only.

    Raises:
        ValueError: If it has another shape.
    """
    value = np.require(value, np.float64, ("C", "W", "A"))
    if value.ndim != 2 or value.shape[1] != columns or (rows is not None and len(value) != rows):
        n = "n" if rows is None else str(rows)
        raise ValueError(f"{name}: expected shape ({n}, {columns}); got {value.shape}")
    return value


def instants(value: Any, name: str = "times") -> np.ndarray:
    """``value`` as finite float64 numbers that do not fall, with shape (T,).

    Raises:
        ValueError: If it has another shape, is empty, falls or is not finite.
    """
    value = np.ascontiguousarray(value, dtype=np.float64)
    if value.ndim != 1 or not len(value) or not np.isfinite(value).all() or (np.diff(value) < 0).any():
        raise ValueError(f"{name}: expected finite, increasing numbers with shape (T,); got shape {value.shape}")
    return value


def integer(value: Any, name: str, low: int, high: int) -> int:
    """``value`` as an int in [low, high].

    Raises:
        TypeError: If it is no integer.
        ValueError: If it is out of range.
    """
    value = operator.index(value)
    if not low <= value <= high:
        raise ValueError(f"{name}: expected an int in [{low}, {high}]; got {value}")
    return value


def key_words(key: Any) -> tuple[np.uint64, np.uint64]:
    """The two words, below 2**32, of a key in [0, 2**64).

    Raises:
        ValueError: If ``key`` is out of range.
    """
    key = integer(key, "key", 0, 2**64 - 1)
    return np.uint64(key & 0xFFFFFFFF), np.uint64(key >> 32)


def changes_of(stoichiometry: Any) -> tuple[tuple[int, ...], ...]:
    """What each of R reactions adds to each of k species, as R tuples of k ints.

    Raises:
        ValueError: If the shape is another, or the changes are not integer.
    """
    changes = np.asarray(stoichiometry)
    if changes.ndim != 2 or not changes.size:
        raise ValueError(f"stoichiometry: expected shape (R, k), a row for each reaction; got {changes.shape}")
    if not np.issubdtype(changes.dtype, np.number) or not np.array_equal(changes, np.rint(changes)):
        raise ValueError("stoichiometry: expected integers: reactions change counts by whole individuals")
    return tuple(tuple(int(change) for change in row) for row in changes)


def count_arguments(function: Any) -> int:
    """How many numbers a network's propensities take.

    Raises:
        TypeError: If they are not a Python function of positional arguments.
    """
    try:
        arguments = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise TypeError(f"propensities: expected a Python function; got {type(function).__name__}") from error
    if any(a.kind not in (a.POSITIONAL_ONLY, a.POSITIONAL_OR_KEYWORD) for a in arguments):
        raise TypeError("propensities: expected positional arguments only, the counts and then the parameters")
    return len(arguments)
