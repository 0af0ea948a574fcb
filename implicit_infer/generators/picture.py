"""Draws how a generator was learned: losses, what the critic tells, gradients, and its draws beside data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from implicit_estimators.seeds import Seed, stream

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DATA, MODEL, INK, FAINT = "#12665d", "#d97a12", "#2b2b2b", "#b8b8b8"


def plot_learned(learned: Any, draws: int, seed: Seed) -> Figure:
    """Draw a learned generator.

    Four panels: the losses of both players; the mean log-ratio (or the gap of the critic) at data and draws, with the
    share that the critic tells right; the norms of both gradients; and draws beside data: the first two entries of
    vectors, histograms of a single one, or pictures.

    Args:
        learned: What was learned, a ``Learned``.
        draws: How many draws are shown.
        seed: Of the draws.

    Returns:
        A matplotlib figure that belongs to no window and has touched no setting of pyplot's.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 6.4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    (losses, told), (slopes, samples) = figure.subplots(2, 2)
    history = learned.history
    steps, figures = history.steps, history.figures
    _lines(losses, steps, {"generator": history.generator}, MODEL)
    if learned.critic is not None:
        _lines(losses, steps, {"critic": history.critic}, DATA)
    _heading(losses, "losses")
    names = {
        "log_ratio_data": "log r at data",
        "log_ratio_model": "log r at draws",
        "critic_gap": "critic, data - draws",
    }
    for name, colour in (("log_ratio_data", DATA), ("log_ratio_model", MODEL), ("critic_gap", DATA)):
        if name in figures:
            _lines(told, steps, {names[name]: figures[name]}, colour)
    if "told_data" in figures:
        share = told.twinx()
        right = [(data + model) / 2 for data, model in zip(figures["told_data"], figures["told_model"], strict=True)]
        _lines(share, steps, {"told right": right}, FAINT)
        share.set_ylim(0, 1.02)
        share.legend(frameon=False, fontsize=8, loc="lower right")
    else:
        for name, colour in (("diversity", DATA), ("spread", MODEL)):
            _lines(told, steps, {name: figures.get(name, [])}, colour)
    _heading(told, "what the critic tells" if learned.critic is not None else "draws beside data")
    for name, colour in (("generator", MODEL), ("critic", DATA)):
        if f"{name}_gradient" in figures:
            _lines(slopes, steps, {name: figures[f"{name}_gradient"]}, colour)
    slopes.set_yscale("log", nonpositive="mask")
    _heading(slopes, "gradient norms")
    _samples(samples, learned, draws, seed)
    for axes in (losses, told, slopes):
        axes.set_xlabel("generator steps", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK, labelsize=8, length=3, color=FAINT)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8)
    return figure


def _heading(axes: Any, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=9.5, color=INK)


def _lines(axes: Any, steps: list[int], values: dict[str, list[float]], colour: str) -> None:
    for label, line in values.items():
        if line:
            axes.plot(steps[-len(line) :], line, color=colour, lw=1.2, label=label)


def _samples(axes: Any, learned: Any, draws: int, seed: Seed) -> None:
    _heading(axes, "draws beside data")
    axes.tick_params(colors=INK, labelsize=8, length=3, color=FAINT)
    given = learned.given
    if given is not None:
        chosen = torch.randint(len(given), (draws,), generator=stream(0, "subsample"))
        given = given[chosen.to(given.device)]
    model = learned.sample((draws,), given, seed=seed).double().cpu()
    data = torch.empty(0) if learned.data is None else learned.data[:draws].double().cpu()
    if len(learned.event_shape) == 3:
        _pictures(axes, [side for side in (data, model) if len(side)])
    elif learned.event_shape[0] == 1:
        for side, colour, label in ((data, DATA, "data"), (model, MODEL, "draws")):
            if len(side):
                axes.hist(side[:, 0].numpy(), bins=50, density=True, color=colour, alpha=0.45, label=label)
        axes.legend(frameon=False, fontsize=8)
    else:
        for side, colour, label in ((data, DATA, "data"), (model, MODEL, "draws")):
            if len(side):
                axes.plot(*side[:, :2].numpy().T, ".", ms=2, color=colour, alpha=0.5, label=label)
        axes.legend(frameon=False, fontsize=8, markerscale=4)


def _pictures(axes: Any, sides: list[Tensor]) -> None:
    """Eight pictures of each side, in rows of four, data above draws, on one scale of grey (or as colours)."""
    rows = []
    for side in sides:
        eight = side[:8] if len(side) >= 8 else side[torch.arange(8) % len(side)]
        tiles = eight.reshape(2, 4, *eight.shape[1:]).permute(2, 0, 3, 1, 4)
        rows.append(tiles.reshape(eight.shape[1], 2 * eight.shape[2], 4 * eight.shape[3]))
    whole = torch.cat(rows, 1)
    low, high = sides[0].min(), sides[0].max()
    shades = ((whole - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    axes.imshow(shades.permute(1, 2, 0).numpy() if len(shades) == 3 else shades.mean(0).numpy(), cmap="gray")
    axes.set_axis_off()
