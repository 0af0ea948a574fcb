"""A comparison does what is missing and no more, whatever happened before, and its table is the same in the end."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import cloudpickle
import pandas as pd
import pytest
import torch

import implicit_infer as ii
from implicit_infer.compare import score as scoring
from implicit_infer.compare.comparison import Comparison
from implicit_infer.compare.folder import Folder
from implicit_infer.diagnose.c2st import C2ST
from implicit_infer.posteriors.base import Posterior
from implicit_infer.posteriors.method import Method
from implicit_infer.progress import track
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear

# workers cannot import a test module: what it defines travels by value
cloudpickle.register_pickle_by_value(sys.modules[__name__])

SIMULATOR = GaussianLinear(2)
OBSERVED = torch.tensor([0.2, -0.1])
TIMES = ["wall_s", "cpu_s"]


class ExactPosterior(Posterior):
    def _sample(self, n, x, stream, progress):
        with stream.forked():
            return torch.stack([self.simulator.posterior(row).sample((n,)) for row in x], dim=1)


@dataclass(frozen=True)
class Exact(Method):
    """Samples the exact posterior, after asking for its simulations like any other method."""

    name = "exact"
    shift: float = 0.0
    seconds: float = 0.0
    calls: str = ""
    uses_bank: bool = True

    def infer(self, question):
        if self.calls:
            with open(self.calls, "a") as file:  # one short line is appended atomically
                file.write(f"{question.budget} {question.seed}\n")
        spent = len(question.runs()) if self.uses_bank else question.budget
        with track("training exact", total=10, show=question.progress) as bar:
            for step in range(10):
                time.sleep(self.seconds / 10)
                bar.update(1, loss=1 / (step + 1))
        observed = question.observed + self.shift
        return ExactPosterior(
            question.simulator,
            observed,
            method=self.name,
            simulations=spent,
            figures={"loss": 0.1, "nan": float("nan")},
        )


@dataclass(frozen=True)
class Raises(Method):
    """Fails, unless the file is there that mends it."""

    name = "raises"
    mended_by: str = ""

    def infer(self, question):
        if self.mended_by and os.path.exists(self.mended_by):
            return Exact().infer(question)
        print("said before it failed")
        raise ValueError("this method never works\nand says so in two lines")


@dataclass(frozen=True)
class Dies(Method):
    """Takes its whole process with it, as a crash in native code does."""

    name = "dies"

    def infer(self, question):
        os._exit(7)


def compare(out, methods=None, **changes):
    settings = {"budgets": [20], "repeats": 1, "draws": 40, "predictive": 20, "reference": None, "progress": False}
    observed = changes.pop("observed", OBSERVED)
    simulator = changes.pop("simulator", SIMULATOR)
    return ii.compare(
        simulator, observed, {"exact": Exact()} if methods is None else methods, out=out, **{**settings, **changes}
    )


def test_a_row_for_every_method_budget_and_repeat(tmp_path):
    methods = {"exact": Exact(), "off": Exact(shift=1.0)}
    table = compare(tmp_path / "out", methods, budgets=[30, 20], repeats=2).table
    asked = {(m, b, r) for m in methods for b in (20, 30) for r in (0, 1)}
    assert set(zip(table.method, table.budget, table.repeat, strict=True)) == asked
    assert (table.status == "finished").all()
    assert (table.simulations == table.budget).all()
    assert (table.wall_s > 0).all()
    assert (table.distinct == 40).all()
    assert table.c2st.isna().all()
    assert table.error.isna().all()


def test_one_bank_per_repeat_is_shared_and_charged_to_its_users(tmp_path):
    methods = {"exact": Exact(), "own": Exact(uses_bank=False)}
    result = compare(tmp_path / "out", methods, budgets=[10, 40], repeats=2)
    folder = Folder(tmp_path / "out")
    assert sorted(path.name for path in folder.root.glob("bank-*.zarr")) == ["bank-0.zarr", "bank-1.zarr"]
    for run, about in result.results.items():
        made = json.loads((folder.root / f"bank-{run.repeat}.json").read_text())
        assert made["n"] == 40
        share = made["seconds"] * run.budget / 40 if run.label == "exact" else 0.0
        assert about["seconds"]["simulation"] == pytest.approx(share)


def test_repeats_differ_and_the_same_seed_repeats_them(tmp_path):
    first, again = (compare(tmp_path / name, repeats=2) for name in ("a", "b"))
    assert torch.equal(first.draws("exact", repeat=1), again.draws("exact", repeat=1))
    assert torch.equal(first.predictive("exact"), again.predictive("exact"))
    assert not torch.equal(first.draws("exact", repeat=0), first.draws("exact", repeat=1))
    other = compare(tmp_path / "c", seed=1)
    assert not torch.equal(first.draws("exact"), other.draws("exact"))


def test_workers_change_nothing_but_times_and_may_die(tmp_path):
    methods = {"exact": Exact(), "raises": Raises()}
    here = compare(tmp_path / "here", methods)
    there = compare(tmp_path / "there", {"dies": Dies(), **methods}, workers=2)
    died, *_ = there.table.itertuples()
    assert died.status == "failed"
    assert died.error.startswith("RuntimeError: the worker process died")
    assert {about["threads"] for run, about in there.results.items() if run.label != "dies"} == {1}
    assert torch.equal(here.draws("exact"), there.draws("exact"))
    apart = there.table[there.table.method != "dies"].reset_index(drop=True)
    pd.testing.assert_frame_equal(here.table.drop(columns=TIMES), apart.drop(columns=TIMES))


def test_a_failure_is_a_row_and_the_others_go_on(tmp_path):
    result = compare(tmp_path / "out", {"raises": Raises(), "exact": Exact()})
    failed, finished = result.table.itertuples()
    assert failed.status == "failed"
    assert failed.error == "ValueError: this method never works"
    assert math.isnan(failed.simulations)
    assert finished.status == "finished"
    run = tmp_path / "out" / "runs" / "raises-20-0"
    assert "and says so in two lines" in (run / "traceback.txt").read_text()
    assert (run / "output.txt").read_text() == "said before it failed\n"
    assert not (run / "draws.zarr").exists()


def test_a_failed_run_is_tried_again_and_a_finished_one_is_not(tmp_path):
    calls, mended = tmp_path / "calls", tmp_path / "mended"
    methods = {"exact": Exact(calls=str(calls)), "raises": Raises(mended_by=str(mended))}
    compare(tmp_path / "out", methods)
    mended.touch()
    result = compare(tmp_path / "out", methods)
    assert list(result.table.status) == ["finished", "finished"]
    assert len(calls.read_text().splitlines()) == 1
    assert not (tmp_path / "out" / "runs" / "raises-20-0" / "traceback.txt").exists()


def test_methods_budgets_and_repeats_can_be_added_later(tmp_path):
    calls = tmp_path / "calls"
    exact = Exact(calls=str(calls))
    early = compare(tmp_path / "out", {"exact": exact})
    result = compare(tmp_path / "out", {"exact": exact, "off": Exact(shift=1.0)}, budgets=[20, 30], repeats=2)
    assert len(result.table) == 8
    assert len(calls.read_text().splitlines()) == 4
    assert torch.equal(early.draws("exact", 20), result.draws("exact", 20))
    assert len(compare(tmp_path / "out", {"exact": exact}).table) == 1
    assert len(Comparison(tmp_path / "out").table) == 8


def test_a_method_that_spends_too_much_is_told_on(tmp_path):
    class Spends(Exact):
        def infer(self, question):
            posterior = super().infer(question)
            posterior.simulations += 1
            return posterior

    (about,) = compare(tmp_path / "out", {"spends": Spends()}).results.values()
    assert about["warnings"] == ["spent 21 simulations, more than its budget of 20"]


@pytest.mark.parametrize(
    ("theta", "message"),
    [(torch.full((40, 2), math.nan), "40 of 40 posterior draws are not finite"), (torch.zeros(40, 3), "of shape")],
)
def test_draws_that_cannot_be_right_are_a_failure(tmp_path, theta, message):
    class Wrong(Exact):
        def infer(self, question):
            posterior = super().infer(question)
            posterior.sample = lambda shape, seed: theta
            return posterior

    result = compare(tmp_path / "out", {"wrong": Wrong()})
    assert list(result.table.status) == ["failed"]
    assert message in result.table.error[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"observed": torch.zeros(2)}, "belongs to another question: observed"),
        ({"draws": 50}, "draws was 40 and is now 50"),
        ({"simulator": GaussianLinear(2, noise_variance=0.2)}, "belongs to another question: settings"),
        ({"methods": {"exact": Exact(shift=0.5)}}, "the settings of 'exact' was"),
        ({"methods": {"exact": Raises()}}, 'the method of \'exact\' was "exact" and is now "raises"'),
    ],
)
def test_a_folder_of_another_question_is_refused(tmp_path, change, message):
    compare(tmp_path / "out")
    before = snapshot(tmp_path / "out")
    with pytest.raises(ValueError, match=message):
        compare(tmp_path / "out", **change)
    assert snapshot(tmp_path / "out") == before


def test_another_prior_is_another_question(tmp_path):
    other = GaussianLinear(2)
    other.prior = torch.distributions.Independent(torch.distributions.Normal(torch.ones(2), 1.0), 1)
    compare(tmp_path / "out")
    with pytest.raises(ValueError, match="belongs to another question: prior"):
        compare(tmp_path / "out", simulator=other)


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds no comparison but other files \(thesis.tex\)"):
        compare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(ValueError, match="is a file"):
        compare(tmp_path / "thesis.tex")


BAD = {
    "unknown method": ({"methods": ["exactt"]}, ValueError, "method: expected one of"),
    "same method twice": ({"methods": [Exact(), Exact(shift=1)]}, ValueError, "methods: 'exact' is there twice"),
    "no methods": ({"methods": []}, ValueError, "methods: expected at least one"),
    "methods of another kind": ({"methods": 3}, TypeError, "methods: expected a list"),
    "label": ({"methods": {"../evil": Exact()}}, ValueError, "methods: a label is letters"),
    "reserved label": ({"methods": {"reference": Exact()}}, ValueError, "methods: a label"),
    "repeats": ({"repeats": 0}, ValueError, "repeats: expected an int of at least 1"),
    "workers": ({"workers": 0}, ValueError, "workers: expected an int of at least 1"),
    "budget": ({"budgets": [10, 0]}, ValueError, "budgets: expected an int of at least 1"),
    "same budget twice": ({"budgets": [10, 10]}, ValueError, "budgets: expected each once"),
    "no budgets": ({"budgets": []}, ValueError, "budgets: expected at least one"),
    "seed": ({"seed": None}, TypeError, "seed: expected an int, so that"),
    "device": ({"device": "abacus"}, ValueError, "device: 'abacus'"),
    "observed": ({"observed": torch.zeros(3)}, ValueError, "observed: "),
    "reference word": ({"reference": "nuts"}, ValueError, "reference: expected 'auto', None or draws"),
    "reference shape": ({"reference": torch.zeros(50, 3)}, ValueError, r"reference: .*got \(50, 3\)"),
    "reference nan": ({"reference": torch.full((50, 2), math.nan)}, ValueError, "reference: expected finite"),
    "draws": ({"draws": 3}, ValueError, "draws: expected an int of at least 10"),
}


@pytest.mark.parametrize(("change", "error", "message"), BAD.values(), ids=BAD)
def test_a_bad_question_is_refused_before_anything_runs(tmp_path, change, error, message):
    with pytest.raises(error, match=message) as refused:
        compare(tmp_path / "out", **{"methods": {"exact": Exact()}, **change})
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_second_process_is_kept_out(tmp_path):
    out = tmp_path / "out"
    compare(out)
    with (
        Folder(out).claimed(Folder(out).question()),
        pytest.raises(RuntimeError, match="another comparison is at work"),
    ):
        compare(out)


@pytest.mark.slow
def test_draws_are_scored_against_the_exact_posterior(tmp_path):
    # 2 x 200 held-out draws: a fair classifier has standard error 0.025, so the exact posterior lies within 4 of them
    # of 1/2; a shift of the mean by 2.2 posterior standard deviations in each of two dimensions (the data's shift of 1
    # moves it by 1/2, and the deviation is sqrt(0.05)) gives an optimal accuracy of Phi(sqrt(2) * 2.2 / 2) = 0.94.
    methods = {"exact": Exact(), "off": Exact(shift=1.0)}
    exact, off = compare(tmp_path / "out", methods, reference="auto", draws=200).table.itertuples()
    assert exact.c2st == pytest.approx(0.5, abs=4 * 0.025)
    assert off.c2st > 0.94 - 4 * 0.025
    assert 0 < exact.c2st_se < 0.03


def nearest_mean(reference, draws, *, seed):
    """A two-sample test that costs nothing: the accuracy of the rule that asks which mean is nearer."""
    centres = torch.stack([reference.mean(0), draws.mean(0)])
    right = [torch.cdist(rows, centres).argmin(1) == label for label, rows in enumerate((reference, draws))]
    score = torch.cat(right).float().mean().item()
    return C2ST(score, 0.01, (len(reference), len(draws)), len(draws))


def test_runs_are_scored_once_and_again_when_the_reference_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "c2st", nearest_mean)
    methods = {"exact": Exact(), "off": Exact(shift=1.0)}
    result = compare(tmp_path / "out", methods, reference="auto")
    assert result.table.c2st[0] < 0.75 < result.table.c2st[1]
    # a shift by s standard deviations moves a marginal by s; n = 40 draws add about 1.8 / sqrt(40) of noise
    assert result.table.wasserstein[1] == pytest.approx(0.5 / 0.05**0.5, abs=3 * 1.8 / 40**0.5)
    assert result.table.wasserstein[0] < 2 * 1.8 / 40**0.5
    assert result.reference["method"] == "exact"
    scores = tmp_path / "out" / "runs" / "off-20-0" / "scores.json"
    before = scores.stat().st_mtime_ns
    compare(tmp_path / "out", methods, reference="auto")
    assert scores.stat().st_mtime_ns == before
    shifted = GaussianLinear(2).posterior(OBSERVED + 1.0).sample((200,))
    turned = compare(tmp_path / "out", methods, reference=shifted).table
    assert turned.c2st[1] < 0.75 < turned.c2st[0]


def test_a_score_that_cannot_be_computed_is_an_error_beside_the_run(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no classifier today")

    with monkeypatch.context() as patch:
        patch.setattr(scoring, "c2st", broken)
        (row,) = compare(tmp_path / "out", reference="auto").table.itertuples()
    assert row.status == "finished"
    assert row.error == "scoring: RuntimeError: no classifier today"
    assert math.isnan(row.c2st)
    monkeypatch.setattr(scoring, "c2st", nearest_mean)
    (row,) = compare(tmp_path / "out", reference="auto").table.itertuples()
    assert row.error is None
    assert row.c2st < 0.75


def test_without_an_exact_posterior_there_is_no_distance(tmp_path):
    class Unknown(GaussianLinear):
        posterior = None
        log_likelihood = None

        def __getattribute__(self, name):
            if name in ("posterior", "log_likelihood"):
                raise AttributeError(name)
            return super().__getattribute__(name)

    class Prior(Exact):
        def infer(self, question):
            posterior = super().infer(question)
            posterior.sample = lambda shape, seed: question.simulator.sample_prior(*shape, seed=seed)
            return posterior

    result = compare(tmp_path / "out", {"prior": Prior()}, simulator=Unknown(2), reference="auto")
    assert result.reference["status"] == "absent"
    assert result.table.c2st.isna().all()
    assert result.table.p_value.notna().all()


def test_the_summary_takes_median_and_extremes_over_repeats(tmp_path):
    result = compare(tmp_path / "out", {"exact": Exact(), "raises": Raises()}, repeats=3)
    summary = result.summary().set_index("method")
    walls = result.table[result.table.method == "exact"].wall_s
    assert summary.wall_s["exact"] == walls.median()
    assert summary.wall_s_low["exact"] == walls.min()
    assert summary.wall_s_high["exact"] == walls.max()
    assert dict(summary.failed) == {"exact": 0, "raises": 3}


def test_draws_are_files_that_xarray_reads(tmp_path):
    xarray = pytest.importorskip("xarray")
    result = compare(tmp_path / "out")
    path = tmp_path / "out" / "runs" / "exact-20-0" / "draws.zarr"
    tree = xarray.open_datatree(path, engine="zarr", consolidated=False)
    assert tree["posterior/theta"].dims == ("chain", "draw", "parameter")
    assert list(tree["posterior/parameter"].values) == ["theta_1", "theta_2"]
    assert tree["posterior_predictive/x"].shape == (1, 20, 2)
    assert torch.equal(torch.from_numpy(tree["posterior/theta"].values[0]), result.draws("exact"))
    assert torch.equal(result.observed(), OBSERVED)
    with pytest.raises(ValueError, match="method: expected one of exact; got 'nre'"):
        result.draws("nre")
    with pytest.raises(ValueError, match="no finished run exact-20-5"):
        result.draws("exact", repeat=5)


def test_opening_what_is_no_comparison_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no comparison"):
        Comparison(tmp_path)


def test_a_result_says_what_was_run(tmp_path):
    (about,) = compare(tmp_path / "out").results.values()
    assert about["settings"] == {"shift": 0.0, "seconds": 0.0, "calls": "", "uses_bank": True}
    assert about["versions"]["torch"] == version("torch")
    assert about["seed"] == 0
    assert about["figures"] == {"loss": 0.1, "nan": None}
    # a reader of strict JSON must be able to read it
    text = (tmp_path / "out" / "runs" / "exact-20-0" / "result.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_killed_and_started_again_nothing_is_repeated_and_nothing_lost(tmp_path, workers):
    out, calls = tmp_path / "out", tmp_path / "calls"
    calls.touch()

    def begun():
        return len(calls.read_text().splitlines())

    with started(out, workers, calls) as process:
        wait_until(lambda: len(finished(out)) >= 2 and begun() > len(finished(out)))
        process.kill()  # SIGKILL to the parent alone, as a user's `kill -9` or the system's memory guard does
    at_once = {name: stamps(out / "runs" / name) for name in finished(out)}
    time.sleep(1.5)  # orphaned workers have ended by themselves by then
    early = {name: stamps(out / "runs" / name) for name in finished(out)}
    assert early.items() >= at_once.items()
    assert len(early) - len(at_once) <= workers  # what was just being written as its parent died may be kept, whole
    assert 2 <= len(early) < 8
    cut_short = begun() - len(early)
    assert 0 <= cut_short <= workers

    resumed = compare(out, **question(calls), workers=workers)
    assert {name: stamps(out / "runs" / name) for name in early} == early
    assert begun() == 8 + cut_short  # each run once, and those that were cut short once more
    whole = compare(tmp_path / "whole", **question(calls))
    pd.testing.assert_frame_equal(resumed.table.drop(columns=TIMES), whole.table.drop(columns=TIMES))
    assert len(resumed.table) == 8
    assert (resumed.table.status == "finished").all()
    assert not (out / "drafts").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_ctrl_c_ends_workers_and_keeps_what_is_finished(tmp_path):
    out, calls = tmp_path / "out", tmp_path / "calls"
    calls.touch()
    with started(out, 2, calls) as process:
        wait_until(lambda: len(finished(out)) >= 2)
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
        _, said = process.communicate(timeout=180)
    kept = len(finished(out))
    assert process.returncode != 0
    assert f"stopped: {kept} of 8 runs are kept in {out}; the same call does the rest" in said
    assert 2 <= kept < 8


def test_ctrl_c_here_keeps_what_is_finished_and_says_how_to_go_on(tmp_path, capsys):
    class Interrupted(Exact):
        def infer(self, question):
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        compare(out, {"exact": Exact(), "never": Interrupted()}, progress=True)
    assert f"stopped: 1 of 2 runs are kept in {out}; the same call does the rest" in capsys.readouterr().err
    assert finished(out) == ["exact-20-0"]
    assert list(compare(out, {"exact": Exact(), "never": Exact()}).table.status) == ["finished"] * 2


def test_what_cannot_be_sent_to_a_worker_is_refused(tmp_path):
    simulator = GaussianLinear(2)
    simulator.lock = threading.Lock()
    with pytest.raises(TypeError, match="cannot be sent to another process; use workers=1"):
        compare(tmp_path / "out", simulator=simulator, workers=2)
    assert not (tmp_path / "out").exists()


def finished(out: Path) -> list[str]:
    return [path.parent.name for path in sorted(out.glob("runs/*/result.json"))]


def stamps(run: Path) -> dict[str, int]:
    return {
        str(path.relative_to(run)): path.stat().st_mtime_ns for path in run.rglob("*") if path.name != "scores.json"
    }


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def wait_until(true, seconds=180.0):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def question(calls):
    """Eight runs that each leave a line in ``calls``."""
    methods = {"exact": Exact(calls=str(calls), seconds=0.3), "off": Exact(0.5, 0.3, str(calls))}
    return {"methods": methods, "budgets": [20, 30], "repeats": 2}


def started(out, workers, calls):
    """A process of its own that compares until it is stopped."""
    command = [sys.executable, __file__, str(out), str(workers), str(calls)]
    return subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)


if __name__ == "__main__":
    compare(sys.argv[1], **question(sys.argv[3]), workers=int(sys.argv[2]), progress=True)
