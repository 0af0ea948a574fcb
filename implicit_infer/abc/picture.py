"""A sequential run as a picture: how tolerance, distances, acceptance and effective sample size went."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DISTANCE, TOLERANCE, INK, FAINT = "#12665d", "#d97a12", "#2b2b2b", "#b8b8b8"


def draw_run(figures: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write four panels against the simulations that were spent, by generation.

    Tolerance and median distance; the share of simulations that was accepted; the effective sample size, beside the
    number of particles and the fifth of it below which weights are said to have collapsed; and simulations that failed.

    Args:
        figures: Of the posterior: ``paths`` has a list for each figure with an entry for each generation.
        path: File to write, ending in ``.svg`` or ``.png``.

    Returns:
        The path.

    Raises:
        ValueError: If the file shall be of another kind, or the method does not run in generations.
    """
    path = Path(path)
    if path.suffix not in (".svg", ".png"):
        raise ValueError(f"path: expected a name that ends in .svg or .png; got {path.name}")
    if "paths" not in figures:
        raise ValueError("plot_run: expected a posterior of a method that runs in generations, such as smc-abc")
    plotted(figures).savefig(path, dpi=150)
    return path


def plotted(figures: Mapping[str, Any]) -> Figure:
    """The figure; it belongs to no window and has touched no setting of pyplot's."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    paths = figures["paths"]
    spent = [sum(paths["simulations"][: i + 1]) for i in range(len(paths["simulations"]))]
    figure = Figure(figsize=(8.4, 5.4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    (near, accepted), (worth, failed) = figure.subplots(2, 2)
    _line(near, spent, paths["tolerance"], TOLERANCE, "tolerance")
    _line(near, spent, paths["distance"], DISTANCE, "median distance")
    _logarithmic(near, [*paths["tolerance"], *paths["distance"]])
    _line(accepted, spent, paths["acceptance"], DISTANCE)
    _logarithmic(accepted, paths["acceptance"])
    _line(worth, spent, paths["ess"], DISTANCE, "effective sample size")
    worth.set_ylim(bottom=0)
    if "chains" not in figures:  # their states are many, and never meant to be worth as much
        worth.axhline(figures["particles"], color=FAINT, lw=1, label="particles")
        worth.axhline(0.2 * figures["particles"], color=TOLERANCE, lw=1, ls="--", label="a fifth of them")
        worth.set_ylim(top=1.08 * max(figures["particles"], *paths["ess"]))
    _line(failed, spent, paths["failed"], DISTANCE, "failed simulations")
    _line(failed, spent, paths["undefined"], TOLERANCE, "distances that are no numbers")
    failed.set_ylim(bottom=0)
    titles = ("tolerance and distances", "share accepted", "what the particles are worth", "lost in each generation")
    for axes, title in zip((near, accepted, worth, failed), titles, strict=True):
        axes.set_title(title, loc="left", fontsize=9.5, color=INK)
        axes.set_xlabel("simulations", fontsize=9)
        axes.set_xlim(0, 1.03 * spent[-1])
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK, labelsize=8, length=3, color=FAINT)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8)
    return figure


def _line(axes: Any, spent: Sequence[float], values: Sequence[float], colour: str, label: str | None = None) -> None:
    axes.plot(spent, values, color=colour, lw=1.2, marker="o", ms=3, label=label)


def _logarithmic(axes: Any, values: Sequence[float]) -> None:
    """A fall by powers of ten is seen on a logarithmic scale only, which has no place for what is not positive."""
    if min(values) > 0 and max(values) > 10 * min(values):
        axes.set_yscale("log")
