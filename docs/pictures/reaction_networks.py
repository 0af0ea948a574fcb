"""Draw docs/images/reaction-networks.png: one network under four dynamics. Run from the root of the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

DOCS = Path(__file__).parents[1]
COLOURS = {"jump": "#12665d", "tau": "#d97a12", "sde": "#6a51a3", "ode": "#333333"}
LABELS = {"jump": "jump, exact", "tau": "tau-leaping", "sde": "chemical Langevin", "ode": "rate equations"}


def page_names() -> dict[str, Any]:
    """What the page's first two examples define, with more rows: the picture shows what the page computes."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "reaction-networks.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks[:2]:
        exec(block.replace("expand(500, 3)", "expand(4000, 3)"), names)
    return names


def main() -> None:
    """Draw exact runs on the left and where the runs of each dynamics are at the last time on the right."""
    proteins = page_names()["proteins"]
    for name, x in proteins.items():
        print(f"{name}: mean {x[:, -1].mean():.1f}, above 30 molecules {(x[:, -1] > 30).float().mean():.2f}")
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(8.4, 3.2), width_ratios=(1.7, 1), layout="constrained", sharey=True
    )
    left.plot(proteins["jump"][:12].T, color=COLOURS["jump"], lw=0.8, alpha=0.8)
    left.set(xlabel="time (lifetimes of mRNA)", ylabel="protein molecules", xlim=(0, 60), ylim=(0, 120))
    left.set_title("twelve exact runs", fontsize=9, loc="left")
    edges = np.arange(0, 121, 5)
    for name in ("jump", "tau", "sde"):
        share, _ = np.histogram(proteins[name][:, -1], edges)
        style = {"lw": 0, "alpha": 0.25, "fill": True} if name == "jump" else {"lw": 1.4}
        share = share / len(proteins[name])
        right.stairs(share, edges, orientation="horizontal", color=COLOURS[name], label=LABELS[name], **style)
    left.plot(proteins["ode"][0], color=COLOURS["ode"], ls="--", lw=1.8)
    right.axhline(float(proteins["ode"][0, -1]), color=COLOURS["ode"], ls="--", lw=1.8, label=LABELS["ode"])
    right.set(xlabel="share of runs at time 60")
    right.legend(frameon=False, fontsize=8, loc="upper right")
    figure.savefig(DOCS / "images" / "reaction-networks.png", dpi=160)


if __name__ == "__main__":
    main()
