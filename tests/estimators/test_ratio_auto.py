"""The choice: the simple method where it is right, a generic one where it is not, and never the one that looks best."""

from __future__ import annotations

import math

import pytest
import torch

from implicit_estimators.ratio import RATIO_ESTIMATORS, AutoRatio, EnsembleRatio, RatioEstimator
from implicit_estimators.ratio.auto import _heavy, _places
from implicit_estimators.ratio_losses import BrierLoss

SMALL = {"networks": 5, "hidden": [24], "epochs": 15, "patience": 4, "batch_size": 64, "learning_rate": 1e-2}
FAST = ("gaussian", ("ensemble", SMALL))
ENSEMBLE = "ensemble(" + ", ".join(f"{key}={value}" for key, value in SMALL.items()) + ")"


def ring(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """p lies around a circle, q has the same mean and covariance: normal densities see no difference."""
    draw = torch.Generator().manual_seed(seed)
    angle = 2 * math.pi * torch.rand(n, generator=draw)
    p = torch.stack([angle.cos(), angle.sin()], 1) + 0.15 * torch.randn(n, 2, generator=draw)
    return p, math.sqrt(0.5 + 0.15**2) * torch.randn(n, 2, generator=draw)


@pytest.fixture(scope="module")
def chosen(plane_of_module) -> AutoRatio:
    return AutoRatio(FAST).fit(*plane_of_module.samples(600, 600, 0), seed=0)


def test_where_the_simple_one_is_right_it_stays(chosen, plane) -> None:
    """Normal samples; the plug-in errs by .1 to .15 at n = 600 where networks err by .4."""
    assert chosen.chosen == {"gaussian": 1.0}
    assert list(chosen.estimators) == ["gaussian"]
    assert not chosen.far_apart
    for side in plane.samples(5000, 5000, 1):
        assert float((chosen.log_ratio(side) - plane.log_ratio(side)).abs().mean()) < 0.25
    assert chosen.check().n_p == 600


def test_the_table_of_scores(chosen) -> None:
    table = chosen.scores
    assert list(table.index) == ["gaussian", ENSEMBLE]
    assert table["excess"].min() == 0
    assert table.loc["gaussian", "excess"] <= 2 * table.loc["gaussian", "standard_error"]
    assert table["weight"].tolist() == [1, 0]
    assert (table["seconds"] > 0).all()
    assert math.isnan(table.loc[ENSEMBLE, "likelihood"])
    with pytest.raises(RuntimeError, match="call fit"):
        _ = AutoRatio().scores


def test_where_the_simple_one_is_wrong_it_goes() -> None:
    p, q = ring(600, 0)
    auto = AutoRatio(FAST, stack=False).fit(p, q, seed=0)
    assert auto.chosen == {ENSEMBLE: 1.0}
    alone = EnsembleRatio(**SMALL).fit(p, q, seed=0)
    assert torch.equal(auto.log_ratio(p), alone.log_ratio(p))
    table = auto.scores
    assert table.loc["gaussian", "excess"] > 2 * table.loc["gaussian", "standard_error"]


class Wavy(RatioEstimator):
    """The truth of N(0, 1) against N(1, 1), and a wave of some phase on top: opposite phases cancel."""

    name = "wavy"

    def __init__(self, phase: float = 0.0) -> None:
        self.phase = phase

    def _fit(self, p, q, seed, device, progress) -> None:
        self.held_out, self.held_out_log_ratio = (p, q), (self._log_ratio(p), self._log_ratio(q))

    def _log_ratio(self, x):
        return 0.5 - x[:, 0] + 2 * torch.sin(6 * x[:, 0] + self.phase)

    def _state(self):
        return {"phase": torch.tensor(self.phase)}, {}

    def _restore(self, tensors, rest) -> None:
        assert float(tensors["phase"]) == pytest.approx(self.phase)


@pytest.mark.parametrize("stack", [True, False])
def test_a_stacking_replaces_them_where_it_scores_better(monkeypatch, tmp_path, stack: bool) -> None:
    monkeypatch.setitem(RATIO_ESTIMATORS, "wavy", Wavy)
    draw = torch.Generator().manual_seed(0)
    p, q = torch.randn(2000, 1, generator=draw), 1 + torch.randn(2000, 1, generator=draw)
    auto = AutoRatio(("wavy", ("wavy", {"phase": math.pi})), stack=stack).fit(p, q, seed=0)
    if not stack:
        assert list(auto.chosen.values()) == [1]
        return
    # a weight off by w leaves a wave of 4 w; the scores tell some hundredths
    assert list(auto.chosen.values()) == pytest.approx([0.5, 0.5], abs=0.06)
    assert torch.allclose(auto.log_ratio(p), 0.5 - p[:, 0], atol=0.25)
    auto.save(tmp_path / "auto.safetensors")
    again = AutoRatio.load(tmp_path / "auto.safetensors")
    assert torch.equal(again.log_ratio(p), auto.log_ratio(p))
    assert again.chosen == auto.chosen
    assert again.scores.fillna(-1).equals(auto.scores.fillna(-1))
    assert again.candidates == auto.candidates
    assert again.divergence("kl") == auto.divergence("kl")


def test_identical_laws_have_a_log_ratio_near_zero() -> None:
    """Noise of five coefficients at n = 1000: log r has a root mean square of about sqrt(2 * 5 / 1000) = .1."""
    draw = torch.Generator().manual_seed(0)
    p, q = torch.randn(1000, 2, generator=draw), torch.randn(1000, 2, generator=draw)
    auto = AutoRatio(FAST).fit(p, q, seed=0)
    assert float(auto.log_ratio(p).square().mean().sqrt()) < 0.25


def test_too_few_rows_to_compare_leave_the_first() -> None:
    p, q = ring(10, 0)
    auto = AutoRatio(FAST).fit(p, q, seed=0)
    assert auto.chosen == {"gaussian": 1.0}
    assert "too few rows" in auto.scores.loc["gaussian", "remark"]


def test_a_candidate_that_fails_is_a_line_in_the_table(monkeypatch) -> None:
    def fail(*args) -> None:
        raise ValueError("no such luck")

    p, q = ring(100, 0)
    monkeypatch.setattr(EnsembleRatio, "_fit", fail)
    auto = AutoRatio(FAST).fit(p, q, seed=0)
    assert auto.scores.loc[ENSEMBLE, "remark"] == "failed: no such luck"
    with pytest.raises(RuntimeError, match=r"candidates: none could be fitted: ensemble.*no such luck"):
        AutoRatio([("ensemble", SMALL)]).fit(p, q, seed=0)


def test_progress_names_the_candidate() -> None:
    shown: dict[str, float] = {}
    AutoRatio(FAST).fit(*ring(100, 0), seed=0, progress=lambda epoch, figures: shown.update(figures))
    assert {"gaussian score", f"{ENSEMBLE} score", f"{ENSEMBLE} loss", "seconds"} <= set(shown)


def test_what_cannot_be_saved_says_so(tmp_path) -> None:
    auto = AutoRatio([("ensemble", SMALL | {"loss": BrierLoss()})]).fit(*ring(100, 0), seed=0)
    with pytest.raises(TypeError, match="only named losses can be saved"):
        auto.save(tmp_path / "no")


def test_candidates_are_checked_before_any_work() -> None:
    for bad, message in [
        ((), "candidates: expected at least one name; got none"),
        (("nothing",), "candidates: expected names among .*; got 'nothing'"),
        (("auto",), "candidates: expected names among .*; got 'auto'"),
        ((("ensemble", {"size": 3}),), "candidates: settings of 'ensemble': .*size"),
        ((("ensemble", {"networks": 1}),), "networks: expected at least 2; got 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            AutoRatio(bad)


def test_helpers() -> None:
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [5.0, 6.0]])
    places = _places(rows[[2, 3, 0]], rows)
    assert sorted(places.tolist()) == [0, 2, 3]
    assert torch.equal(rows[places], rows[[2, 3, 0]])
    draw = torch.Generator().manual_seed(0)
    normal = torch.randn(2000, 2, generator=draw)
    assert not _heavy(normal, 3 * normal)
    assert _heavy(normal, torch.cat([normal[:-1], normal[:1] + 1000]))
