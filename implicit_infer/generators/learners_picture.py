"""The picture of learners that are compared: what each draws, and where it puts the codes of data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from implicit_infer.generators.codes import codes_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DATA, MODEL, INK = "#12665d", "#d97a12", "#333333"
SHOWN = 1500
"""Points of each cloud."""


def picture(modules: Mapping[str, nn.Module], test: Tensor, bits: Mapping[str, float], uniform: float) -> Figure:
    """Draw it.

    Args:
        modules: A flow for each learner.
        test: Test data with shape (n, d).
        bits: Bits for each dimension of the test data, by learner.
        uniform: The same of the uniform law.

    Returns:
        The figure: draws over data above, codes below with the circles that hold 50 % and 99 % of normal codes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1 + 2.7 * len(modules), 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure, modules, test, bits, uniform)
    return figure


def draw(
    figure: Any, modules: Mapping[str, nn.Module], test: Tensor, bits: Mapping[str, float], uniform: float
) -> None:
    """Draw it into a figure, or a part of one (see :func:`picture`)."""
    axes = figure.subplots(2, len(modules), squeeze=False)
    side = math.isqrt(test.shape[1])
    images = side >= 4 and side * side == test.shape[1]
    for column, (learner, module) in enumerate(modules.items()):
        network: Any = module
        above, below = axes[0, column], axes[1, column]
        draws = network.sample(SHOWN, seed=0).cpu()
        if images:
            _gallery(above, draws, test, side)
        else:
            _cloud(above, test.cpu(), draws)
        above.set_title(f"{learner}: {_short(bits[learner])} bits/dim\n(uniform: {uniform:.2f})", fontsize=9)
        codes = codes_of(module, test[:SHOWN]).cpu()
        _codes(below, codes)
        if column:
            continue
        above.set_ylabel("draws" if images else "draws over data", fontsize=9)
        below.set_ylabel("codes of test data", fontsize=9)


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 1000 else f"{value:.1e}"


def _cloud(axes: Any, data: Tensor, draws: Tensor) -> None:
    columns = (lambda rows: (rows[:, 0], rows[:, 1])) if data.shape[1] > 1 else (lambda rows: (rows[:, 0], 0 * rows))
    axes.scatter(*columns(draws), s=3, color=MODEL, lw=0, alpha=0.6, label="draws")
    axes.scatter(*columns(data[:SHOWN]), s=3, color=DATA, lw=0, alpha=0.6, label="data")
    low, high = data.min(0).values, data.max(0).values
    reach = 0.35 * float((high - low).max())
    axes.set_xlim(float(low[0]) - reach, float(high[0]) + reach)
    if data.shape[1] > 1:
        axes.set_ylim(float(low[1]) - reach, float(high[1]) + reach)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend(frameon=False, fontsize=7, loc="lower right", ncols=2, markerscale=3, handletextpad=0.1)


def _gallery(axes: Any, draws: Tensor, test: Tensor, side: int, across: int = 6) -> None:
    shown = draws[: across * across].reshape(across, across, side, side).transpose(1, 2)
    low, high = float(test.min()), float(test.max())
    axes.imshow(shown.reshape(across * side, across * side).numpy(), cmap="gray_r", vmin=low, vmax=high)
    for edge in range(1, across):
        axes.axhline(edge * side - 0.5, color="white", lw=1)
        axes.axvline(edge * side - 0.5, color="white", lw=1)
    axes.set_xticks([])
    axes.set_yticks([])


def _codes(axes: Any, codes: Tensor) -> None:
    first, second = codes[:, 0], codes[:, 1] if codes.shape[1] > 1 else torch.zeros(len(codes))
    axes.scatter(first, second, s=3, color=DATA, lw=0, alpha=0.6)
    angle = torch.linspace(0, 2 * math.pi, 200)
    for share, style in ((0.5, "-"), (0.99, "--")):
        radius = math.sqrt(-2 * math.log(1 - share))
        axes.plot(radius * angle.cos(), radius * angle.sin(), color=INK, lw=0.8, ls=style)
    finite = codes[codes.isfinite().all(1)][:, :2].abs()
    far = float(torch.quantile(finite, 0.99)) if finite.numel() else 4.0
    reach = 1.25 * max(far, 3.2)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.set_aspect("equal")
    axes.tick_params(labelsize=7)
