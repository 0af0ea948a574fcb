"""Numbers, lists and runs in words, as the whole report says them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from implicit_infer.compare.plan import Run

DASH = "–"


def value_in_words(value: Any) -> str:
    """A figure or a setting for a reader; of long lists only the ends."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, list):
        if len(value) > 6:
            return f"{value_in_words(value[0])}, …, {value_in_words(value[-1])} ({len(value)} values)"
        return ", ".join(map(value_in_words, value))
    if isinstance(value, dict):
        return "; ".join(f"{name.replace('_', ' ')}: {value_in_words(part)}" for name, part in value.items())
    return str(value)


def run_in_words(run: Run, repeats: int) -> str:
    """A run as "nre, 1,000 simulations, repeat 2"."""
    return f"{run.label}, {run.budget:,} simulations" + (f", repeat {run.repeat + 1}" if repeats > 1 else "")


def in_words(n: int) -> str:
    """Small numbers as words."""
    names = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return names[n] if n < len(names) else f"{n:,}"


def percent(share: float) -> str:
    """A share as "93 %", which no line break divides."""
    return f"{100 * share:.0f}\u00a0%"


def plural(word: str, n: int) -> str:
    """The word for n of them."""
    return word if n == 1 else f"{word}s"


def is_or_are(items: Sequence[str]) -> str:
    """The verb for so many."""
    return "is" if len(items) == 1 else "are"


def listed(items: Sequence[str]) -> str:
    """Items as "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def shorten_paths(text: str) -> str:
    """A traceback without the folders of the machine that it comes from."""
    return re.sub(r'File "([^"]*[/\\])([^"/\\]+[/\\][^"/\\]+)"', r'File "\2"', text)
