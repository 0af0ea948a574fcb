"""What is shown while a comparison runs: lines in a log, bars on a terminal, nothing when nothing is wanted."""

import io
import re

import pytest
import torch

from implicit_infer.compare.plan import Job, Plan, Run
from implicit_infer.compare.watch import Lines, Live, Watch, watching
from implicit_infer.posteriors.method import Method
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear


class Silent(Method):
    name = "silent"


def plan(**changes):
    settings = {"budgets": [1000], "repeats": 1, "seed": 0, "device": "cpu", "reference": "auto", "draws": 10}
    methods = {"nre": Silent(), "npe": Silent()}
    return Plan.checked(GaussianLinear(2), torch.zeros(2), methods=methods, predictive=0, **{**settings, **changes})


STATE = {"name": "training nre", "total": 200, "done": 61, "figures": {"loss": 0.25}}
JOBS = [Job(None), Job(Run("nre", 1000, 0)), Job(Run("npe", 1000, 0))]
_, NRE, NPE = JOBS


def tell(watch):
    """A whole comparison: one run fails, one job is scored."""
    with watch:
        watch.banking({"name": "simulating", "total": 1000, "done": 500, "figures": {}})
        watch.banked(0, 1000, 1.5)
        watch.expect(JOBS)
        for job in JOBS:
            watch.started(job)
            watch.told(job, {})
            watch.told(job, STATE)
            failed = job == NPE
            watch.ended(job, "failed" if failed else "finished", "ValueError: [odd] {thing}" if failed else None)
        scores = Job(NRE.run, scores=True)
        watch.expect([scores])
        watch.started(scores)
        watch.ended(scores, "finished", None)


def test_lines_say_starts_progress_and_ends():
    stream = io.StringIO()
    tell(Lines(plan(), stream, every=0.0))
    said = re.sub(r"\d+(\.\d+)?(e-\d+)? s\)", "T)", stream.getvalue())
    said = re.sub(r"at work for \S+ s", "at work", said)
    assert said.splitlines() == [
        "[0:00] prior simulations: simulating 500/1,000",
        "[0:00] prior simulations: 1,000 made in 1.5 s",
        "[0:00] reference posterior: started",
        "[0:00] reference posterior: at work",
        "[0:00] reference posterior: training nre 61/200  loss 0.25",
        "[0:00] reference posterior: done (T)",
        "[0:00] nre, 1,000 simulations: started",
        "[0:00] nre, 1,000 simulations: at work",
        "[0:00] nre, 1,000 simulations: training nre 61/200  loss 0.25",
        "[0:00] nre, 1,000 simulations: done (T)",
        "[0:00] npe, 1,000 simulations: started",
        "[0:00] npe, 1,000 simulations: at work",
        "[0:00] npe, 1,000 simulations: training nre 61/200  loss 0.25",
        "[0:00] npe, 1,000 simulations: failed: ValueError: [odd] {thing} (T)",
        "[0:00] scoring nre, 1,000 simulations: started",
        "[0:00] scoring nre, 1,000 simulations: done (T)",
        "[0:00] 3 of 3 runs done, 1 scored",
    ]


def test_lines_about_progress_are_rare():
    stream = io.StringIO()
    tell(Lines(plan(), stream, every=3600.0))
    assert "training" not in stream.getvalue()
    assert "started" in stream.getvalue()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_bars_end_with_a_row_for_each_method(monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    tell(Live(plan(budgets=[1000, 2000], repeats=2), stream))
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue()).replace("\r", "\n").splitlines()[-5:]
    assert [line.partition("  ")[0].partition(" ━")[0] for line in last] == [
        *("prior simulations", "reference", "nre", "npe", "total")
    ]
    text = "\n".join(last)
    assert "failed: ValueError: [odd] {thing}" in text
    assert "1,000 made" in text
    assert "3 of 3 runs done, 1 scored" in text


def test_the_bar_of_a_method_follows_its_work(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    watch = Live(plan(budgets=[1000, 2000], repeats=2), Terminal())
    watch.expect([NRE, NPE])
    watch.started(NRE)
    watch.told(NRE, STATE)
    row = watch.bars.tasks[watch.rows["nre"]]
    assert (row.completed, row.total) == (61, 200)
    assert row.fields["text"] == "training nre 61/200  loss 0.25  (1,000 simulations, repeat 1 of 2)"
    assert watch.bars.tasks[watch.rows["npe"]].fields["text"] == "waiting"
    assert watch.bars.tasks[watch.rows["reference"]].fields["text"] == "done before"
    watch.ended(NRE, "finished", None)
    assert row.fields["since"] is None
    assert row.fields["spent"] > 0
    assert row.fields["text"] == "done"


@pytest.mark.parametrize(("show", "terminal", "kind"), [(False, True, Watch), (True, True, Live), (True, False, Lines)])
def test_the_stream_decides(monkeypatch, show, terminal, kind):
    monkeypatch.setattr("sys.stderr", Terminal() if terminal else io.StringIO())
    assert type(watching(plan(), show)) is kind
