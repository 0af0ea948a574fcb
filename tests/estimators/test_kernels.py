"""Kernels: exact values and gradients in blocks, at any distance from the origin."""

from __future__ import annotations

import math

import pytest
import torch

from implicit_estimators.kernels import gaussian_kernel, ladder, median_distance, pair_sum, squared_distances

WIDTHS = [(1.0,), (0.5, 1.0, 2.0, 4.0), (0.3, 1.7), (1.0, 0.25)]
widths = pytest.mark.parametrize("bandwidths", WIDTHS, ids=str)


def points(n: int, d: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def naive(x: torch.Tensor, y: torch.Tensor, bandwidths) -> torch.Tensor:
    squared = (x[:, None] - y[None]).square().sum(-1)
    return torch.stack([(-squared / (2 * width**2)).exp() for width in bandwidths]).mean(0)


@widths
def test_the_kernel_is_its_formula(bandwidths) -> None:
    squared = torch.linspace(0, 50, 101, dtype=torch.float64)
    expected = torch.stack([(-squared / (2 * width**2)).exp() for width in bandwidths]).mean(0)
    assert torch.allclose(gaussian_kernel(squared, bandwidths), expected, rtol=1e-12, atol=1e-300)
    assert float(squared[-1]) == 50  # and its argument is left alone


@widths
@pytest.mark.parametrize(("n", "m", "block"), [(7, 5, 3), (7, 5, 100), (6, 6, 2), (1, 9, 4)])
def test_sums_in_blocks_are_the_naive_ones(bandwidths, n: int, m: int, block: int) -> None:
    x, y = points(n, 3, 0), points(m, 3, 1)
    assert float(pair_sum(x, y, bandwidths, block)) == pytest.approx(float(naive(x, y, bandwidths).sum()), rel=1e-12)
    assert float(pair_sum(x, None, bandwidths, block)) == pytest.approx(float(naive(x, x, bandwidths).sum()), rel=1e-12)


@widths
@pytest.mark.parametrize("block", [2, 3, 50])
def test_gradients_are_those_of_finite_differences(bandwidths, block: int) -> None:
    x, y = points(5, 2, 0).requires_grad_(), points(4, 2, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: pair_sum(x, y, bandwidths, block), (x, y))
    assert torch.autograd.gradcheck(lambda x: pair_sum(x, None, bandwidths, block), (x,))
    (alone,) = torch.autograd.grad(pair_sum(x.detach(), y, bandwidths, block), y)
    (both, _) = torch.autograd.grad(pair_sum(x, y, bandwidths, block), (y, x))
    assert torch.equal(alone, both)


def test_a_second_derivative_is_not_offered() -> None:
    x, scale = points(5, 2, 0).requires_grad_(), torch.ones((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(pair_sum(x, None, (1.0,)), x, create_graph=True)
    assert not slope.requires_grad
    (slope,) = torch.autograd.grad(scale * pair_sum(x, None, (1.0,)), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
def test_far_from_the_origin_float32_is_as_exact_as_its_input(offset: float) -> None:
    """Uncentred, squares of 1e10 would leave no digit of distances of order 1."""
    x, y = points(200, 5, 0, torch.float32) + offset, points(150, 5, 1, torch.float32) + offset
    exact = naive(x.double(), y.double(), (1.0, 2.0))
    assert float(pair_sum(x, y, (1.0, 2.0), 64)) == pytest.approx(float(exact.sum()), rel=1e-5)
    distances = (x.double()[:, None] - y.double()[None]).square().sum(-1)
    assert torch.allclose(squared_distances(x, y).double(), distances, rtol=1e-4, atol=1e-4)
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(pair_sum(leaf, y, (1.0, 2.0), 64), leaf)
    twin = x.double().requires_grad_()
    (expected,) = torch.autograd.grad(naive(twin, y.double(), (1.0, 2.0)).sum(), twin)
    assert torch.allclose(slope.double(), expected, rtol=1e-3, atol=1e-4)


def test_distances_are_never_negative() -> None:
    x = points(300, 3, 0, torch.float32)
    assert squared_distances(x, x).min() == 0


def test_the_median_distance_of_a_known_law() -> None:
    """x - x' ~ N(0, 2 I) in the plane: the distance is Rayleigh with median 2 sqrt(log 2); 5 % for 2000 points."""
    x, y = points(1000, 2, 0), points(1000, 2, 1)
    assert median_distance(x, y, seed=0) == pytest.approx(math.sqrt(2) * math.sqrt(2 * math.log(2)), rel=0.05)


def test_the_median_distance_has_a_seed_and_survives_ties() -> None:
    x = points(3000, 2, 0)
    before = torch.get_rng_state()
    assert median_distance(x, x, seed=1) == median_distance(x, x, seed=1) != median_distance(x, x, seed=2)
    assert torch.equal(before, torch.get_rng_state())
    same = torch.zeros(50, 2)
    assert median_distance(same, same) == 1
    same[0] = 3.0
    assert median_distance(same, torch.zeros(50, 2)) > 0
    with pytest.raises(ValueError, match="x, y: expected at least 2 samples in all; got 1 and 0"):
        median_distance(same[:1], same[:0])


def test_the_ladder_is_around_the_median() -> None:
    assert ladder(2.0) == (0.5, 1.0, 2.0, 4.0, 8.0)
    assert ladder(2.0, (1.0,)) == (2.0,)
