"""The command line, as a user meets it: quick help, one sentence for a mistake, tables, files and exit codes."""

import csv
import json
import re
import resource
import subprocess
import sys

import numpy as np
import pytest
import torch

from implicit_infer import cli
from implicit_infer.draws import read_draws
from implicit_infer.stored import open_runs
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear


def run(monkeypatch, *arguments):
    """Run a command in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["implicit-infer", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code


@pytest.fixture
def observed(tmp_path):
    path = tmp_path / "observed.json"
    path.write_text(json.dumps([0.1, -0.2]))
    return path


def test_help_is_quick():
    def seconds(*arguments):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ran = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, ran.stdout

    bare, _ = seconds("-c", "pass")
    helped, said = seconds("-m", "implicit_infer.cli", "--help")
    assert helped - bare < 0.5
    assert {"simulate", "ratio", "infer", "compare", "list"} <= set(said.split())


def test_help_imports_nothing_heavy():
    code = (
        "import sys, implicit_infer.cli as cli\n"
        "try: cli.app(['compare', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'rich.console', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


MISTAKES = {
    "simulator": (["infer", "lotka-voltera", "-x", "a"], "did you mean 'lotka-volterra'?"),
    "observation": (["infer", "lotka-volterra", "-x", "hudson"], "an observation of lotka-volterra (hudson-bay)"),
    "method": (["infer", "gaussian-linear", "-x", "{x}", "--method", "nrf"], "method: expected one of"),
    "shape": (["infer", "gaussian-linear", "-x", "{x}"], "observed: gaussian-linear expects shape (10,); got (2,)"),
    "budget": (["infer", "gaussian-linear", "-x", "{x}", "--set", "dim=2", "--budget", "0"], "budget: expected"),
    "draws": (["infer", "gaussian-linear", "-x", "{x}", "--set", "dim=2", "--draws", "0"], "draws: expected"),
    "out": (["infer", "gaussian-linear", "-x", "{x}", "--set", "dim=2", "--out", "a.txt"], "out: expected a file"),
    "setting": (
        ["infer", "gaussian-linear", "-x", "{x}", "--set", "dims=2"],
        "set: gaussian-linear has the settings dim",
    ),
    "no value": (["infer", "gaussian-linear", "-x", "{x}", "--set", "dim"], "set: expected KEY=VALUE; got 'dim'"),
    "bad value": (["infer", "gaussian-linear", "-x", "{x}", "--set", "dim=0"], "dim: expected a positive int"),
    "budgets": (
        ["compare", "gaussian-linear", "-x", "{x}", "--methods", "nre", "--out", "o", "--budgets", "10,many"],
        "budgets: expected whole numbers with commas between; got 'many'",
    ),
    "twice": (
        ["compare", "gaussian-linear", "-x", "{x}", "--methods", "nre,nre", "--out", "o"],
        "'nre' is there twice",
    ),
    "file": (["ratio", "{x}", "none.csv"], "none.csv: there is no such file"),
    "divergence": (["ratio", "{x}", "{x}", "--divergence", "k"], "divergence: expected one of kl"),
    "plot": (["ratio", "{x}", "{x}", "--plot", "a.txt"], "plot: expected a file with suffix .png, .pdf, .svg"),
    "save": (["ratio", "{x}", "{x}", "--save", "no/a.safetensors"], "save: the folder no does not exist"),
    "ratio setting": (
        ["ratio", "{x}", "{x}", "--method", "logistic", "--set", "widths=3"],
        "settings: logistic has hidden, loss",
    ),
    "list": (["list", "method"], "list: expected one of methods, fit-methods, simulators"),
    "n": (["simulate", "gaussian-linear", "--n", "0"], "n: expected"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_answered_with_one_sentence(monkeypatch, capsys, tmp_path, observed, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *(argument.format(x=observed) for argument in arguments)) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("implicit-infer: ")
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["observed.json"]


def test_the_traceback_is_there_for_those_who_ask(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["implicit-infer", "list", "method", "--traceback"])
    with pytest.raises(ValueError, match="list: expected one of"):
        cli.main()


def test_an_unknown_option_is_refused(monkeypatch, capsys):
    assert run(monkeypatch, "list", "--many") == 2
    assert "No such option" in capsys.readouterr().err


def test_version(monkeypatch, capsys):
    from importlib.metadata import version

    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.strip() == version("implicit-infer")


def test_lists(monkeypatch, capsys):
    assert run(monkeypatch, "list") == 0
    every = capsys.readouterr().out
    for name in ("rejection-abc", "gatsbi", "lotka-volterra", "hudson-bay", "logistic", "kl"):
        assert f"\n  {name} " in every
    assert ":math:" not in every
    assert run(monkeypatch, "list", "observations") == 0
    assert "hudson-bay           for lotka-volterra\n" in capsys.readouterr().out


def test_simulate_writes_a_store_and_resumes_it(monkeypatch, capsys, tmp_path):
    store = tmp_path / "runs.zarr"
    command = ["simulate", "gaussian-linear", "--set", "dim=2", "--n", 20, "--out", store, "--seed", 3, "-q"]
    assert run(monkeypatch, *command) == 0
    assert capsys.readouterr().out == f"20 simulations in {store}\n"
    before = {path: path.stat().st_mtime_ns for path in store.rglob("c/*")}
    assert run(monkeypatch, *command) == 0
    assert {path: path.stat().st_mtime_ns for path in store.rglob("c/*")} == before
    assert run(monkeypatch, *command[:-3], "--seed", 4, "-q") == 2


class Fragile(GaussianLinear):
    def _simulate(self, theta, stream):
        x = super()._simulate(theta, stream)
        x[theta[:, 0] > 0.5] = float("nan")
        if (theta[:, 0] < -0.5).any():
            raise ArithmeticError("diverged")
        return x


def test_simulate_tells_why_simulations_failed(monkeypatch, capsys, caplog, tmp_path):
    monkeypatch.setattr(cli, "_simulator", lambda name, settings: Fragile(dim=2))
    command = ["simulate", "fragile", "--n", 100, "--out", tmp_path / "runs.zarr", "-q"]
    assert run(monkeypatch, *command) == 0
    said = capsys.readouterr().out.splitlines()
    failures = open_runs(tmp_path / "runs.zarr").failures
    assert len(said) == 5
    assert said[0].endswith(f", of which {len(failures)} failed")
    assert sorted(line.split(maxsplit=1)[1] for line in said[1::2]) == [
        "ArithmeticError: diverged",
        "returned NaN or infinity",
    ]
    assert sum(int(line.split()[0]) for line in said[1::2]) == len(failures)
    assert re.fullmatch(r" +such as simulation \d+ with theta_1=\S+, theta_2=\S+", said[2])
    assert caplog.text == ""
    assert run(monkeypatch, *command, "--timeout", 0) == 2
    assert "timeout: expected a positive number of seconds; got 0.0" in capsys.readouterr().err


def test_infer_prints_a_summary_and_writes_draws(monkeypatch, capsys, tmp_path, observed):
    for name in ("draws.csv", "draws.zarr"):
        out = tmp_path / name
        command = ["infer", "gaussian-linear", "--set", "dim=2", "-x", observed, "--method", "rejection-abc"]
        assert run(monkeypatch, *command, "--budget", 1000, "--draws", 50, "--out", out, "-q") == 0
        said = capsys.readouterr().out
        assert "rejection-abc posterior of gaussian-linear, 1,000 simulations" in said
        assert f"50 draws in {out}" in said
    with open(tmp_path / "draws.csv") as file:
        header, *rows = csv.reader(file)
    assert header == ["theta_1", "theta_2"]
    draws = np.array(rows, dtype=np.float32)
    np.testing.assert_allclose(draws, read_draws(tmp_path / "draws.zarr"), rtol=1e-6)
    (line,) = [line for line in said.splitlines() if "theta_1" in line]
    printed = [float(number) for number in line.split()[1:]]
    wanted = [draws[:, 0].mean(), draws[:, 0].std(ddof=1), *np.quantile(draws[:, 0], [0.05, 0.95])]
    np.testing.assert_allclose(printed, wanted, rtol=1e-3)


def test_an_observation_file_with_named_columns_finds_its_own(tmp_path):
    from implicit_simulators import LotkaVolterra

    simulator = LotkaVolterra()
    hares = simulator.observation("hudson-bay").numpy()
    path = tmp_path / "pelts.csv"
    lines = [f"{year},{lynx},{hare}" for year, (hare, lynx) in enumerate(hares.tolist(), 1900)]
    path.write_text("\n".join(["year,lynx,hare", *lines]))
    found = cli._observation(simulator, str(path))
    np.testing.assert_allclose(found, hares, rtol=1e-6)
    assert cli._observation(simulator, "hudson-bay") == "hudson-bay"


def test_a_column_is_a_series(tmp_path):
    from implicit_simulators.benchmark.gaussian_linear import GaussianLinear

    path = tmp_path / "x.csv"
    path.write_text("x\n1\n2\n3\n")
    assert cli._observation(GaussianLinear(3), str(path)).tolist() == [1.0, 2.0, 3.0]


def test_ratio_prints_the_divergence_and_its_trust(monkeypatch, capsys, tmp_path):
    generator = torch.Generator().manual_seed(0)
    for name, shift in (("p", 0.0), ("q", 1.0)):
        np.savetxt(tmp_path / f"{name}.csv", (torch.randn(600, 1, generator=generator) + shift).numpy(), delimiter=",")
    assert run(monkeypatch, "ratio", tmp_path / "p.csv", tmp_path / "q.csv", "-q") == 0
    said = capsys.readouterr().out
    found, error = map(float, re.search(r"kl divergence of p from q: (\S+) ± (\S+) nats", said).groups())
    # KL(N(0, 1) || N(1, 1)) = 1/2, from held-out samples: within four of the standard errors it states
    assert abs(found - 0.5) < 4 * error < 1
    assert "verdict: " in said


def test_ratio_draws_and_saves(monkeypatch, capsys, tmp_path):
    generator = torch.Generator().manual_seed(0)
    for name, shift in (("p", 0.0), ("q", 1.0)):
        values = torch.randn(600, 2, generator=generator) + shift
        np.savetxt(tmp_path / f"{name}.csv", values.numpy(), delimiter=",", header="a,b", comments="")
    command = ["ratio", tmp_path / "p.csv", tmp_path / "q.csv", "-q", "--method", "logistic", "--divergence", "js"]
    settings = ["--set", "hidden=16,16", "--set", "loss=brier", "--set", "epochs=5"]
    files = ["--plot", tmp_path / "ratio.png", "--save", tmp_path / "ratio.safetensors"]
    assert run(monkeypatch, *command, *settings, *files) == 0
    said = capsys.readouterr().out
    assert said.startswith("js divergence of p from q: ")
    assert said.splitlines()[-2:] == [f"picture in {files[1]}", f"ratio in {files[3]}"]
    assert (tmp_path / "ratio.png").read_bytes().startswith(b"\x89PNG")
    import implicit_infer as ii

    loaded = ii.load_ratio(tmp_path / "ratio.safetensors")
    assert (loaded.hidden, loaded.loss, loaded.epochs) == ((16, 16), "brier", 5)
    (tmp_path / "q.csv").write_text((tmp_path / "q.csv").read_text().replace("a,b", "b,a"))
    assert run(monkeypatch, *command) == 2
    assert "q: expected the columns a, b of p; got b, a" in capsys.readouterr().err


def test_compare_ends_with_a_table_and_a_report(monkeypatch, capsys, tmp_path, observed):
    out = tmp_path / "out"
    command = ["compare", "gaussian-linear", "--set", "dim=2", "-x", observed, "--methods", "rejection-abc,smc-abc"]
    options = ["--budgets", 200, "--repeats", 1, "--draws", 50, "--predictive", 20, "--reference", "none", "--out", out]
    assert run(monkeypatch, *command, *options) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert [line.split()[0] for line in lines if "-abc" in line] == ["rejection-abc", "smc-abc"]
    assert lines[-1] == f"report: {out / 'report.html'}"
    assert (out / "report.html").stat().st_size > 10_000
    assert "rejection-abc, 200 simulations: done" in said.err
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/**/*")}
    assert run(monkeypatch, *command, *options) == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("runs/**/*")} == before
    # a second observation does not fit the folder
    observed.write_text("[0.5, 0.5]")
    assert run(monkeypatch, *command, *options) == 2
    assert "belongs to another question" in capsys.readouterr().err


def test_compare_tells_when_nothing_came_of_it(monkeypatch, capsys, tmp_path, observed):
    from implicit_infer.compare import plan
    from implicit_infer.posteriors.method import Method

    class Broken(Method):
        name = "broken"

        def infer(self, question):
            raise ValueError("it does not work")

    monkeypatch.setattr(plan, "resolve_method", lambda name: Broken())
    command = ["compare", "gaussian-linear", "--set", "dim=2", "-x", observed, "--methods", "broken"]
    assert run(monkeypatch, *command, "--reference", "none", "--repeats", 1, "--out", tmp_path / "out", "-q") == 1
    assert "failed: broken, 1,000 simulations: ValueError: it does not work" in capsys.readouterr().err


def test_ctrl_c_has_its_exit_code(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_simulator", interrupted)
    assert run(monkeypatch, "simulate", "gaussian-linear") in (130, 1)
