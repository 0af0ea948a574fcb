"""The picture of a run shows each generation; methods without generations have none."""

import pytest
import torch

from implicit_infer.abc import ABCMCMC, SMCABC, RejectionABC
from implicit_infer.abc.picture import plotted
from implicit_infer.posteriors.method import Question
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear


def ask(budget=600):
    return Question(GaussianLinear(dim=2), torch.zeros(2), budget, 100, progress=False)


def test_a_point_for_each_generation():
    figures = SMCABC(particles=40).infer(ask()).figures
    panels = plotted(figures).axes
    lines = {line.get_label(): line for axes in panels for line in axes.lines}
    assert list(lines["tolerance"].get_ydata()) == figures["paths"]["tolerance"]
    assert lines["effective sample size"].get_xdata()[-1] == 600
    assert lines["a fifth of them"].get_ydata()[0] == 8
    assert panels[0].get_title(loc="left") == "tolerance and distances"


def test_chains_have_one_too(tmp_path):
    path = ABCMCMC(chains=10).infer(ask()).plot_run(tmp_path / "run.svg")
    assert path.read_text().startswith("<?xml")


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"path: expected a name that ends in .svg or .png; got run.pdf"):
        SMCABC(particles=40).infer(ask()).plot_run(tmp_path / "run.pdf")
    with pytest.raises(ValueError, match="plot_run: expected a posterior of a method that runs in generations"):
        RejectionABC().infer(ask()).plot_run(tmp_path / "run.svg")
