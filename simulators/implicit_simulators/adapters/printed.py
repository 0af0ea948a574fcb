"""Read the numbers that an external program prints: JSON or a table, and nothing guessed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

EXCERPT = 80
"""Characters of an output that cannot be read which its message shows."""


class UnreadableError(ValueError):
    """An output that holds no numbers, or a failure that the program itself reports."""


def from_json(text: str) -> np.ndarray:
    """A number or nested lists of numbers, bare or as ``{"x": ...}``; null is NaN.

    Raises:
        UnreadableError: If it is anything else, or the program's own ``{"error": "why"}``.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UnreadableError(f"it printed no JSON ({error.msg} at {error.pos}): {_excerpt(text)}") from None
    if isinstance(value, dict) and "error" in value:
        raise UnreadableError(f"it reported: {value['error']}")
    if isinstance(value, dict) and "x" in value:
        value = value["x"]
    try:
        return np.array(_numbers(value), dtype=np.float64)
    except (TypeError, ValueError):
        raise UnreadableError(f"it printed JSON that is no array of numbers: {_excerpt(text)}") from None


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    if value is None:
        return float("nan")
    if isinstance(value, (bool, int, float)):
        return float(value)
    raise TypeError(type(value).__name__)


def from_csv(text: str) -> np.ndarray:
    """A table of numbers apart by commas or blanks, with or without a line of names above it.

    A table of one line or one column is a vector. Empty cells between commas are NaN.

    Raises:
        UnreadableError: If a cell is no number, lines differ in length, or there is nothing.
    """
    lines = [_cells(line) for line in text.splitlines() if line.strip()]
    if lines and not any(_is_number(cell) for cell in lines[0]):
        lines = lines[1:]  # the names of the columns
    try:
        table = np.array([[float(cell or "nan") for cell in line] for line in lines], dtype=np.float64)
    except ValueError:
        raise UnreadableError(f"it printed no table of numbers: {_excerpt(text)}") from None
    if not table.size:
        raise UnreadableError("it printed nothing" if not text.strip() else f"it printed no number: {_excerpt(text)}")
    return table.reshape(-1) if 1 in table.shape else table


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split(",")] if "," in line else line.split()


def _is_number(cell: str) -> bool:
    try:
        float(cell or "nan")
    except ValueError:
        return False
    return True


def _excerpt(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= EXCERPT else text[:EXCERPT] + "...") if text else "nothing"


READERS = {"json": from_json, "csv": from_csv}
"""How an output is read, by the name of its format."""
