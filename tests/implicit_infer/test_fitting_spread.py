"""Sandwich covariances against the exact ones of linear Gaussian problems; what is not told keeps the prior's width."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from implicit_infer.fitting import spread
from implicit_infer.fitting.space import Space
from tests.implicit_infer.location_scale import LocationScale

SLOPE = torch.tensor([[2.0, 0.3], [0.0, 1.0]], dtype=torch.float64)
NOISE = torch.tensor([[1.0, 0.0], [0.5, 0.7]], dtype=torch.float64)


def problem(n: int, slope: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Moments that are linear in the distance, with noise of a known covariance."""
    random = torch.Generator().manual_seed(seed)
    delta = spread.offsets(n, 2, random)
    return delta @ slope.T + torch.randn(n, 2, generator=random, dtype=torch.float64) @ NOISE.T, delta


def exact(m: float) -> Tensor:
    inverse = torch.linalg.inv(SLOPE)
    data = inverse @ NOISE @ NOISE.T @ inverse.T / m
    # the prior's precision is part of what is given
    return torch.linalg.inv(torch.linalg.inv(data) + torch.eye(2))


def test_gradients_of_groups_give_the_sandwich():
    """Relative errors of entries have a standard deviation of about 2/(STEP sqrt(n)) = .1 here."""
    moments, delta = problem(10_000, SLOPE)
    found = spread.of_gradients(moments, delta, per_group=5, m=500)
    assert torch.allclose(found, exact(100), rtol=0.4, atol=1e-3)


def test_features_beside_features_that_tell_nothing_change_nothing():
    moments, delta = problem(10_000, SLOPE)
    idle = torch.randn(10_000, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = spread.of_features(torch.cat([moments, idle], 1), delta, 100)
    assert torch.allclose(found, exact(100), rtol=0.4, atol=1e-3)


def test_a_kernel_of_means_gives_the_covariance_of_the_mean():
    """With k(x, y) = xy the estimate is the data's mean: variance s^2/m for x = v + s z."""
    random = torch.Generator().manual_seed(2)
    delta_x, delta_y = spread.offsets(2000, 1, random), spread.offsets(2000, 1, random)
    x, y = (delta + 3 + 0.5 * torch.randn(2000, 1, generator=random) for delta in (delta_x, delta_y))
    found = spread.of_kernel(x @ y.T, delta_x, delta_y, 50)
    assert float(found) == pytest.approx(1 / (50 / 0.25 + 1), rel=0.3)


def test_what_is_not_told_keeps_the_width_of_the_prior_and_is_named():
    moments, delta = problem(2000, torch.tensor([[2.0, 0.0], [1.0, 0.0]], dtype=torch.float64))
    found = spread.of_features(moments, delta, 1000)
    assert float(found[1, 1]) == pytest.approx(1, abs=0.05)
    assert float(found[0, 0]) < 0.01
    (warning,) = spread.untold(found, ("a", "b"))
    assert "hardly tells b:" in warning
    assert spread.untold(0.01 * torch.eye(2), ("a", "b")) == []


def test_draws_stay_inside_the_support_and_have_the_covariance():
    space = Space.of(LocationScale())
    draws, covariance = spread.through(space, torch.zeros(2), 0.01 * torch.eye(2).double(), 0)
    assert bool(LocationScale().prior.support.check(draws).all())
    assert torch.allclose(torch.cov(draws.T).diagonal(), covariance.diagonal(), rtol=0.2)
