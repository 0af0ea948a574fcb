"""What is left after weighting: areas with the right error, and p-values that are uniform where nothing is left."""

from __future__ import annotations

import math

import pytest
import torch

from implicit_estimators.ratio.leftovers import area, balance_p_value, weighted_areas


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m"), [(250, 250), (150, 450)])
def test_p_values_of_the_truth_are_uniform(plane, n: int, m: int) -> None:
    """The largest gap of 60 uniform numbers' distribution function exceeds 1.95 / sqrt(60) once in a thousand times."""
    values = []
    for seed in range(60):
        p, q = plane.samples(n, m, seed)
        values.append(balance_p_value(p, q, plane.log_ratio(p), plane.log_ratio(q), seed))
    ordered = torch.tensor(values).sort().values
    steps = torch.arange(1, 61) / 60
    assert max(float((steps - ordered).max()), float((ordered - steps + 1 / 60).max())) < 1.95 / math.sqrt(60)


def test_kernels_see_correlations_and_means(plane) -> None:
    p, q = plane.samples(1000, 1000, 0)
    shifted = plane.log_ratio(p) - 0.5 * p[:, 1], plane.log_ratio(q) - 0.5 * q[:, 1]
    bent = plane.log_ratio(p) - 0.5 * p.prod(1), plane.log_ratio(q) - 0.5 * q.prod(1)
    for log_r in (shifted, bent):
        assert balance_p_value(p, q, *log_r, 0) == 1 / 400


@pytest.mark.parametrize("size", [0.0, 1e3, 1e8])
def test_p_values_are_never_nan(size: float) -> None:
    for p, q in (
        (torch.zeros(30, 2), torch.zeros(40, 2)),
        (torch.randn(30, 2), 1e30 * torch.randn(40, 2)),
        (torch.randn(2, 2), torch.randn(3, 2)),
    ):
        value = balance_p_value(p, q, size * torch.randn(len(p)), size * torch.randn(len(q)), 0)
        assert 0 < value <= 1


def test_areas_of_the_truth_are_one_half_and_of_nothing_are_not(plane) -> None:
    p, q = plane.samples(2000, 2000, 0)
    overlap, plain = weighted_areas(p, q, plane.log_ratio(p), plane.log_ratio(q), 0)
    for found in (overlap, plain):
        assert abs(found - 0.5) < 4 * found.standard_error
    overlap, plain = weighted_areas(p, q, torch.zeros(2000), torch.zeros(2000), 0)
    assert overlap == plain  # equal weights under both
    assert overlap > 0.75


def test_the_area_is_the_share_of_ordered_pairs() -> None:
    draw = torch.Generator().manual_seed(0)
    p, q, weight_p, weight_q = torch.rand(4, 50, generator=draw, dtype=torch.float64)
    p = p.round(decimals=1) + 0.2  # with ties
    q = q.round(decimals=1)
    pairs = (p[:, None] > q).double() + 0.5 * (p[:, None] == q)
    expected = (weight_p[:, None] * weight_q * pairs).sum() / (weight_p.sum() * weight_q.sum())
    assert area(p, weight_p, q, weight_q) == pytest.approx(float(expected))
