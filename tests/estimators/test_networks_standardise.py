"""Standardisation: order one for every finite input, invertible, and exact far from the origin."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from implicit_estimators.networks.standardise import FARTHEST, STANDARDISERS, Ranks, Standardiser, restored


def test_moments_of_both_sets_together() -> None:
    p, q = torch.randn(500, 3) * 7 + 2, torch.randn(300, 3) - 40
    z = Standardiser.fit(p, q)(torch.cat([p, q]))
    assert torch.allclose(z.mean(0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(z.std(0, correction=0), torch.ones(3), atol=1e-5)


def test_robust_units_are_those_of_a_normals_bulk() -> None:
    """Median and quartile width are unmoved by 1 % of samples a million widths out; within five standard errors."""
    x = 3 + 2 * torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0))
    x[:200] = 1e6
    robust = Standardiser.fit(x, robust=True)
    assert float(robust.location) == pytest.approx(3, abs=5 * 2 * 1.2533 / math.sqrt(20_000) + 0.03)
    assert float(robust.scale) == pytest.approx(2, rel=0.05)
    assert float(robust(x).abs().max()) < 15
    assert float(Standardiser.fit(x).scale) > 1e4


@pytest.mark.parametrize("robust", [False, True])
@given(x=arrays("float32", (6, 2), elements=st.floats(-(2.0**99), 2.0**99, width=32)))
def test_every_finite_input_gives_finite_order_one_output(robust: bool, x) -> None:
    rows = torch.from_numpy(x)
    z = Standardiser.fit(rows, robust=robust)(rows)
    assert torch.isfinite(z).all()
    if not robust:
        assert z.abs().max() < 3  # of six rows none is further than sqrt(5) deviations


@pytest.mark.parametrize("robust", [False, True])
def test_constant_columns_are_shifted_only(robust: bool) -> None:
    x = torch.stack([torch.full((50,), 1e7), torch.randn(50), torch.full((50,), 0.1)], 1)
    z = Standardiser.fit(x, robust=robust)(x)
    assert z[:, [0, 2]].abs().max() < 1e-6
    assert z[:, 1].std() > 0.3


def test_a_column_with_most_mass_at_one_value_keeps_its_rest() -> None:
    x = torch.zeros(100, 1)
    x[:10, 0] = torch.linspace(1, 2, 10)
    z = Standardiser.fit(x, robust=True)(x)
    assert z[:10].min() > 0.5


@pytest.mark.parametrize("robust", [False, True])
def test_far_from_the_origin_double_precision_survives(robust: bool) -> None:
    """Seconds since 1970 with a spread of one: float32 has steps of 128 there."""
    x = 1.7e9 + torch.randn(1000, 1, dtype=torch.float64)
    standardiser = Standardiser.fit(x, robust=robust)
    z = standardiser(x).float()
    assert z.std() == pytest.approx(1, rel=0.3)
    assert len(z.unique()) > 900
    assert torch.allclose(standardiser.inverse(standardiser(x)), x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("robust", [False, True])
def test_the_inverse_inverts(robust: bool) -> None:
    x = torch.randn(100, 4) * torch.tensor([1e-6, 1.0, 30.0, 1e5])
    standardiser = Standardiser.fit(x, robust=robust)
    assert torch.allclose(standardiser.inverse(standardiser(x)), x, rtol=1e-4, atol=1e-5)


def test_samples_beyond_all_measure_are_cut_off() -> None:
    standardiser = Standardiser.fit(torch.randn(100, 1) * 1e-20)
    z = standardiser(torch.tensor([[3e38], [-3e38]]))
    assert z.tolist() == [[FARTHEST], [-FARTHEST]]


def test_it_is_saved_with_its_module_and_has_no_gradient() -> None:
    standardiser = Standardiser.fit(torch.randn(10, 2))
    assert set(standardiser.state_dict()) == {"location", "scale"}
    assert list(standardiser.parameters()) == []


@given(x=arrays("float32", (6, 2), elements=st.floats(-(2.0**99), 2.0**99, width=32)))
def test_ranks_are_finite_ordered_and_of_order_one(x) -> None:
    rows = torch.from_numpy(x)
    z = Ranks.fit(rows)(rows)
    assert torch.isfinite(z).all()
    assert z.abs().max() < 10
    for column, ranks in zip(rows.T, z.T, strict=True):
        order = column.argsort()
        assert (ranks[order].diff() >= 0).all()


@pytest.mark.parametrize("n", [2, 3, 5000])
def test_ranks_make_any_continuous_column_normal(n: int) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, generator=draw, dtype=torch.float64)
    columns = torch.stack(
        [x[:, 0].exp(), torch.tan(1.5 * x[:, 1].tanh()), torch.where(x[:, 2] < 0, 1e-6, 1) * x[:, 2]], 1
    )
    z = Ranks.fit(columns[: n // 2], columns[n // 2 :])(columns)
    exact = torch.special.ndtri((columns.argsort(0).argsort(0) + 0.5) / n)
    # a straight line between 512 knots misses by less than two of their spacings
    assert (z - exact).abs().max() < 2 * 8 / 512


def test_ranks_see_a_narrow_peak_in_double_precision() -> None:
    draw = torch.Generator().manual_seed(0)
    p, q = (s * torch.randn(5000, 1, generator=draw, dtype=torch.float64) for s in (1e-6, 1.0))
    ranks = Ranks.fit(p, q)
    assert float(ranks(p).float().std()) == pytest.approx(0.39, abs=0.03)  # the middle half of a normal
    assert len(ranks(p).float().unique()) > 4900
    assert torch.allclose(ranks.inverse(ranks(p)), p, rtol=1e-6, atol=1e-15)


def test_ties_fall_together_at_their_middle_rank() -> None:
    x = torch.tensor([0.0] * 60 + [1.0] * 30 + [5.0] * 10)[:, None]
    middle = torch.special.ndtri(torch.tensor([0.3, 0.75, 0.95]))
    assert torch.allclose(Ranks.fit(x)(torch.tensor([[0.0], [1.0], [5.0]]))[:, 0], middle, atol=1e-6)


def test_ranks_go_straight_on_and_stop_at_the_farthest() -> None:
    x = torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
    ranks = Ranks.fit(x)
    z = ranks(torch.tensor([[10.0], [20.0], [30.0], [-10.0], [3e38], [-3e38]]))[:, 0]
    assert float(z[1] - z[0]) == pytest.approx(float(z[2] - z[1]), rel=1e-4)
    assert 5 < float(z[0]) < 20
    assert z[3] < -5
    assert (z[4:] * torch.tensor([1.0, -1.0]) > 1e6).all()
    assert z.abs().max() <= FARTHEST


@pytest.mark.parametrize("name", STANDARDISERS)
def test_each_is_inverted_restored_and_differentiable(name: str) -> None:
    x = torch.randn(100, 4, dtype=torch.float64) * torch.tensor([1e-6, 1.0, 30.0, 1e5])
    standardiser = STANDARDISERS[name](x[:50], x[50:])
    points = (3 * x).requires_grad_()  # beyond the samples, too
    z = standardiser(points)
    assert torch.allclose(standardiser.inverse(z), points, rtol=1e-6, atol=1e-12)
    assert torch.equal(restored(name, standardiser.state_dict())(points), z)
    assert (torch.autograd.grad(z.sum(), points)[0] > 0).all()
    assert z.dtype == points.dtype


def test_constant_columns_have_no_ranks() -> None:
    """Nor do those that vary in the last digit only; they move by as much as their values do."""
    x = torch.stack([torch.full((50,), 1e7), torch.randn(50), torch.full((50,), 0.1)], 1)
    x[::2, 2] += 7e-9
    z = Ranks.fit(x)(x)
    assert z[:, [0, 2]].abs().max() < 1e-6
    assert z[:, 1].std() > 0.3


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"knots, heights: expected shapes \(d,\), \(d,\), \(d, k\), \(d, k\)"):
        Ranks(torch.zeros(1), torch.ones(1), torch.zeros(1, 2), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="expected positive scales, and at least 2 knots that increase"):
        Ranks(torch.zeros(1), torch.ones(1), torch.zeros(1, 2), torch.ones(1, 2))
    with pytest.raises(ValueError, match=r"location, scale: expected one shape \(d,\)"):
        Standardiser(torch.zeros(2), torch.ones(3))
    with pytest.raises(ValueError, match="scale: expected positive, finite values"):
        Standardiser(torch.zeros(2), torch.tensor([1.0, 0.0]))
