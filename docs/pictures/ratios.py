"""Draw ratio-check.png and ratio-shift.png from the examples of docs/ratios.md. Run from the repository root."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DOCS = Path(__file__).parents[1]
TRAIN, TEST, INK = "#d97a12", "#12665d", "#333333"


def page_names() -> dict[str, Any]:
    """What the page's first examples define, by one method of those that "auto" would try."""
    page = (DOCS / "ratios.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL)[:3]:
        exec(block.replace("(p, q, seed=0)", '(p, q, "logistic", epochs=30, seed=0, progress=False)'), names)
    return names


def main() -> None:
    """Draw the check of the first example, and the two lines of the covariate shift."""
    names = page_names()
    names["ratio"].plot().savefig(DOCS / "images" / "ratio-check.png", dpi=140)
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    x, y, weights = (np.asarray(names[name]).ravel() for name in ("x_train", "y_train", "weights"))
    grid = np.linspace(-0.6, 3.2, 200)
    axes.scatter(
        x, y, s=4 + 10 * weights.clip(max=12), color=TRAIN, alpha=0.35, lw=0, label="learned from, sized by weight"
    )
    axes.plot(grid, np.sinc(grid), color=INK, lw=1, ls="--", label="truth")
    for name, colour, label in (("plain", TRAIN, "plain line"), ("weighted", TEST, "weighted line")):
        axes.plot(grid, names[name].predict(grid[:, None]), color=colour, lw=2, label=label)
    axes.axvspan(1.5, 2.5, color=TEST, alpha=0.1, lw=0)
    axes.text(2.0, 1.3, "where it shall predict", ha="center", fontsize=8, color=TEST)
    axes.set(xlabel="x", xlim=(-0.6, 3.2), ylim=(-1.1, 1.6))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    figure.savefig(DOCS / "images" / "ratio-shift.png", dpi=140)


if __name__ == "__main__":
    main()
