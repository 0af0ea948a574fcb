"""The straight-line arithmetic under the compiled sums, against NumPy in double precision."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


def test_powers_of_two_to_a_unit_in_the_last_place() -> None:
    from implicit_estimators.kernels.vectors import exp2

    t = np.concatenate([np.linspace(-124, 20, 5_001), np.linspace(-1, 1, 2_001)]).astype(np.float32)
    exact = np.exp2(t.astype(np.float64))
    found = np.array([exp2(value) for value in t], np.float64)
    assert np.abs(found / exact - 1).max() < 2.0**-23
    assert exp2(np.float32(0)) == 1
    assert [float(exp2(np.float32(t))) for t in (-125, -1e9, -np.inf)] == [2.0**-125] * 3


def test_logarithms_to_two_units_in_the_last_place() -> None:
    from implicit_estimators.kernels.vectors import log2

    x = np.exp2(np.linspace(-20, 60, 5_001)).astype(np.float32)
    exact = np.log2(x.astype(np.float64))
    found = np.array([log2(value) for value in x], np.float64)
    assert (np.abs(found - exact) / np.maximum(1, np.abs(exact))).max() < 2 * 2.0**-23
    assert log2(np.float32(1)) == 0


@pytest.mark.slow
def test_the_sums_are_vectors_and_are_kept_on_disk(tmp_path: Path) -> None:
    """Scalar code would be right and ten times slower: the assembly is looked at. Compiles from nothing."""
    program = """
import numpy as np
from implicit_estimators.kernels import compiled
x, none = np.zeros((4, 2), np.float32), np.zeros((0, 0))
compiled.pairs(x, x, True, 0, np.ones((1, 3), np.float32), none, none, False, False)
(stats,) = [compiled.pairs.stats]
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
        for _ in range(2)
    ]
    assert [run.stdout.split() for run in runs] == [["0", "1"], ["1", "0"]]
    from implicit_estimators.kernels import compiled

    buffer = np.zeros(512, np.float32)
    compiled._gaussian(buffer, buffer.copy(), buffer.copy(), buffer.copy(), np.ones((1, 3), np.float32), True)
    (assembly,) = compiled._gaussian.inspect_asm().values()
    assert "mulps" in assembly or "fmul\tv" in assembly.replace(".4s", "v")
