"""The command: ``python -m benchmarks.fitting [run | summary] ...``; see ``--help`` of each.

What a part is stands in ``benchmarks/parts.py``. To add one, copy ``poisson.py`` and add it to ``PARTS``.
"""

from __future__ import annotations

from benchmarks.parts import start

PARTS = ("poisson", "avo_multivariate", "weinberg", "lgso", "g_and_k", "ricker", "ornstein_uhlenbeck", "moving_average")
"""Modules of this package, in the order of the page."""

if __name__ == "__main__":
    start("benchmarks.fitting", PARTS)
