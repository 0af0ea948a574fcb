"""Standardisation: order one for every finite input, invertible, and exact far from the origin."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from implicit_estimators.networks.standardise import FARTHEST, Standardiser


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


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"location, scale: expected one shape \(d,\)"):
        Standardiser(torch.zeros(2), torch.ones(3))
    with pytest.raises(ValueError, match="scale: expected positive, finite values"):
        Standardiser(torch.zeros(2), torch.tensor([1.0, 0.0]))
