"""What is done with a fit: its table, its picture, its file, and the command that makes one."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

import implicit_infer as ii
from implicit_infer import cli
from implicit_infer.fitting import Fit, Trace
from implicit_simulators.poisson_source import PoissonSource
from tests.implicit_infer.location_scale import LocationScale, observations


@pytest.fixture(scope="module")
def fit() -> Fit:
    data = PoissonSource().simulate(torch.full((100, 1), 7.0), seed=1)
    return ii.fit(PoissonSource(), data, ii.fitting.AVO("energy"), budget=1500, seed=0, progress=False)


def test_the_table_has_the_estimate_its_error_and_the_prior(fit):
    table = fit.summary()
    assert list(table.index) == ["mean"]
    row = table.loc["mean"]
    assert row["2.5 %"] < row["estimate"] < row["97.5 %"]
    assert row["standard error"] == pytest.approx(fit.standard_errors["mean"])
    # of the gamma prior with mean 10 and standard deviation 7
    assert row["prior 5 %"] == pytest.approx(1.8, abs=0.5)
    assert row["prior 95 %"] == pytest.approx(23.7, abs=2)


def test_a_file_holds_all_of_it(fit, tmp_path):
    path = tmp_path / "fit.safetensors"
    fit.save(path)
    again = ii.load_fit(path)
    assert isinstance(again.simulator, PoissonSource)
    assert again.simulator.settings() == fit.simulator.settings()
    assert again.parameters == fit.parameters
    assert (again.method, again.simulations, again.figures, again.warnings) == (
        fit.method, fit.simulations, fit.figures, fit.warnings)  # fmt: skip
    assert torch.equal(again.sample((5,), seed=0), fit.sample((5,), seed=0))
    assert torch.equal(again.data, fit.data)
    assert again.trace.simulations == fit.trace.simulations
    assert torch.equal(torch.stack(again.trace.theta), torch.stack(fit.trace.theta))
    assert again.trace.figures == fit.trace.figures
    with pytest.raises(ValueError, match="the fit has the parameters mean; location-scale has location, scale"):
        ii.load_fit(path, LocationScale())


def test_a_simulator_of_the_users_is_given_to_load(tmp_path):
    made = Fit(
        LocationScale(), observations(3), torch.tensor([1.0, 2.0]), method="mine", simulations=3, trace=Trace([], [])
    )
    made.save(tmp_path / "fit")
    with pytest.raises(ValueError, match="'location-scale' cannot be made from its name and settings; give it"):
        ii.load_fit(tmp_path / "fit")
    again = ii.load_fit(tmp_path / "fit", LocationScale())
    assert again.standard_errors is None
    assert bool(again.summary()["standard error"].isna().all())
    with pytest.raises(NotImplementedError, match="a fit by mine is a point"):
        again.sample((3,))


@pytest.mark.parametrize("length", [1, 2, 20])
def test_the_picture_has_a_panel_for_each_parameter(length, tmp_path):
    trace = Trace()
    trace.note(10, torch.tensor([0.0, 1.0]), loss=1.0)
    trace.note(20, torch.tensor([1.0, 2.0]), loss=0.5)
    made = Fit(
        LocationScale(length), observations(5, length=length), torch.tensor([1.0, 2.0]), method="mine", simulations=20,
        trace=trace, covariance=0.01 * torch.eye(2),
    )  # fmt: skip
    figure = made.plot(tmp_path / "fit.png", draws=50)
    assert (tmp_path / "fit.png").stat().st_size > 5000
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[:4] == ["location", "scale", "loss", "data and draws at the estimate"]
    assert figure.axes[0].lines[1].get_ydata().tolist() == [0.0, 1.0]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> object:
    monkeypatch.setattr(sys, "argv", ["implicit-infer", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code


def test_the_command_fits_a_file_and_writes_a_folder(monkeypatch, capsys, tmp_path):
    data, out = tmp_path / "counts.csv", tmp_path / "out"
    np.savetxt(data, np.random.default_rng(0).poisson(7, 60), header="count", comments="")
    options = ["--comparison", "energy", "--budget", 1500, "--start", "mean=5", "-q"]
    code = run(monkeypatch, "fit", "poisson-source", "-x", data, *options, "--out", out)
    assert code in (0, None)
    printed = capsys.readouterr().out
    assert "avo fit of poisson-source, " in printed
    assert "standard error" in printed
    assert {path.name for path in out.iterdir()} == {"fit.safetensors", "parameters.csv", "trace.csv", "fit.png"}
    assert ii.load_fit(out / "fit.safetensors").parameters["mean"] == pytest.approx(7, abs=1.5)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-x", "nothing.csv"], "data: expected a file or an observation of poisson-source (none); got 'nothing.csv'"),
        (["-x", "DATA", "--start", "mean"], "start: expected NAME=NUMBER with commas between; got 'mean'"),
        (["-x", "DATA", "--start", "rate=3"], "start: expected mean; got rate"),
        (["-x", "DATA", "--method", "avos"], "(did you mean 'avo'?)"),
        (["-x", "DATA", "--out", "DATA"], "out: expected a folder;"),
        (["-x", "DATA", "--set", "events=3"], "data: poisson-source expects 3 numbers in a row;"),
    ],
)
def test_mistakes_are_answered_with_a_sentence(monkeypatch, capsys, tmp_path, arguments, sentence):
    data = tmp_path / "data.csv"
    data.write_text("count\n1\n2\n3\n4\n")
    code = run(monkeypatch, "fit", "poisson-source", *(str(data) if a == "DATA" else a for a in arguments))
    assert code == 2
    assert sentence in capsys.readouterr().err
