"""The same network by likelihood and by games: one data split, one score, and runs that are kept and resumed."""

import pytest
import torch

from implicit_infer.games import Training
from implicit_infer.generators.learners import compare_learners
from implicit_infer.generators.networks import MLPGenerator

QUICK = {
    "settings": {"transforms": 2, "hidden": [8]},
    "training": Training(steps=6, marks=2),
    "training_of": {"mle": Training(steps=40, learning_rate=2e-2, average=0.8, marks=4)},
    "batch_size": 64,
    "critic_steps": 5,
    "progress": False,
}


def rows(n=300, seed=0):
    z = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return torch.stack([z[:, 0], z[:, 0].square() + 0.3 * z[:, 1]], 1)


def test_learners_are_scored_on_the_same_data_and_kept(tmp_path):
    made = compare_learners("flow", rows(), ("mle", "js"), [3], out=tmp_path, **QUICK)
    assert [(row["learner"], row["seed"]) for row in made.rows] == [("mle", 3), ("js", 3)]
    assert list(made.table.index) == ["mle", "js"]
    assert made.table.notna().all().all()
    by = made.runs.groupby("learner")["bits_test"].median()
    # a normal law does not see the bend; the flow by likelihood does, and six steps of a game do not
    assert by["mle"] < made.baselines["normal"] < by["js"] + 0.05
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "table.csv", "runs.csv", "learners.png"}
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    assert len(before) == 4
    (tmp_path / "runs" / "js-3.json").unlink()  # cut off before its end: done again, and nothing else is
    again = compare_learners("flow", rows(), ("mle", "js"), [3], out=tmp_path, **QUICK)
    kept = {path for path, when in before.items() if path.exists() and path.stat().st_mtime_ns == when}
    assert {path.name for path in before} - {path.name for path in kept} == {"js-3.json", "js-3.safetensors"}
    figures = [name for name in made.rows[0] if name not in ("seconds", "warnings")]
    assert [[row[name] for name in figures] for row in again.rows] == [
        [row[name] for name in figures] for row in made.rows
    ]
    with pytest.raises(ValueError, match=r"out: .* holds runs of other data or settings"):
        compare_learners("flow", rows(seed=1), ("mle",), [3], out=tmp_path, **QUICK)


def test_discrete_data_are_dequantised_and_bits_are_those_of_bins():
    random = torch.Generator().manual_seed(0)
    data = torch.randint(4, (400, 1, 2, 2), generator=random).float()
    made = compare_learners("flow", data, ["mle"], [0], bin_width=1.0, **QUICK)
    assert made.baselines["uniform"] == 2.0
    assert (made.test - made.test.floor()).std() > 0.2  # noise on all
    # nothing is better than the truth, two bits; the normal law of the same moments costs 2.25 or so
    assert 1.95 < made.rows[0]["bits_test"] < made.baselines["normal"] + 0.05


def test_own_networks_and_comparisons_by_own_names():
    from implicit_estimators.comparisons import comparison
    from implicit_infer.generators.networks import FlowGenerator

    made = compare_learners(
        lambda seed: FlowGenerator(2, transforms=1, hidden=(4,), seed=seed),
        rows(60),
        {"likelihood": "mle", "mine": comparison("gan", penalty="r1")},
        [0],
        **QUICK | {"settings": None, "training_of": None},
    )
    assert list(made.modules) == [("likelihood", 0), ("mine", 0)]


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"comparisons": ("mle", "nothing")}, ValueError, "comparison: expected one of"),
        ({"comparisons": "mle"}, ValueError, "comparisons: expected names, in a list"),
        ({"seeds": []}, ValueError, "seeds: expected at least one"),
        ({"validation": 0.5, "test": 0.5}, ValueError, "validation, test"),
        ({"data": torch.zeros(7, 2)}, ValueError, "data: expected at least 2 rows in each part"),
        (
            {"generator": lambda _: MLPGenerator(2, 2), "settings": None},
            TypeError,
            "generator: expected a network with",
        ),
    ],
)
def test_what_is_wrong_is_named(change, error, match):
    given = {"generator": "flow", "data": rows(60), "comparisons": ("mle",), "seeds": [0], **QUICK} | change
    with pytest.raises(error, match=match):
        compare_learners(given.pop("generator"), given.pop("data"), **given)
