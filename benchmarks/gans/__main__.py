"""The command: ``python -m benchmarks.gans [run | summary] ...``; see ``--help`` of each.

What a part is stands in ``benchmarks/parts.py``. To add one, copy ``f_gan.py`` and add it to ``PARTS``.
"""

from __future__ import annotations

from benchmarks.parts import start

PARTS = ("f_gan", "dirac", "ring_grid", "parallel_lines", "decoupling", "likelihood", "overhead")
"""Modules of this package, in the order of the page."""

if __name__ == "__main__":
    start("benchmarks.gans", PARTS)
