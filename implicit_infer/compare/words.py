"""Times and progress in words, the same on the terminal and in the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def clock(seconds: float) -> str:
    """Seconds as m:ss, or h:mm:ss."""
    minutes, left = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{left:02d}" if minutes >= 60 else f"{minutes}:{left:02d}"


def duration(seconds: float) -> str:
    """Seconds for a reader: "0.42 s", "42 s", "3 min 5 s", "2 h 1 min"."""
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def work_in_words(state: Mapping[str, Any]) -> str:
    """A state of work as "training nre 61/200  loss 0.213"; empty if nothing is known."""
    if not state:
        return ""
    total = "" if state["total"] is None else f"/{state['total']:,}"
    figures = "".join(f"  {name} {value:.4g}" for name, value in state["figures"].items())
    return f"{state['name']} {state['done']:,}{total}{figures}"
