"""Sliced Wasserstein: exact on the line, the share of a shift that directions see, gradients, sizes that differ."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, wasserstein_distance

from implicit_estimators.discrepancies import SlicedWasserstein
from implicit_estimators.discrepancies.sliced import directions, projected_power
from implicit_estimators.discrepancies.sorting import sort_rows, sort_rows_with_order


def draws(n: int, m: int, dim: int, seed: int, dtype: torch.dtype = torch.float64):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(n, dim, generator=random, dtype=dtype), torch.randn(m, dim, generator=random, dtype=dtype)


def test_two_gaussians_on_the_line() -> None:
    """W_2^2 of N(a, s^2) and N(b, t^2) is (a - b)^2 + (s - t)^2; their quantiles stand in for samples, to 1e-3."""
    quantiles = torch.from_numpy(norm.ppf((np.arange(20_000) + 0.5) / 20_000))
    value = SlicedWasserstein().power(1 + 2 * quantiles, -1 + 0.5 * quantiles)
    assert float(value) == pytest.approx(4 + 2.25, rel=1e-3)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize(("n", "m"), [(30, 30), (30, 17), (8, 12), (1, 5), (1, 1)])
def test_the_line_against_quantile_functions(p: int, n: int, m: int) -> None:
    """The integral of |F^-1 - G^-1|^p on a grid that has both step functions' steps; scipy's too for p = 1."""
    x, y = draws(n, m, 1, 100)
    grid = n * m
    ends = (x[:, 0].sort().values.repeat_interleave(m) - y[:, 0].sort().values.repeat_interleave(n)).abs()
    assert len(ends) == grid
    expected = float(ends.pow(p).mean())
    assert float(SlicedWasserstein(p=p).power(x, y)) == pytest.approx(expected, rel=1e-10)
    if p == 1:
        assert expected == pytest.approx(wasserstein_distance(x[:, 0].numpy(), y[:, 0].numpy()), rel=1e-10)


def test_a_shift_is_seen_by_its_share_of_the_dimension() -> None:
    r"""SW_2^2 = |delta|^2 / d; the mean over 4,000 directions within four standard errors of w_1^2."""
    x, _ = draws(20, 1, 5, 100)
    shift = torch.tensor([3.0, 0, 0, 0, 0], dtype=x.dtype)
    # w_1^2 is Beta(1/2, (d - 1)/2) distributed, with this variance
    error = 9 * math.sqrt(2 * 4 / (25 * 7)) / math.sqrt(4000)
    value = SlicedWasserstein(4000).power(x + shift, x)
    assert float(value) == pytest.approx(9 / 5, abs=4 * error)


def test_the_worst_direction_sees_all_of_a_shift() -> None:
    """A lower bound of the maximum, |delta| = 3; in ten dimensions random directions alone see far less of it."""
    x, _ = draws(50, 1, 10, 100)
    shift = torch.zeros(10, dtype=x.dtype)
    shift[0] = 3
    value = float(SlicedWasserstein(10, worst=True).distance(x + shift, x))
    assert 2.99 < value <= 3 + 1e-9
    assert float(SlicedWasserstein(10, worst=True, ascent=0).distance(x + shift, x)) < 2.5


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize(("n", "m"), [(6, 6), (6, 4), (3, 9)])
@pytest.mark.parametrize("dim", [1, 3])
def test_its_gradient_is_that_of_finite_differences(p: int, n: int, m: int, dim: int) -> None:
    x, y = (s.requires_grad_() for s in draws(n, m, dim, 100))
    assert torch.autograd.gradcheck(SlicedWasserstein(7, p).power, (x, y))
    assert torch.autograd.gradcheck(SlicedWasserstein(7, p).distance, (x, y))
    assert torch.autograd.gradcheck(SlicedWasserstein(7, p).power, (x, y.detach()))


def test_directions_have_a_gradient_too() -> None:
    x, y = draws(8, 6, 3, 100)
    lines = directions(3, 4, torch.Generator().manual_seed(100), x).requires_grad_()
    assert torch.autograd.gradcheck(lambda lines: projected_power(x, y, lines), (lines,))


@settings(max_examples=20)
@given(
    st.integers(1, 4),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([1, 2]),
    st.floats(-1e3, 1e3),
    st.floats(0.1, 10),
    st.integers(0, 10**6),
)
def test_order_roles_shifts_and_scale(dim, n, m, p, offset, scale, seed) -> None:
    x, y = draws(n, m, dim, seed)
    sliced = SlicedWasserstein(5, p, seed=seed)
    value = float(sliced.distance(x, y))
    assert value >= 0
    assert float(sliced.distance(y, x)) == pytest.approx(value, rel=1e-9, abs=1e-12)
    assert float(sliced.distance(x.flip(0), y.roll(1, 0))) == pytest.approx(value, rel=1e-9, abs=1e-12)
    assert float(sliced.distance(x + offset, y + offset)) == pytest.approx(value, rel=1e-6, abs=1e-9)
    assert float(sliced.distance(scale * x, scale * y)) == pytest.approx(scale * value, rel=1e-9, abs=1e-12)
    assert float(sliced.distance(x, x)) == 0


def test_rotations_change_nothing_but_the_directions() -> None:
    """The same up to the spread of a mean over 2,000 directions: four standard errors, measured."""
    x, y = draws(40, 40, 3, 100)
    y = y * torch.tensor([2.0, 1.0, 0.5], dtype=y.dtype)
    turn = torch.linalg.qr(draws(3, 1, 3, 101)[0])[0]
    lines = directions(3, 2000, torch.Generator().manual_seed(100), x)
    plain, turned = projected_power(x, y, lines), projected_power(x @ turn, y @ turn, lines)
    assert abs(float((plain - turned).mean())) < 4 * float((plain - turned).std()) / math.sqrt(2000)
    # turning the directions along with the samples is no change at all
    assert torch.allclose(projected_power(x @ turn, y @ turn, lines @ turn), plain)


def test_far_from_the_origin_in_float32() -> None:
    """An offset of 1,024 leaves float32 a resolution of 6e-5, and that is the tolerance."""
    x, y = draws(200, 150, 3, 100, torch.float32)
    near = float(SlicedWasserstein().distance(x, y))
    assert float(SlicedWasserstein().distance(x + 1024, y + 1024)) == pytest.approx(near, abs=6e-5)


def test_seeds() -> None:
    x, y = draws(30, 30, 4, 100)
    value = float(SlicedWasserstein(seed=1).distance(x, y))
    assert float(SlicedWasserstein(seed=1).distance(x, y)) == value
    assert float(SlicedWasserstein(seed=2).distance(x, y)) != value
    drawn = SlicedWasserstein(seed=torch.Generator().manual_seed(1))
    assert float(drawn.distance(x, y)) != float(drawn.distance(x, y))


@settings(max_examples=40)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=30))
def test_rows_are_sorted_with_their_order(values: list[float]) -> None:
    """Zeros of either sign, denormals and large numbers too; the order leads back to the values."""
    rows = torch.tensor([values, values[::-1]], dtype=torch.float32)
    for dtype in (torch.float32, torch.float64):
        ascending, order = sort_rows_with_order(rows.to(dtype))
        expected = rows.to(dtype).sort(dim=1).values
        assert torch.equal(ascending, expected)
        assert torch.equal(rows.to(dtype).gather(1, order), expected)
        assert torch.equal(order.sort(dim=1).values, torch.arange(len(values)).expand(2, -1))
        assert torch.equal(sort_rows(rows.to(dtype)), expected)


def test_what_is_refused() -> None:
    x, y = draws(10, 10, 2, 100)
    for arguments, message in [
        ({"projections": 0}, "projections: expected a positive int; got 0"),
        ({"p": 3}, "p: expected 1 or 2; got 3"),
        ({"ascent": -1}, "ascent: expected an int of 0 or more; got -1"),
    ]:
        with pytest.raises(ValueError, match=message):
            SlicedWasserstein(**arguments)
    x[3, 1] = math.nan
    with pytest.raises(ValueError, match="x: expected finite values; 1 of 10"):
        SlicedWasserstein().distance(x, y)
