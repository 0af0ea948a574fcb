"""Normal laws of waymarks: their bridges add up to the whole way, and score like the truth where it is normal."""

from __future__ import annotations

import math

import pytest
import torch

from implicit_estimators.divergences import softplus
from implicit_estimators.ratio import RATIO_ESTIMATORS, AutoRatio, GaussianRatio
from implicit_estimators.ratio.bridges.telescoping import TelescopingRatio
from implicit_estimators.ratio.waymark_laws import can_judge, normal_bridges, paired_excess

TELESCOPING = ("telescoping", {"bridges": 4, "hidden": [16], "epochs": 5, "pilot": 0})
SMALL = {"networks": 5, "hidden": [16], "epochs": 15, "batch_size": 64, "learning_rate": 1e-2}


def samples(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """p = N((3, -1), diag(0.05, 1)^2) and q = N(0, I) with correlation 0.6."""
    draw = torch.Generator().manual_seed(seed)
    p = torch.randn(n, 2, generator=draw) * torch.tensor([0.05, 1.0]) + torch.tensor([3.0, -1.0])
    q = torch.randn(n, 2, generator=draw)
    q[:, 1] = 0.6 * q[:, 0] + 0.8 * q[:, 1]
    return p, q


@pytest.fixture(scope="module")
def fitted() -> tuple[TelescopingRatio, GaussianRatio]:
    p, q = samples(1000, 0)
    telescoping = TelescopingRatio(bridges=4, hidden=(16,), epochs=8, pilot=0).fit(p, q, seed=0)
    return telescoping, GaussianRatio().fit(*samples(4000, 1), seed=0)


def test_bridges_add_up_to_the_log_ratio(fitted) -> None:
    telescoping, gaussian = fitted
    bridges = normal_bridges(gaussian._normals, telescoping)
    x = torch.cat(samples(50, 2)).double()
    total = torch.stack([bridges(k, x) for k in range(4)]).sum(0)
    assert torch.allclose(total.float(), gaussian.log_ratio(x), rtol=1e-4, atol=1e-3)


def test_the_laws_are_those_of_the_waymarks(fitted) -> None:
    """Normalised ratios have mean 1: E_{k+1}[p_k / p_{k+1}] at the waymarks themselves, within four standard errors."""
    telescoping, gaussian = fitted
    bridges = normal_bridges(gaussian._normals, telescoping)
    standardiser, marks = telescoping._standardiser, telescoping.waymarks
    p, q = (standardiser(side) for side in samples(20_000, 3))
    x = [standardiser.inverse(mark).double() for mark in marks(p, q)]
    for k in range(4):
        # weighted by the shares of both, which bounds what is averaged
        values = [(-softplus(sign * bridges(k, side))).exp() for sign, side in ((1, x[k]), (-1, x[k + 1]))]
        error = math.sqrt(sum(float(value.var()) for value in values) / 20_000)
        assert abs(float(values[0].mean() - values[1].mean())) < 4 * error + 0.01  # .01: the law is fitted


def test_the_better_bridges_have_the_lower_score(fitted) -> None:
    telescoping, gaussian = fitted
    right = paired_excess(telescoping, normal_bridges(gaussian._normals, telescoping))
    assert right < -2 * right.standard_error  # the network had eight epochs
    wrong = paired_excess(telescoping, lambda k, x: torch.zeros(len(x)))
    assert wrong > 5 * wrong.standard_error
    same = paired_excess(telescoping, lambda k, x: telescoping.log_ratios(x)[:, k])
    assert abs(same) < 1e-6
    by_hand = telescoping.held_out_bridge_loss(lambda k, x: torch.zeros(len(x))) - telescoping.bridge_losses
    assert wrong == pytest.approx(float(by_hand.sum()), abs=1e-4)


def test_only_mixtures_of_rows_can_be_judged(fitted) -> None:
    assert can_judge(fitted[0])
    p, q = samples(60, 0)
    settings = {"hidden": (4,), "epochs": 1, "pilot": 0, "bridges": 2}
    assert not can_judge(TelescopingRatio(mixing="columns", **settings).fit(p, q, seed=0))
    assert not can_judge(TelescopingRatio(robust=True, **settings).fit(p, q, seed=0))


def test_far_apart_a_density_that_the_waymarks_do_not_refute_is_kept(monkeypatch) -> None:
    monkeypatch.setitem(RATIO_ESTIMATORS, "telescoping", TelescopingRatio)
    draw = torch.Generator().manual_seed(0)
    p, q = 3 + 0.01 * torch.randn(500, 3, generator=draw), torch.randn(500, 3, generator=draw)
    auto = AutoRatio(("gaussian", TELESCOPING)).fit(p, q, seed=0)
    assert auto.far_apart
    assert list(auto.chosen) == ["gaussian"]
    assert len(auto.held_out[0]) == 500
    truth = 3 * math.log(100) + 0.5 * (p.double() ** 2).sum(1) - 0.5 * (((p.double() - 3) / 0.01) ** 2).sum(1)
    # errors of p's means and variances: a few hundredths for each coefficient
    assert float((auto.log_ratio(p) - truth).abs().mean()) < 0.5


def test_far_apart_and_without_densities_bridges_are_preferred(monkeypatch) -> None:
    monkeypatch.setitem(RATIO_ESTIMATORS, "telescoping", TelescopingRatio)
    draw = torch.Generator().manual_seed(0)
    p, q = 20 + torch.randn(300, 2, generator=draw), torch.randn(300, 2, generator=draw)
    auto = AutoRatio((("ensemble", SMALL), TELESCOPING)).fit(p, q, seed=0)
    assert auto.far_apart
    assert next(iter(auto.estimators.values())).name == "telescoping"
    # only the rows that it held out judge it
    assert len(auto.held_out[0]) == 30
    assert auto.held_out_log_ratio is not None
    assert torch.equal(auto.held_out_log_ratio[0], auto.log_ratio(auto.held_out[0]))
