"""Waymarks: ends, spacing and scores, against laws whose waymarks are normal and known."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from implicit_estimators.ratio.bridges.waymarks import Way, Waymarks, bridge_losses


def normals(n: int, scale: float, shift: float, d: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return (
        scale * torch.randn(n, d, generator=draw, dtype=torch.float64),
        shift + torch.randn(n, d, generator=draw, dtype=torch.float64),
    )


@given(st.lists(st.floats(-30, 30), min_size=0, max_size=6), st.integers(1, 4))
def test_linear_waymarks_keep_the_variance_and_end_in_p_and_q(odds: list[float], width: int) -> None:
    marks = Waymarks.linear(torch.tensor(sorted(odds), dtype=torch.float64), width)
    assert marks.bridges == len(odds) + 1
    assert torch.allclose(marks.weights_p**2 + marks.weights_q**2, torch.ones(1), atol=1e-6)
    p, q = normals(5, 1.0, 3.0, width)
    x = marks(p, q)
    assert x.shape == (len(odds) + 2, 5, width)
    assert torch.equal(x[0], p)
    assert torch.equal(x[-1], q)


@given(st.integers(1, 12), st.integers(1, 6))
def test_column_waymarks_take_one_column_after_another(bridges: int, width: int) -> None:
    marks = Waymarks.columns(bridges, width)
    assert marks.bridges == min(bridges, width)
    taken = marks.weights_q.sum(1)
    assert float(taken[0]) == 0
    assert float(taken[-1]) == width
    assert bool((taken.diff() >= 1).all())
    assert torch.equal(marks.weights_p, 1 - marks.weights_q)


def test_the_fewer_samples_repeat() -> None:
    marks = Waymarks.linear(torch.zeros(1), 1)
    x = marks(torch.arange(5.0)[:, None], torch.arange(2.0)[:, None])
    assert x[-1, :, 0].tolist() == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1e4])
def test_steps_between_scales_are_equal_factors(scale: float) -> None:
    """Normals that differ by a factor are sqrt(1/2) log of the squared factor apart, and 5 % is two standard errors."""
    p, q = normals(5000, scale, 0.0)
    pooled = max(1.0, scale)
    way = Way(p / pooled, q / pooled)
    assert way.length == pytest.approx(math.sqrt(2) * abs(math.log(scale)), rel=0.05)
    count = way.bridges(0.5, 100)
    marks = Waymarks.linear(way.log_odds(count), 1)
    spread = (marks.weights_p[:, 0] * scale).square() + marks.weights_q[:, 0].square()
    factors = spread.log().diff().abs()
    assert float(factors.max() / factors.min()) < 1.2


def test_samples_of_one_law_are_next_to_each_other() -> None:
    """Sixty columns of two hundred rows differ by chance alone, and by many bridges if that is not taken off."""
    draw = torch.Generator().manual_seed(0)
    p, q = (torch.randn(200, 60, generator=draw) for _ in range(2))
    assert Way(p, q).bridges(0.5, 48) <= 12


def test_what_is_told_apart_makes_the_way_longer_where_it_is() -> None:
    p, q = normals(5000, 1.0, 3.0)
    way = Way(p, q)
    before = way.length
    way.stretch(torch.tensor([0.1, math.log(2)]))
    assert way.length > 1.5 * before
    first = Way(p, q).log_odds(2)
    assert float(way.log_odds(2)) < float(first)


def test_losses_are_least_for_the_true_bridges() -> None:
    """Of normals with known variances: a factor of 1.3 costs more than four standard errors of 20,000 samples."""
    p, q = normals(20_000, 0.2, 0.0)
    way = Way(p, q)
    marks = Waymarks.linear(way.log_odds(3), 1)
    x = marks(p, q)
    variance = (0.2 * marks.weights_p[:, 0].double()).square() + marks.weights_q[:, 0].double().square()

    def truth(k: int, points: torch.Tensor) -> torch.Tensor:
        a, b = variance[k], variance[k + 1]
        return -0.5 * (points[:, 0].square() * (1 / a - 1 / b) + (a / b).log())

    right = bridge_losses(x, truth)
    assert right.shape == (3,)
    assert float(bridge_losses(x, lambda k, points: 1.5 * truth(k, points)).sum()) > float(right.sum())
    assert float(bridge_losses(x, lambda k, points: truth(k, points) + 0.3).sum()) > float(right.sum())
    nothing = bridge_losses(x, lambda k, points: torch.zeros(len(points)))
    assert torch.allclose(nothing, torch.full((3,), math.log(2), dtype=torch.float64))
    assert bool((right < nothing).all())


def test_bad_weights_are_named() -> None:
    with pytest.raises(ValueError, match=r"expected one shape \(m \+ 1, d\)"):
        Waymarks(torch.ones(2, 1), torch.ones(3, 1))
    with pytest.raises(ValueError, match="expected the first waymark to be p"):
        Waymarks(torch.ones(2, 1), torch.ones(2, 1))
