"""The benchmark of ratios: what it measures is right, nothing is measured twice, and the tables say what came out."""

from __future__ import annotations

import json
import math

import pytest
import torch

from implicit_estimators.problems import PROBLEMS

pytest.importorskip("benchmarks.ratios", reason="benchmarks are not installed with the package")

from benchmarks.ratios import sketches, tables
from benchmarks.ratios.__main__ import main
from benchmarks.ratios.measure import Cell, measure, score
from benchmarks.ratios.methods import CORE, LARGE, SUITES, methods
from benchmarks.ratios.run import cells, read

METHODS = methods()


def test_errors_are_those_of_the_log_ratio() -> None:
    problem = PROBLEMS["a"]
    assert score(problem.log_ratio, problem, 0)["rmse"] == 0
    shifted = score(lambda x: problem.log_ratio(x) + torch.tensor([0.3, -0.3]).repeat(len(x) // 2), problem, 0)
    assert [shifted[figure] for figure in ("mae_p", "mae_q", "rmse")] == pytest.approx([0.3] * 3)
    assert shifted["kl"] == pytest.approx(problem.kl, abs=5 * 1.4 / 100)  # five standard errors
    higher = score(lambda x: problem.log_ratio(x) + 1, problem, 0)
    assert higher["kl"] - shifted["kl"] == pytest.approx(1)
    with pytest.raises(ValueError, match="20000 of 20000 values are not finite"):
        score(lambda x: torch.full((len(x),), math.nan), problem, 0)
    with pytest.raises(ValueError, match="expected shape"):
        score(lambda x: torch.zeros(1), problem, 0)


def test_points_where_the_true_ratio_is_zero_are_left_out() -> None:
    problem = PROBLEMS["bmi-additive-0.1"]
    found = score(lambda x: problem.log_ratio(x).clamp(min=-50.0), problem, 0)
    assert found["rmse_q"] == 0
    assert math.isfinite(found["mae_q"])


@pytest.mark.parametrize(
    "name",
    [name for name, method in METHODS.items() if method.peer and "sbi" not in name and "densratio" not in name],
)
def test_peers_find_which_side_is_which(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With few rows and little time all of them are rough, and none is upside down."""
    torch.optim.Adam([torch.zeros(1)])  # imports much, which would take the time
    monkeypatch.setattr(sketches, "LIMIT", 0.3)
    problem = PROBLEMS["corner"]
    p, q = problem.samples(800, 800, 100)
    with torch.random.fork_rng():
        fit = sketches.time_score if name == "time-score sketch" else METHODS[name].fit
        limit = {"limit": 0.5} if name == "time-score sketch" else {}
        log_ratio = fit(problem, p, q, 0, **limit)
        x = torch.cat(problem.samples(500, 500, 101))
        both = torch.stack([torch.as_tensor(log_ratio(x)).double(), problem.log_ratio(x)])
    assert both.shape == (2, 1000)
    assert torch.corrcoef(both)[0, 1] > 0.4


@pytest.mark.slow  # compiling it takes seconds
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in METHODS if "1000 rows" in name])
def test_densratio_finds_which_side_is_which(name: str) -> None:
    pytest.importorskip("densratio", reason="a peer, which the extra `bench` installs")
    problem = PROBLEMS["a"]
    p, q = problem.samples(100, 100, 100)
    log_ratio = METHODS[name].fit(problem, p, q, 0)
    x = torch.cat(problem.samples(300, 300, 101))
    both = torch.stack([torch.as_tensor(log_ratio(x)), problem.log_ratio(x)])
    assert torch.corrcoef(both)[0, 1] > 0.4


def test_our_methods_are_those_that_are_registered() -> None:
    found = measure(Cell("a", "logistic", 300, 100), METHODS["logistic"])
    assert not METHODS["logistic"].peer
    assert found["rmse"] < 1
    assert found["cpu"] > 0
    assert found["truth"] == PROBLEMS["a"].kl


def test_cells_are_those_that_methods_run_on() -> None:
    assert all(name in PROBLEMS for suite in SUITES.values() for name in suite)
    wanted = cells(CORE, METHODS.values(), [5, 6])
    assert len(set(wanted)) == len(wanted)
    assert Cell("c", "sbi NRE-A", 10_000, 6) in wanted
    assert Cell("a", "densratio uLSIF", 10_000, 5) in wanted
    assert Cell("a", "densratio uLSIF", 10_000, 6) not in wanted  # a minute and a half: one seed
    assert not any(cell.method.startswith("sbi") and PROBLEMS[cell.problem].split is None for cell in wanted)
    assert not any("densratio" in cell.method for cell in cells(LARGE, METHODS.values(), [0]))
    assert [cell.seed for cell in wanted] == sorted(cell.seed for cell in wanted)


def line(problem: str, method: str, rmse: float, seed: int = 0, rows: int = 10_000, **figures: object) -> str:
    values = dict.fromkeys(("rmse", "rmse_p", "rmse_q", "mae_p", "mae_q", "kl", "cpu", "memory", "cpu_predict"), rmse)
    return json.dumps({"problem": problem, "method": method, "rows": rows, "seed": seed, **values, **figures})


def test_the_later_line_counts_and_half_a_line_does_not(tmp_path) -> None:
    path = tmp_path / "results.jsonl"
    assert read(path) == {}
    path.write_text("\n".join([line("a", "logistic", 0.5), line("a", "logistic", 0.4), '{"problem": "a", "met']))
    assert [found["rmse"] for found in read(path).values()] == [0.4]


def test_tables(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    """At the seed of auto: on a, peers .10 and .20, ours .20, auto .15; on b, peers .50 and .60, ours .25, auto .30."""
    path = tmp_path / "results.jsonl"
    lines = [
        line("a", "gaussian plug-in", 0.10),
        *(line("a", "torch MLP", error, seed) for seed, error in enumerate((0.2, 0.3, 0.9))),
        line("a", "logistic", 0.20),
        line("b", "torch MLP", 0.60),
        line("b", "sklearn MLPClassifier", 0.50),
        json.dumps({"problem": "b", "method": "densratio KLIEP", "rows": 10_000, "seed": 0, "error": "ValueError"}),
        line("b", "logistic", 0.25),
        line("a", "auto", 0.15),
        line("b", "auto", 0.30),
        line("c", "logistic", 9.0, kl=9.6),
        line("c", "torch MLP", 9.0, kl=8.0),
    ]
    path.write_text("\n".join(lines))
    results = tables.gather(path)
    assert list(results) == [("a", 10_000), ("b", 10_000), ("c", 10_000)]
    group = results["a", 10_000]["torch MLP"]
    assert (group.median("rmse"), group.spread("rmse", 1)) == (0.3, "0.2–0.9")
    _, _, rows, said = tables.automatic(results)
    assert [row[4].split(":")[0] for row in rows] == ["gaussian plug-in", "sklearn MLPClassifier"]
    assert [row[-2:] for row in rows] == [["1.50", "but for the oracle"], ["1.20", "yes"]]
    assert "within 5 % of the best on 0 of 2, ahead of every peer on 1 of 2 (2 without the plug-in" in said
    assert "is ahead of every peer on 1 of 2" in said
    climbed = {row[2]: row[5:7] for row in tables.ladder(results)[2]}
    assert climbed == {"torch MLP": ["-20.0 %", "no"], "logistic": ["-4.0 %", "yes"]}
    main(["summary", "--detail", "--results", str(path)])
    assert "densratio KLIEP        –" in capsys.readouterr().out
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{tables.MARKS[0]}\nold\n{tables.MARKS[1]}\n")
    main(["summary", "--into", str(page), "--results", str(path)])
    main(["summary", "--markdown", "--results", str(path)])
    assert page.read_text() == f"before\n\n{tables.MARKS[0]}\n{capsys.readouterr().out}{tables.MARKS[1]}\n"
    assert "| **logistic** | 0.20 / 0.20 |" in page.read_text()


def test_auto_is_judged_on_the_seeds_that_both_were_run_on(tmp_path) -> None:
    """Seeds 0 and 1 are shared with the peer; ours has one of three and does not count."""
    path = tmp_path / "results.jsonl"
    lines = [line("a", "auto", error, seed) for seed, error in enumerate((0.21, 0.21, 9.0))]
    lines += [line("a", "torch MLP", error, seed) for seed, error in ((0, 0.2), (1, 0.2), (7, 0.01))]
    path.write_text("\n".join([*lines, line("a", "logistic", 0.1)]))
    _, _, rows, said = tables.automatic(tables.gather(path))
    assert rows[0][4:6] == ["torch MLP: 0.20 / 0.20 (0.200)", "–"]
    assert rows[0][-2:] == ["1.05", "no"]
    assert "within 5 % of the best on 1 of 1, ahead of every peer on 0 of 1" in said


def test_bad_names_are_refused(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="--problems: no z; there are a, a_rev"):
        main(["run", "--problems", "z"])
    with pytest.raises(SystemExit, match="--methods: no magic; there are peers, ours"):
        main(["--methods", "magic"])
    with pytest.raises(SystemExit, match="no results"):
        main(["summary", "--results", str(tmp_path / "none.jsonl")])
    main(["run", "--estimate", "--quick", "--results", str(tmp_path / "none.jsonl")])
    assert "fits to do" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_does_what_is_missing_and_survives_a_crash(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "results.jsonl"
    command = ["run", "--problems", "a", "--rows", "200", "--methods", "gaussian plug-in", "--results", str(path)]
    main([*command, "--seeds", "0"])
    path.write_text(path.read_text() + '{"problem": "a"')
    main([*command, "--seeds", "0", "1", "2", "--jobs", "2"])
    assert "2 of 3 fits to do" in capsys.readouterr().out
    assert sorted(cell.seed for cell in read(path)) == [0, 1, 2]
    assert all(found["rmse"] < 1 for found in read(path).values())
