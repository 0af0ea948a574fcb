"""The picture of a check: it holds what the check says, and leaves matplotlib as it was."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from implicit_estimators.ratio import check_ratio
from implicit_estimators.ratio.plot import plot_ratio


def words(figure) -> str:
    return "\n".join(text.get_text() for axes in figure.axes for text in axes.texts)


@pytest.mark.parametrize(("stretch", "verdict"), [(1.0, "trusted"), (1.6, "off")])
def test_it_says_what_the_check_says(plane, tmp_path, stretch: float, verdict: str) -> None:
    p, q = plane.samples(1000, 800, 0)
    sides = stretch * plane.log_ratio(p), stretch * plane.log_ratio(q)
    found = check_ratio(*sides, p, q, seed=0)
    figure = plot_ratio(*sides, found, title="a name")
    shown = words(figure)
    assert verdict in shown.splitlines()
    assert f"{float(found.mean_ratio):.3g} ± {found.mean_ratio.standard_error:.2g}" in shown
    assert figure.get_suptitle() == "density ratio: a name"
    lines, reliability = figure.axes[1].lines, found.reliability.numpy()
    assert any(
        np.array_equal(line.get_xydata(), reliability[:, :2])
        for line in lines
        if len(line.get_xdata()) == len(reliability)
    )
    legend = figure.axes[2].get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels[0] == f"q weighted by r: {found.effective_q:,.0f} effective of 800"
    figure.savefig(tmp_path / "ratio.png", dpi=40)
    assert (tmp_path / "ratio.png").stat().st_size > 5000


@pytest.mark.parametrize("size", [0.0, 1e8])
@pytest.mark.parametrize("n", [2, 50])
def test_it_draws_whatever_it_is_given(tmp_path, n: int, size: float) -> None:
    draw = torch.Generator().manual_seed(0)
    p, q, s_p, s_q = torch.randn(4, n, 1, generator=draw)
    sides = size * s_p[:, 0], size * s_q[:, 0]
    plot_ratio(*sides, check_ratio(*sides, p, q, seed=0)).savefig(tmp_path / "ratio.png", dpi=30)


def test_pyplot_is_left_alone() -> None:
    code = (
        "import sys, torch; from implicit_estimators.ratio import LogisticRatio\n"
        "assert 'matplotlib' not in sys.modules\n"
        "x = torch.arange(40.0)\n"
        "figure = LogisticRatio(hidden=(4,), epochs=1).fit(x, x + 0.5, seed=0).plot()\n"
        "sys.exit('matplotlib.pyplot' in sys.modules or figure.axes == [])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
