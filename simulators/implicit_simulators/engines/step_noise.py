"""Stepwise models as others see them: what they are made of, and their noise, to follow their paths by other means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from implicit_simulators.engines.rows import key_words

KINDS = ("normal", "uniform", "exponential")
"""Noise there is: standard normal, uniform on (0, 1), standard exponential."""


class Stepwise(Protocol):
    """What a :class:`implicit_simulators.engines.steps.StepProcess` is to those that run it without compiling it."""

    states: int
    step: Callable[..., Any]
    emit: Callable[..., Any] | None
    vectorised: Callable[..., Any] | None
    noise: tuple[str, ...]
    emission_noise: tuple[str, ...]
    counts: bool
    recorded: tuple[int, ...]
    outputs: int

    def noise_of(self, rows: int, steps: int, key: int, first_row: int = 0, emission: bool = False) -> np.ndarray:
        """The noise of the steps, or of the emissions."""


def draw_noise(
    kinds: Sequence[str], rows: int, steps: int, key: int, first_row: int = 0, stream: int = 0
) -> np.ndarray:
    """Noise as compiled steps see it, with shape (rows, steps, r) and dtype float64; see :class:`StepProcess`.

    Args:
        kinds: Kind of each of r numbers a step; see ``KINDS``.
        rows: How many rows.
        steps: How many steps.
        key: Key of the random numbers, in [0, 2**64).
        first_row: Number of the first row.
        stream: Third word of the counter: 0 for steps, 1 for emissions.
    """
    out = np.empty((rows, steps, len(kinds)))
    if out.size:
        k0, k1 = key_words(key)
        _noise_kernel(tuple(kinds))(out, steps, k0, k1, first_row, stream)
    return out


@lru_cache(maxsize=16)
def _noise_kernel(kinds: tuple[str, ...]) -> Any:
    from implicit_simulators.engines.kernel_cache import CachedKernel
    from implicit_simulators.engines.step_noise_kernel import Layout, compile_noise

    return CachedKernel(compile_noise(Layout(kinds)), ("noise", kinds), f"{', '.join(kinds)} noise")
