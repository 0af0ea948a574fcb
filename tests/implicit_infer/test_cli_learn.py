"""``implicit-infer learn``: files in, a folder out, and the same command again goes on."""

import csv
import sys

import numpy as np
import pytest
import torch

import implicit_infer as ii
from implicit_infer import cli
from implicit_infer.generators.folder import read_samples


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["implicit-infer", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code


@pytest.fixture
def table(tmp_path):
    values = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)).numpy()
    np.savetxt(tmp_path / "data.csv", values, delimiter=",", header="a,b,c", comments="")
    return tmp_path / "data.csv"


QUICK = ["--steps", 4, "--batch-size", 16, "-q"]


def test_learn_writes_a_folder_and_goes_on_with_it(monkeypatch, capsys, tmp_path, table):
    out = tmp_path / "out"
    command = ["learn", table, "--out", out, "--comparison", "wgan-gp", "--latent", 2, "--draws", 50, *QUICK]
    assert run(monkeypatch, *command) == 0
    said = capsys.readouterr().out
    assert said.startswith("MLPGenerator by wgan-gp, 4 steps\n")
    assert "sliced Wasserstein" in said
    names = {"game", "history.csv", "learned.safetensors", "metrics.csv", "plot.png", "samples.csv"}
    assert {path.name for path in out.iterdir()} == names
    with open(out / "samples.csv") as file:
        header, *rows = csv.reader(file)
    assert header == ["a", "b", "c"]
    assert len(rows) == 50
    drawn = ii.load_learned(out / "learned.safetensors").sample((50,), seed=0)
    np.testing.assert_allclose(np.array(rows, dtype=np.float32), drawn, rtol=1e-5)
    with open(out / "history.csv") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]
    before = (out / "game" / "checkpoint.safetensors").read_bytes()
    assert run(monkeypatch, *command) == 0
    assert capsys.readouterr().out == said
    assert (out / "game" / "checkpoint.safetensors").read_bytes() == before
    assert run(monkeypatch, *command, "--seed", 1) == 2
    assert "was made with seed 0; this run has 1" in capsys.readouterr().err


@pytest.fixture
def few_figures(monkeypatch):
    """Without the discrepancies, whose kernels would be compiled first."""
    from implicit_infer.generators import folder

    monkeypatch.setattr(folder, "metrics", lambda learned, *_: {"diversity": (learned.figures["diversity"], 1.0)})


@pytest.mark.usefixtures("few_figures")
def test_columns_can_be_conditions(monkeypatch, capsys, tmp_path, table):
    out = tmp_path / "out"
    assert run(monkeypatch, "learn", table, "--out", out, "--condition", "c", "--draws", 20, *QUICK) == 0
    assert (out / "samples.csv").read_text().startswith("a,b\n")
    assert ii.load_learned(out / "learned.safetensors").condition_width == 1


@pytest.mark.usefixtures("few_figures")
def test_a_flow_is_learned_by_likelihood(monkeypatch, capsys, tmp_path, table):
    assert run(monkeypatch, "learn", table, "--out", tmp_path / "out", "--comparison", "mle", *QUICK) == 0
    assert capsys.readouterr().out.startswith("FlowGenerator by mle, 4 steps\n")


def test_npz_files_hold_data_and_conditions(tmp_path):
    images, labels = np.zeros((4, 1, 8, 8)), np.arange(4)
    np.savez(tmp_path / "both.npz", data=images, condition=labels)
    np.savez(tmp_path / "one.npz", images)
    np.savez(tmp_path / "other.npz", a=images, b=labels)
    samples, given, names = read_samples(tmp_path / "both.npz", None)
    assert (samples.shape, given.tolist(), names) == (images.shape, [0, 1, 2, 3], [])
    assert read_samples(tmp_path / "one.npz", None)[1] is None
    with pytest.raises(ValueError, match=r"other\.npz: expected one array, or data and condition; got a, b"):
        read_samples(tmp_path / "other.npz", None)
    np.savez(tmp_path / "objects.npz", np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"objects\.npz: expected numbers only"):
        read_samples(tmp_path / "objects.npz", None)
    with pytest.raises(FileNotFoundError):
        read_samples(tmp_path / "none.npz", None)


MISTAKES = {
    "comparison": (["--comparison", "wgan"], "comparison: expected one of gan"),
    "condition": (["--condition", "d"], "condition: data.csv has the columns a, b, c; got 'd'"),
    "bins": (["--bin-width", "1"], "bin_width: expected the comparison mle; got 'gan-r1'"),
    "draws": (["--draws", "0"], "draws: expected"),
    "precision": (["--precision", "half"], "precision: expected 'float32' or 'bfloat16'; got 'half'"),
    "out": (["--out", "{table}"], "out: expected a folder"),
    "compare": (["--compare", "mle,nothing"], "comparison: expected one of gan"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_answered_with_one_sentence(monkeypatch, capsys, tmp_path, table, arguments, message):
    monkeypatch.chdir(tmp_path)
    arguments = [argument.format(table=table) for argument in arguments]
    assert run(monkeypatch, "learn", "data.csv", "--out", "out", *arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("few_figures")
def test_interrupted_is_said_by_the_exit_code(monkeypatch, capsys, tmp_path, table):
    from implicit_infer.games import Play

    step = Play._step

    def stops(self):
        if self.step == 2:
            raise KeyboardInterrupt
        step(self)

    monkeypatch.setattr(Play, "_step", stops)
    command = ["learn", table, "--out", tmp_path / "out", *QUICK]
    assert run(monkeypatch, *command) == 130
    assert "note: stopped: after 2 of 4 steps; the same call does the rest" in capsys.readouterr().err
    monkeypatch.setattr(Play, "_step", step)
    assert run(monkeypatch, *command) == 0


def test_lists(monkeypatch, capsys):
    for what, name in (("games", "alternating"), ("generators", "mlp"), ("comparisons", "wgan-gp")):
        assert run(monkeypatch, "list", what) == 0
        assert f"{name} " in capsys.readouterr().out


def test_compare_asks_for_all_learners_at_once(monkeypatch, capsys, tmp_path, table):
    from implicit_infer.generators import learners

    asked = {}

    def compare(generator, data, names, seeds, **settings):
        asked.update(generator=generator, shape=data.shape, names=names, seeds=seeds, **settings)
        rows = [{"learner": name, "seed": 0, **dict.fromkeys(learners.SCORES, 1.5)} for name in names]
        return learners.LearnerComparison(rows, {"uniform": 8.0}, torch.zeros(2, 3))

    monkeypatch.setattr(learners, "compare_learners", compare)
    command = ["learn", table, "--compare", "mle, js", "--repeats", 2, "--seed", 3, "--out", tmp_path / "out", *QUICK]
    assert run(monkeypatch, *command) == 0
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines() if "1.5" in line] == ["mle", "js"]
    assert "a uniform law: 8" in said
    assert (asked["generator"], asked["names"], asked["seeds"]) == ("flow", ["mle", "js"], [3, 4])
    assert (asked["training"].steps, asked["batch_size"], asked["out"]) == (4, 16, tmp_path / "out")
