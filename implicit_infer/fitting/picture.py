"""Draws a fit: each parameter's way against simulations spent, the loss, and data beside fitted draws."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from implicit_simulators import Seed, Stream

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DATA, MODEL, INK, FAINT = "#12665d", "#d97a12", "#2b2b2b", "#b8b8b8"

PANELS = 11
"""Parameters that have a panel; those beyond are in the summary."""

LINES = 20
"""Series of each side that are drawn."""


def plot_fit(fit: Any, draws: int = 1000, seed: Seed = 0) -> Figure:
    """Draw a fit.

    One panel for each parameter: its way against the simulations spent, in the prior's 90 % range (grey), with the
    estimate and two standard errors (orange) where the fit has them. Then what the method says of its steps, and the
    data beside fresh draws at the estimate: histograms, points of the plane, or series.

    Args:
        fit: What was fitted, a ``Fit``.
        draws: Simulations at the estimate, which no budget counts.
        seed: Of these draws.

    Returns:
        A matplotlib figure that belongs to no window and has touched no setting of pyplot's.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = fit.simulator.parameter_names[:PANELS]
    panels = len(names) + 2
    columns = min(3, panels)
    rows = math.ceil(panels / columns)
    figure = Figure(figsize=(3.4 * columns, 2.6 * rows), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    prior = fit.simulator.sample_prior(2000, 0).double()
    errors = fit.standard_errors
    for i, name in enumerate(names):
        _parameter(axes[i], fit, i, prior[:, i], None if errors is None else errors[name])
    _figures(axes[len(names)], fit)
    _draws(axes[len(names) + 1], fit, draws, seed)
    for one in axes[panels:]:
        one.set_axis_off()
    for one in axes[:panels]:
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(colors=INK, labelsize=8, length=3, color=FAINT)
        if one.get_legend_handles_labels()[0]:
            one.legend(frameon=False, fontsize=8)
    return figure


def _heading(axes: Any, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=9.5, color=INK)


def _parameter(axes: Any, fit: Any, i: int, prior: Tensor, error: float | None) -> None:
    _heading(axes, fit.simulator.parameter_names[i])
    low, high = prior.quantile(torch.tensor([0.05, 0.95], dtype=prior.dtype)).tolist()
    axes.axhspan(low, high, color=FAINT, alpha=0.25, lw=0)
    estimate = float(fit.theta[i])
    axes.axhline(estimate, color=MODEL, lw=1)
    if error is not None and math.isfinite(error):
        axes.axhspan(estimate - 2 * error, estimate + 2 * error, color=MODEL, alpha=0.25, lw=0)
    if fit.trace.theta:
        way = torch.stack(fit.trace.theta)[:, i].tolist()
        axes.plot(fit.trace.simulations, way, color=DATA, lw=1.2)
    axes.set_xlabel("simulations", fontsize=9)


def _figures(axes: Any, fit: Any) -> None:
    """The first of what the method notes of its steps: its loss, where it has one."""
    if not fit.trace.figures:
        axes.set_axis_off()
        return
    name = "loss" if "loss" in fit.trace.figures else next(iter(fit.trace.figures))
    _heading(axes, name)
    values = fit.trace.figures[name]
    axes.plot(fit.trace.simulations[-len(values) :], values, color=DATA, lw=1)
    axes.set_xlabel("simulations", fontsize=9)


def _draws(axes: Any, fit: Any, draws: int, seed: Seed) -> None:
    _heading(axes, "data and draws at the estimate")
    size = fit.simulator.event_shape.numel()
    count = draws if size <= 2 else LINES
    random = Stream.of(0, role="split").torch()
    data = fit.data[torch.randperm(len(fit.data), generator=random)[:count]]
    with torch.no_grad():
        model = fit.simulator.simulate(fit.theta[None].expand(count, -1), seed)
    sides = [(side.flatten(1).double(), colour, label) for side, colour, label in (
        (data, DATA, "data"), (model[torch.isfinite(model.flatten(1)).all(1)], MODEL, "draws"))]  # fmt: skip
    for side, colour, label in sides:
        if not len(side):
            continue
        if size == 1:
            axes.hist(side[:, 0].numpy(), bins=40, density=True, color=colour, alpha=0.45, label=label)
        elif size == 2:
            axes.plot(*side.numpy().T, ".", ms=2, color=colour, alpha=0.5, label=label)
        else:
            lines = axes.plot(side.numpy().T, color=colour, lw=0.8, alpha=0.9 if len(side) == 1 else 0.4)
            lines[0].set_label(label)
    if size > 2 and sides[0][0].numel():
        # a wild draw must not flatten the data
        low, high = float(sides[0][0].min()), float(sides[0][0].max())
        room = (high - low) or 1.0
        axes.set_ylim(low - room, high + room)
