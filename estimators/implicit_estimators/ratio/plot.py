"""Draws how far a ratio is to be trusted: where log r lies on both sides, calibration, weights, and the verdict."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from implicit_estimators.ratio.check import ENOUGH, RatioCheck

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P, Q, INK, FAINT = "#12665d", "#d97a12", "#2b2b2b", "#b8b8b8"
SHADES = {"trusted": "#1b7f4b", "off": "#b3261e", "uninformative": "#8a6100"}
"""Colours of the verdicts."""


def plot_ratio(log_r_p: Tensor, log_r_q: Tensor, check: RatioCheck, title: str = "") -> Figure:
    """Draw a check of a ratio.

    Four panels: histograms of log r over p and q, with what q reweighted by r makes of it (which should be p's); the
    reliability curve with the band that chance allows; the share of all weight that the heaviest samples have; and the
    figures with the verdict.

    Args:
        log_r_p: log r at held-out samples of p, with shape (n,).
        log_r_q: log r at held-out samples of q, with shape (m,).
        check: What :func:`check_ratio` said of them.
        title: Name of the estimator.

    Returns:
        A matplotlib figure that belongs to no window and has touched no setting of pyplot's.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 6.4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    (left, middle), (below, words) = figure.subplots(2, 2, gridspec_kw={"height_ratios": (1, 1), "hspace": 0.08})
    sides = [side.detach().cpu().double().numpy() for side in (log_r_p, log_r_q)]
    _histograms(left, *sides)
    _reliability(middle, log_r_p, log_r_q, check)
    _concentration(below, sides[0], sides[1], check)
    _words(words, check)
    for axes in (left, middle, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["bottom", "left"]].set_color(FAINT)
        axes.tick_params(colors=INK, labelsize=8, length=3, color=FAINT)
    if title:
        figure.suptitle(f"density ratio: {title}", x=0.01, ha="left", fontsize=11, color=INK, weight="bold")
    return figure


def _heading(axes: Any, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=9.5, color=INK)


def _histograms(axes: Any, at_p: np.ndarray, at_q: np.ndarray) -> None:
    pooled = np.concatenate([at_p, at_q])
    low, high = np.quantile(pooled, [0.001, 0.999])
    margin = 0.03 * (high - low) + 0.05
    edges = np.linspace(low - margin, high + margin, 51)
    for values, colour, label in ((at_q, Q, "q"), (at_p, P, "p")):
        density = np.histogram(values, edges)[0] / len(values) / np.diff(edges)
        axes.stairs(density, edges, fill=True, color=colour, alpha=0.38, lw=0, label=label)
        axes.stairs(density, edges, color=colour, lw=1.1)
    weights = np.exp(at_q - at_q.max())
    density = np.histogram(at_q, edges, weights=weights)[0] / weights.sum() / np.diff(edges)
    tallest = axes.get_ylim()[1]
    axes.stairs(density, edges, color=INK, lw=1.2, ls=(0, (2, 1.2)), label="q weighted by r")
    axes.set_ylim(0, tallest * 1.08)  # a single heavy sample must not flatten the rest
    axes.axvline(0, color=FAINT, lw=0.8, zorder=0)
    axes.set_xlabel("log r, nats", fontsize=9)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.legend(frameon=False, fontsize=8.5, handlelength=1.4)
    _heading(axes, "where the samples lie")


def _reliability(axes: Any, log_r_p: Tensor, log_r_q: Tensor, check: RatioCheck) -> None:
    predicted, observed, share = check.reliability.double().cpu().numpy().T
    n, m = len(log_r_p), len(log_r_q)
    # effective rows of a bin whose samples of p and q count 1/2n and 1/2m
    rows = share * 2 / (predicted / n + (1 - predicted) / m)
    half = 2 * np.sqrt(predicted * (1 - predicted) / np.maximum(rows, 1))
    axes.fill_between(
        predicted, (predicted - half).clip(0), (predicted + half).clip(max=1), color=FAINT, alpha=0.4, lw=0
    )
    axes.plot([0, 1], [0, 1], color=INK, lw=0.8, ls=(0, (4, 3)))
    axes.plot(predicted, observed, color=P, lw=1.3, marker="o", ms=4, mec="white", mew=0.6)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axes.set_xlabel("D = r / (1 + r)", fontsize=9)
    axes.set_ylabel("observed share of p", fontsize=9)
    axes.text(0.97, 0.06, "band: two standard errors\nof a calibrated ratio", fontsize=7.5, color="#6b6b6b", ha="right")
    _heading(axes, f"calibration (error {check.calibration_error:.3f}, chance {check.calibration_noise:.3f})")


def _concentration(axes: Any, at_p: np.ndarray, at_q: np.ndarray, check: RatioCheck) -> None:
    from matplotlib.ticker import NullLocator

    for values, colour, label, effective, n in (
        (at_q, Q, "q weighted by r", check.effective_q, check.n_q),
        (-at_p, P, "p weighted by 1/r", check.effective_p, check.n_p),
    ):
        weights = np.sort(np.exp(values - values.max()))[::-1]
        held = np.cumsum(weights) / weights.sum()
        rank = np.arange(1, n + 1) / n
        axes.plot(np.append(0.3 / n, rank), np.append(0, held), color=colour, lw=1.5, drawstyle="steps-post")
        place = int(np.searchsorted(held, 0.5))
        axes.plot(rank[place], held[place], "o", color=colour, ms=4.5, mec="white", mew=0.7, zorder=3)
        axes.plot([], [], color=colour, lw=1.5, label=f"{label}: {effective:,.0f} effective of {n:,}")
    axes.set_xscale("log")
    axes.set(
        ylim=(0, 1.42),  # room for the legend above the curves
        yticks=(0, 0.5, 1),
        yticklabels=("0", "50 %", "100 %"),
        xlim=(0.3 / max(check.n_p, check.n_q), 1),
    )
    axes.set_xlabel("share of samples, the heaviest first", fontsize=9)
    axes.set_ylabel("share of the weight", fontsize=9)
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.legend(frameon=False, fontsize=8.5, loc="upper left", handlelength=1.4)
    _heading(axes, "how much hangs on how few")


def _words(axes: Any, check: RatioCheck) -> None:
    axes.set_axis_off()
    kind, _, reasons = check.verdict.partition(": ")
    axes.text(0, 1.0, kind, fontsize=17, weight="bold", color=SHADES[kind], va="top", transform=axes.transAxes)
    lines = textwrap.wrap(reasons, 74)
    if len(lines) > 5:
        lines = [*lines[:5], "..."]
    axes.text(0, 0.87, "\n".join(lines), fontsize=8, color=INK, va="top", linespacing=1.35, transform=axes.transAxes)
    rows = [
        ("mean of r over q", check.mean_ratio, "1"),
        ("mean of 1/r over p", check.mean_inverse, "1"),
        ("calibration slope", check.slope, "1"),
        ("calibration intercept", check.intercept, "0"),
        ("AUC after weighting", check.weighted_auc, "0.5"),
        ("log loss", check.log_loss, f"< {math.log(2):.2f}"),
    ]
    shown = [(what, _with_error(value), expected) for what, value, expected in rows]
    shown.append(("p-value of the balance", f"{check.balance_p_value:.2g}", ""))
    shown.append(("samples in the overlap", f"{check.effective_overlap:,.0f}", f"> {ENOUGH:.0f}"))
    top = 0.87 - 0.062 * len(lines) - (0.06 if lines else 0.02)
    step = min(0.085, top / (len(shown) + 0.5))
    for column, (text, align) in enumerate((("", "left"), ("found", "right"), ("expected", "right"))):
        axes.text((0, 0.74, 0.98)[column], top, text, fontsize=8, color="#6b6b6b", ha=align, transform=axes.transAxes)
    for i, row in enumerate(shown):
        for column, text in enumerate(row):
            axes.text(
                (0, 0.74, 0.98)[column],
                top - (i + 1) * step,
                text,
                fontsize=8.5,
                color=INK if column < 2 else "#6b6b6b",
                ha="left" if column == 0 else "right",
                transform=axes.transAxes,
            )


def _with_error(value: Any) -> str:
    if not math.isfinite(value.standard_error):
        return "unknown"
    return f"{float(value):.3g} ± {value.standard_error:.2g}"
