"""The command: ``python -m benchmarks.abc [run | summary] ...``; see ``--help`` of each.

What a part is stands in ``benchmarks/parts.py``. To add one, copy ``cost.py`` and add it to ``PARTS``.
"""

from __future__ import annotations

from benchmarks.parts import start

PARTS = ("cost", "accuracy", "ten_tasks", "discrepancies")
"""Modules of this package, in the order of the page."""

if __name__ == "__main__":
    start("benchmarks.abc", PARTS)
