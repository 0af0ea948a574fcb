"""The pictures of a comparison as inline SVG, in colours that the page chooses for light and dark.

Matplotlib draws with stand-in colours; :func:`svg` replaces them by the page's CSS variables, so that one picture
serves both. Nothing here uses pyplot, hence no global state and no display.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

INK, FAINT, REFERENCE, ACCENT = "#010101", "#020202", "#030303", "#040404"
"""Stand-ins for text and axes, grid lines, the reference, and the method that a picture is about."""

VARIABLES = {INK: "--ink-2", FAINT: "--line", REFERENCE: "--reference", ACCENT: "--accent"}

SHOWN = 10
"""Parameters in a picture; more would not be readable."""

FEW = 200
"""Distinct draws below which they are shown as points."""

MASS = (0.5, 0.9)
"""Posterior mass inside the contours, and in predictive bands."""


@dataclass(frozen=True)
class Series:
    """How an observation is drawn.

    Attributes:
        times: Where its entries lie on the horizontal axis, with shape (T,).
        labels: Names of the k series.
        unit: Of the values, or empty.
        timed: Whether the entries have an order worth a line.
    """

    times: np.ndarray
    labels: tuple[str, ...]
    unit: str
    timed: bool

    @classmethod
    def of(cls, shape: Sequence[int], about: Mapping[str, Any]) -> Series | None:
        """From a simulator's ``event_times``, ``event_labels`` and ``event_unit``; None for what is no series."""
        if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] > 6):
            return None
        times = about.get("event_times")
        k = shape[1] if len(shape) == 2 else 1
        labels = about.get("event_labels") or ([f"x{i + 1}" for i in range(k)] if k > 1 else ["x"])
        timed = times is not None and len(times) == shape[0]
        places = np.asarray(times if timed else range(1, shape[0] + 1), dtype=float)
        return cls(places, tuple(map(str, labels[:k])), about.get("event_unit") or "", timed)


def pairs(
    draws: np.ndarray,
    reference: np.ndarray | None,
    names: Sequence[str],
    limits: Sequence[tuple[float, float]],
    name: str,
) -> str:
    """Marginals and pairs of one method's draws (n, d) over the reference's (m, d), as SVG.

    Filled areas are the reference, lines the method; contours hold 50 % and 90 % of the mass. Where there are few
    distinct draws they are shown as points, larger where a draw is repeated.

    Args:
        draws: The method's draws.
        reference: The reference's, or None.
        names: Names of the parameters.
        limits: Each parameter's range, the same for all methods.
        name: Makes the picture's identifiers unique on its page.
    """
    d = min(len(names), SHOWN)
    size = min(11.0, 1.6 + 1.2 * d)
    figure = _figure(size, size)
    grid = figure.subplots(d, d, squeeze=False, gridspec_kw={"wspace": 0.08, "hspace": 0.08})
    distinct, counts = np.unique(draws, axis=0, return_counts=True)
    for i in range(d):
        for j in range(d):
            axes = grid[i][j]
            if j > i:
                axes.remove()
                continue
            _prepare(axes)
            axes.set_xlim(limits[j])
            if i == j:
                _marginal(axes, draws[:, j], None if reference is None else reference[:, j], limits[j])
            else:
                axes.set_ylim(limits[i])
                if reference is not None:
                    _contours(axes, reference[:, [j, i]], limits[j], limits[i], REFERENCE, filled=True)
                if len(distinct) < FEW:
                    _points(axes, distinct[:, [j, i]], counts)
                else:
                    _contours(axes, draws[:, [j, i]], limits[j], limits[i], ACCENT, filled=False)
            _ticks(axes, bottom=i == d - 1, left=j == 0 and i > 0, n=2 if d > 5 else 3)
            if i == d - 1:
                axes.set_xlabel(_pretty(names[j]), color=INK)
            if j == 0 and i > 0:
                axes.set_ylabel(_pretty(names[i]), color=INK)
    figure.align_labels()
    return svg(figure, name)


def marginals(
    draws: Mapping[str, np.ndarray],
    reference: np.ndarray | None,
    names: Sequence[str],
    limits: Sequence[tuple[float, float]],
    colours: Mapping[str, str],
    name: str,
) -> str:
    """One panel per parameter with the density of every method over the reference's, as SVG."""
    d = min(len(names), SHOWN)
    columns = min(4, d)
    rows = math.ceil(d / columns)
    figure = _figure(2.75 * columns, 1.75 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw={"hspace": 0.55, "wspace": 0.1}).ravel()
    for axes in grid[d:]:
        axes.remove()
    for j, axes in enumerate(grid[:d]):
        _prepare(axes)
        axes.set_xlim(limits[j])
        top = 0.0
        if reference is not None:
            where, height = _density(reference[:, j], limits[j])
            axes.fill_between(where, height, color=REFERENCE, alpha=0.35, linewidth=0)
            top = height.max()
        for label, theta in draws.items():
            where, height = _density(theta[:, j], limits[j])
            axes.plot(where, height, color=colours[label], linewidth=1.6)
            top = max(top, min(height.max(), 1.6 * top) if top else height.max())
        axes.set_ylim(0, 1.06 * top)
        axes.set_xlabel(_pretty(names[j]), color=INK)
        _ticks(axes, bottom=True, left=False)
    return svg(figure, name, {colour: f"--method-{i}" for i, colour in enumerate(colours.values())})


def bands(x: np.ndarray, observed: np.ndarray, series: Series, limits: Sequence[tuple[float, float]], name: str) -> str:
    r"""Predictions x of shape (m, \*event_shape) as 50 % and 90 % bands under the observation, as SVG."""
    k = len(series.labels)
    figure = _figure(4.4, 0.5 + 1.7 * k)
    stack = figure.subplots(k, 1, sharex=True, squeeze=False, gridspec_kw={"hspace": 0.12})[:, 0]
    x, observed = x.reshape(len(x), -1, k), observed.reshape(-1, k)
    x = x[np.isfinite(x).all((1, 2))]
    for s, axes in enumerate(stack):
        _prepare(axes)
        if len(x):
            _band(axes, x[:, :, s], series)
        style = {"marker": "o", "markersize": 3.4, "color": INK, "markeredgewidth": 0}
        axes.plot(series.times, observed[:, s], linestyle="-" if series.timed else "", linewidth=0.7, **style)
        axes.set_ylim(limits[s])
        _ticks(axes, bottom=s == k - 1, left=True, n=4, integer=bool((series.times % 1 == 0).all()))
        unit = f" ({series.unit})" if series.unit else ""
        axes.set_ylabel(f"{series.labels[s]}{unit if k == 1 else ''}", color=INK)
    return svg(figure, name)


def by_budget(points: Mapping[str, Sequence[tuple[int, float]]], colours: Mapping[str, str], name: str) -> str:
    """C2ST over the budget: a line through each method's medians, and every repeat as a point; as SVG."""
    figure = _figure(7.2, 3.6)
    axes = figure.subplots()
    _prepare(axes, frame=True)
    axes.set_xscale("log")
    budgets = sorted({budget for values in points.values() for budget, _ in values})
    for label, values in points.items():
        medians = [
            (b, float(np.median([v for c, v in values if c == b]))) for b in budgets if any(c == b for c, _ in values)
        ]
        axes.plot(*zip(*medians, strict=True), color=colours[label], linewidth=1.8, marker="o", markersize=4.5)
        axes.scatter(*zip(*values, strict=True), color=colours[label], s=10, alpha=0.5, linewidths=0)
    axes.axhline(0.5, color=FAINT, linewidth=1.2)
    axes.set_ylim(0.45, 1.02)
    axes.set_xticks(budgets, [f"{budget:,}" for budget in budgets])
    axes.minorticks_off()
    axes.set_xlabel("simulations", color=INK)
    axes.set_ylabel("C2ST to the reference", color=INK)
    axes.tick_params(colors=INK, length=3, width=0.6)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    return svg(figure, name, {colour: f"--method-{i}" for i, colour in enumerate(colours.values())})


def parameter_limits(draws: Sequence[np.ndarray], reference: np.ndarray | None) -> list[tuple[float, float]]:
    """A range for each parameter that shows the reference well and the methods as far as that allows."""
    low = np.min([np.quantile(theta, 0.01, axis=0) for theta in draws], axis=0)
    high = np.max([np.quantile(theta, 0.99, axis=0) for theta in draws], axis=0)
    if reference is not None:
        centre = np.quantile(reference, [0.005, 0.995], axis=0)
        width = centre[1] - centre[0]
        low = np.minimum(np.maximum(low, centre[0] - 1.2 * width), centre[0])
        high = np.maximum(np.minimum(high, centre[1] + 1.2 * width), centre[1])
    margin = 0.04 * (high - low) + 1e-9 * (1 + np.abs(high))
    return list(zip((low - margin).tolist(), (high + margin).tolist(), strict=True))


def series_limits(predictions: Sequence[np.ndarray], observed: np.ndarray, k: int) -> list[tuple[float, float]]:
    """A range for each series that shows the data well and the 90 % bands as far as that allows."""
    observed = observed.reshape(-1, k)
    limits = []
    for s in range(k):
        low, high = observed[:, s].min(), observed[:, s].max()
        spread = (high - low) or abs(high) or 1.0
        for x in predictions:
            values = x.reshape(len(x), -1, k)[:, :, s]
            values = values[np.isfinite(values).all(1)]
            if len(values):
                low = max(min(low, np.quantile(values, 0.05, axis=0).min()), observed[:, s].min() - 1.2 * spread)
                high = min(max(high, np.quantile(values, 0.95, axis=0).max()), observed[:, s].max() + 1.2 * spread)
        limits.append((float(low - 0.05 * spread), float(high + 0.05 * spread)))
    return limits


def svg(figure: Any, name: str, colours: Mapping[str, str] | None = None) -> str:
    """A figure as an SVG element for the inside of a page: no size, no fonts, colours from CSS variables."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(
            buffer, format="svg", transparent=True, bbox_inches="tight", pad_inches=0.04, metadata={"Date": None}
        )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    # as wide as the page lets it be, but never so wide that its text outgrows the page's
    width = float(re.findall(r'<svg[^>]*? width="([0-9.]+)pt"', text)[0]) * 96 / 72
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', rf'\1 style="max-width: {1.15 * width:.0f}px"', text, count=1)
    text = re.sub(r'(id="|#)(?=[A-Za-z])(?![0-9a-f]{6}[;"])', rf"\1{name}-", text)
    text = re.sub(r"font: ([0-9.]+)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r" ?font-family: [^;\"]*;?", "", text)
    for stand_in, variable in {**VARIABLES, **(colours or {})}.items():
        text = text.replace(stand_in, f"var({variable})")
    # a tenth of a point cannot be seen, and the page is shorter by half
    return re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d)\d+", r"\1", path[0]), text)


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def _prepare(axes: Any, frame: bool = False) -> None:
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set_color(INK if side in ("bottom", "left") and frame else FAINT)
        spine.set_linewidth(0.7)
    if frame:
        axes.spines[["top", "right"]].set_visible(False)


def _ticks(axes: Any, bottom: bool, left: bool, n: int = 3, integer: bool = False) -> None:
    from matplotlib.ticker import MaxNLocator

    for axis, shown in ((axes.xaxis, bottom), (axes.yaxis, left)):
        if shown:
            axis.set_major_locator(
                MaxNLocator(n, prune="both" if n < 4 else None, integer=integer and axis is axes.xaxis)
            )
        else:
            axis.set_ticks([])
    axes.tick_params(colors=INK, length=2.5, width=0.6, labelsize=8)


def _marginal(axes: Any, values: np.ndarray, reference: np.ndarray | None, limits: tuple[float, float]) -> None:
    where, height = _density(values, limits)
    top = height.max()
    if reference is not None:
        places, true = _density(reference, limits)
        axes.fill_between(places, true, color=REFERENCE, alpha=0.35, linewidth=0)
        top = max(true.max(), min(top, 1.6 * true.max()))
    axes.plot(where, height, color=ACCENT, linewidth=1.4)
    axes.set_ylim(0, 1.08 * top)


def _band(axes: Any, x: np.ndarray, series: Series) -> None:
    for mass, alpha in zip(reversed(MASS), (0.22, 0.32), strict=True):
        low, high = np.quantile(x, [0.5 - mass / 2, 0.5 + mass / 2], axis=0)
        if series.timed:
            axes.fill_between(series.times, low, high, color=ACCENT, alpha=alpha, linewidth=0)
        else:
            axes.vlines(series.times, low, high, color=ACCENT, alpha=alpha, linewidth=7)
    middle = np.median(x, axis=0)
    if series.timed:
        axes.plot(series.times, middle, color=ACCENT, linewidth=1.2)
    else:
        axes.plot(series.times, middle, color=ACCENT, linestyle="", marker="_", markersize=7)


def _density(values: np.ndarray, limits: tuple[float, float], bins: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """A kernel density of one column on a grid, by Silverman's rule with the robust spread."""
    from scipy.ndimage import gaussian_filter1d

    height, edges = np.histogram(values, bins=bins, range=limits)
    width = edges[1] - edges[0]
    smoothing = 0.9 * _spread(values) * len(values) ** -0.2 / width
    height = gaussian_filter1d(height.astype(float), max(smoothing, 1e-3), mode="reflect") / (len(values) * width)
    return (edges[1:] + edges[:-1]) / 2, height


def _points(axes: Any, points: np.ndarray, weights: np.ndarray) -> None:
    """Points, larger where they weigh more; each is a line of hardly any length, which is short in SVG."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    limits = np.array([axes.get_xlim(), axes.get_ylim()]).T
    seen = ((points >= limits[0]) & (points <= limits[1])).all(1)
    size = np.ceil(3 * weights / weights.max())
    for step in (1, 2, 3):
        chosen = points[seen & (size == step)]
        if len(chosen):
            ends = np.stack([chosen, chosen + 1e-4 * (limits[1] - limits[0])], axis=1)
            path = Path(ends.reshape(-1, 2), [Path.MOVETO, Path.LINETO] * len(chosen))
            width = 0.8 + 0.6 * step
            axes.add_patch(PathPatch(path, color=ACCENT, alpha=0.55, linewidth=width, capstyle="round", fill=False))


def _contours(
    axes: Any, points: np.ndarray, x: tuple[float, float], y: tuple[float, float], colour: str, filled: bool
) -> None:
    from scipy.ndimage import gaussian_filter

    bins = 56
    height, *edges = np.histogram2d(points[:, 0], points[:, 1], bins=bins, range=(x, y))
    widths = [(high - low) / bins for low, high in (x, y)]
    smoothing = [_spread(points[:, i]) * len(points) ** (-1 / 6) / widths[i] for i in (0, 1)]
    height = gaussian_filter(height, np.maximum(smoothing, 0.7), mode="constant")
    ordered = np.sort(height.ravel())[::-1]
    inside = np.cumsum(ordered) / len(points)  # of all draws, not of those inside the picture
    levels = [float(ordered[np.searchsorted(inside, mass)]) for mass in reversed(MASS) if inside[-1] > mass]
    centres = [(edge[1:] + edge[:-1]) / 2 for edge in edges]
    if not filled and len(levels) < len(MASS):
        # so much lies outside that the contour would not close
        _points(axes, points[:FEW], np.ones(min(len(points), FEW)))
    if not levels or not 0 < levels[0] < height.max():
        return
    if filled:
        for low, high, alpha in zip(levels, [*levels[1:], 1.01 * height.max()], (0.22, 0.45), strict=False):
            axes.contourf(*centres, height.T, levels=[low, high], colors=[colour], alpha=alpha)
    else:
        axes.contour(*centres, height.T, levels=levels, colors=[colour], linewidths=[0.9, 1.5][-len(levels) :])


def _spread(values: np.ndarray) -> float:
    """The smaller of the standard deviation and the quartiles' distance over 1.34, never zero."""
    quartiles = np.quantile(values, [0.25, 0.75])
    found = [values.std(), (quartiles[1] - quartiles[0]) / 1.34]
    positive = [value for value in found if value > 0]
    return float(min(positive)) if positive else 1e-9


def _pretty(name: str) -> str:
    return name.replace("_", " ")
