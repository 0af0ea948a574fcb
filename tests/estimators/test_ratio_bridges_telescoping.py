"""Telescoping ratios against normals, where every bridge is known."""

from __future__ import annotations

import math

import pytest
import torch

from implicit_estimators.ratio.bridges.telescoping import TelescopingRatio
from implicit_estimators.ratio.bridges.waymarks import bridge_losses

RHO = math.sqrt(1 - math.exp(-1))


def correlated(n: int, d: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    z = torch.randn(n, d // 2, 2, generator=draw)
    p = torch.stack([z[..., 0], RHO * z[..., 0] + math.sqrt(1 - RHO**2) * z[..., 1]], -1).flatten(1)
    return p, torch.randn(n, d, generator=draw)


def truth(x: torch.Tensor) -> torch.Tensor:
    a, b = x[:, ::2], x[:, 1::2]
    v = 1 - RHO**2
    return -0.5 * ((a * a - 2 * RHO * a * b + b * b) / v - a * a - b * b + math.log(v)).sum(1)


@pytest.fixture(scope="module")
def fitted() -> TelescopingRatio:
    return TelescopingRatio(hidden=(64, 64), epochs=40).fit(*correlated(4000, 8, 0), seed=0)


def test_a_generic_network_learns_the_sum(fitted) -> None:
    """8 columns, 2 nats, 4,000 samples: seeds 100 to 102 gave .21/.66 at most, and no ratio at all gives 2.2/5.2."""
    for side, most in zip(correlated(5000, 8, 1), (0.35, 1.0), strict=True):
        assert float((fitted.log_ratio(side) - truth(side)).abs().mean()) < most
    assert fitted.divergence("kl") == pytest.approx(2.0, abs=0.35)
    assert fitted.waymarks.bridges >= 2


def test_bridges_add_up_and_are_scored_on_what_was_held_out(fitted) -> None:
    x = fitted.held_out[0]
    assert torch.allclose(fitted.log_ratios(x).sum(1), fitted.log_ratio(x), atol=1e-4)
    marks = fitted.held_out_waymarks()
    assert torch.allclose(marks[0].float(), fitted.held_out[0], atol=1e-5)
    assert torch.allclose(marks[-1].float(), fitted.held_out[1], atol=1e-5)
    own = fitted.held_out_bridge_loss(lambda k, points: fitted.log_ratios(points)[:, k])
    assert torch.allclose(own, fitted.bridge_losses, atol=1e-5)
    assert bool((own < math.log(2)).all())
    steep = bridge_losses(marks, lambda k, points: 2 * fitted.log_ratios(points)[:, k])
    assert float(steep.sum()) > float(own.sum())


def test_quadratic_heads_hold_the_truth() -> None:
    """20 columns, 5 nats, 4,000 samples: seeds 100 to 102 gave .58/1.50 at most."""
    ratio = TelescopingRatio(heads="quadratic", learning_rate=2e-2, epochs=30, pilot=0, weight_decay=0.0)
    ratio.fit(*correlated(4000, 20, 0), seed=0)
    for side, most in zip(correlated(4000, 20, 1), (0.8, 2.0), strict=True):
        assert float((ratio.log_ratio(side) - truth(side)).abs().mean()) < most


def test_more_than_a_hundred_nats_are_finite_and_the_check_does_not_trust_them() -> None:
    draw = torch.Generator().manual_seed(0)
    p, q = (torch.randn(600, 2, generator=draw) + shift for shift in (-15.0, 15.0))
    ratio = TelescopingRatio(hidden=(32,), epochs=40, pilot=20).fit(p, q, seed=0)
    assert float(ratio.log_ratio(p).min()) > 20
    assert float(ratio.log_ratio(q).max()) < -20
    assert not ratio.check().trusted


@pytest.mark.parametrize("settings", [{"mixing": "columns", "bridges": 2}, {"heads": "quadratic"}, {"robust": True}])
def test_settings_are_saved_and_loaded(settings: dict, tmp_path) -> None:
    p, q = correlated(200, 4, 0)
    ratio = TelescopingRatio(hidden=(8,), epochs=3, pilot=5, **settings).fit(p, q, seed=0)
    ratio.save(tmp_path / "ratio.safetensors")
    again = TelescopingRatio.load(tmp_path / "ratio.safetensors")
    assert torch.equal(again.log_ratio(p), ratio.log_ratio(p))
    assert torch.equal(again.held_out_waymarks(), ratio.held_out_waymarks())
    assert torch.isfinite(ratio.bridge_losses).all()


def test_bad_settings_are_named() -> None:
    for settings, message in [
        ({"bridges": 0}, "bridges: expected a positive number; got 0"),
        ({"nats": 0.0}, "nats: expected a positive number"),
        ({"mixing": "nearest"}, "mixing: expected one of linear, columns; got 'nearest'"),
        ({"heads": "cubic"}, "heads: expected one of network, quadratic"),
        ({"validation": 1.0}, "validation: expected a share inside"),
        ({"hidden": (0,)}, "hidden: expected positive widths"),
    ]:
        with pytest.raises(ValueError, match=message):
            TelescopingRatio(**settings)
    with pytest.raises(RuntimeError, match=r"call fit\(p, q\) first"):
        TelescopingRatio().held_out_waymarks()
