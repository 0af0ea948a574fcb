"""The noise of stepwise models: which numbers stand where, and the compiled code that makes them for 64 rows.

Importing this module imports numba.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit

from implicit_simulators.engines.lane_noise import LANES, exponential, fill_words, normal_pair, uniform
from implicit_simulators.engines.lanes import JIT, widest_vectors


class Layout:
    """Where the noise of a few steps stands: normal numbers first, in pairs, then uniform, then exponential ones.

    Philox gives words by four and Box-Muller normal numbers by two, so steps are taken ``together`` until both come out
    even.

    Args:
        noise: Kinds in the order of the step's arguments.
    """

    def __init__(self, noise: Sequence[str]) -> None:
        self.noise = tuple(noise)
        kinds = {
            kind: [i for i, n in enumerate(self.noise) if n == kind] for kind in ("normal", "uniform", "exponential")
        }
        self.normals, self.uniforms, self.exponentials = (len(kinds[kind]) for kind in kinds)
        self.together = next((t for t in (1, 2, 4) if t * len(self.noise) % 4 == 0 and t * self.normals % 2 == 0), 4)
        self.words = self.together * len(self.noise)
        place = {i: (kind, j) for kind, members in kinds.items() for j, i in enumerate(members)}
        self.arguments = [self._argument(*place[i]) for i in range(len(self.noise))]

    def _argument(self, kind: str, place: int) -> str:
        """Source of one number of noise, in the loop over lanes."""
        if kind == "normal":
            return f"np.float64(normal[step * {self.normals} + {place}, lane])"
        if kind == "uniform":
            return f"other[step * {self.uniforms} + {place}, lane]"
        start = self.together * self.uniforms
        return f"other[{start} + step * {self.exponentials} + {place}, lane]"


def filler(layout: Layout) -> Any:
    """``fill(words, normal, other, turn, row, stream, k0, k1)``: the noise of one turn of the loop, for 64 rows."""
    total = layout.words
    normals = layout.together * layout.normals
    uniforms = normals + layout.together * layout.uniforms

    @njit(inline="always", **JIT)
    def fill(words, normal, other, turn, row, stream, k0, k1):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - numba infers these
        fill_words(words, turn * total, total, row, stream, k0, k1)
        for j in range(0, normals, 2):
            for lane in range(LANES):
                a, b = normal_pair(words[j, lane], words[j + 1, lane])
                normal[j, lane] = a
                normal[j + 1, lane] = b
        for j in range(normals, uniforms):
            for lane in range(LANES):
                other[j - normals, lane] = uniform(words[j, lane])
        for j in range(uniforms, total):
            for lane in range(LANES):
                other[j - normals, lane] = exponential(words[j, lane])

    return fill


def compile_noise(layout: Layout) -> Any:
    """``kernel(out, steps, k0, k1, first_row, stream)``: the very noise that steps see, with shape (n, steps, r)."""
    fill = filler(layout)
    together, r = layout.together, len(layout.noise)
    normals, words = max(1, together * layout.normals), max(1, layout.words)
    source = ["def copy(out, normal, other, step, lane, row, t):"]
    source += [f"    out[row, t, {i}] = {argument}" for i, argument in enumerate(layout.arguments)] or ["    pass"]
    copy = written(source, "copy", {})

    @njit(**JIT)
    def kernel(out, steps, k0, k1, first_row, stream):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - as above
        widest_vectors()  # type: ignore[call-arg]  # numba gives the context
        table = np.empty((words, LANES), np.uint32)
        normal = np.empty((normals, LANES), np.float32)
        other = np.empty((words, LANES))
        for row in range(0, len(out), LANES):
            for turn in range((steps + together - 1) // together):
                if r:
                    fill(table, normal, other, turn, first_row + row, stream, k0, k1)
                for step in range(min(together, steps - turn * together)):
                    for lane in range(min(LANES, len(out) - row)):
                        copy(out, normal, other, step, lane, row + lane, turn * together + step)

    return kernel


def written(source: Sequence[str], name: str, namespace: dict[str, Any]) -> Any:
    """A function from its source, for LLVM to inline."""
    namespace |= {"np": np, "__name__": __name__}  # numba loads nothing from disk that is of no module
    exec("\n".join(source), namespace)
    return njit(forceinline=True, **JIT)(namespace[name])
