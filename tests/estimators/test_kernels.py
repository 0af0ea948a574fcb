"""Kernels: their formulas, their weights, their spectra, and the bandwidths placed by distances."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from implicit_estimators.kernels import (
    KERNELS,
    Gaussian,
    Kernel,
    Laplace,
    NegativeDistance,
    Polynomial,
    RationalQuadratic,
    ladder,
    median_distance,
    squared_distances,
)
from implicit_estimators.kernels.distances import exact_squared_distances

WIDTHS = [(1.0,), (0.5, 1.0, 2.0, 4.0), (0.3, 1.7), (1.0, 0.25), tuple(2.0**-b for b in range(9))]
widths = pytest.mark.parametrize("bandwidths", WIDTHS, ids=str)
SPECTRAL = [Gaussian((0.5, 1.0, 3.0)), RationalQuadratic((0.7, 2.0), 1.5), Laplace((1.0, 2.0))]


def points(n: int, d: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@widths
def test_gaussians_are_their_formula(bandwidths) -> None:
    squared = torch.linspace(0, 50, 101, dtype=torch.float64)
    expected = torch.stack([(-squared / (2 * width**2)).exp() for width in bandwidths]).mean(0)
    assert torch.allclose(Gaussian(bandwidths).of(squared), expected, rtol=1e-12, atol=1e-300)
    assert float(squared[-1]) == 50  # and its argument is left alone


def test_the_others_are_their_formulas() -> None:
    s = torch.linspace(0, 50, 101, dtype=torch.float64)
    quadratic = torch.stack([(1 + s / (2 * a * 4)) ** -a for a in (0.2, 3.0)]).mean(0)
    assert torch.allclose(RationalQuadratic((0.2, 3.0), 2.0).of(s), quadratic, rtol=1e-12)
    laplace = torch.stack([(-s.sqrt() / width).exp() for width in (0.5, 2.0)]).mean(0)
    assert torch.allclose(Laplace((0.5, 2.0)).of(s), laplace, rtol=1e-12)
    assert torch.allclose(NegativeDistance().of(s), -s.sqrt())
    x, y = points(3, 5, 0), points(4, 5, 1)
    assert torch.allclose(Polynomial().matrix(x, y), (x @ y.T / 5 + 1) ** 3)
    assert torch.allclose(Polynomial(2, 0.3, 0.0).matrix(x, y), (0.3 * x @ y.T) ** 2)


@pytest.mark.parametrize("name", KERNELS)
def test_weights_are_derivatives(name: str) -> None:
    """Away from 0, where two kernels have none."""
    kernel = KERNELS[name]()
    argument = torch.linspace(0.1, 9, 30, dtype=torch.float64, requires_grad=True)
    value, weight = kernel.of_with_weight(argument.detach())
    (slope,) = torch.autograd.grad(kernel.of(argument).sum(), argument)
    assert torch.allclose(value, kernel.of(argument.detach()), rtol=1e-12)
    assert torch.allclose(weight, -2 * slope if kernel.radial else slope, rtol=1e-10)


@pytest.mark.parametrize("name", KERNELS)
def test_a_row_of_pairs_is_the_diagonal_of_the_matrix(name: str) -> None:
    x, y = points(6, 3, 0), points(6, 3, 1)
    kernel = KERNELS[name]()
    assert torch.allclose(kernel.paired(x, y), kernel.matrix(x, y).diagonal(), rtol=1e-12)
    batched = kernel.matrix(torch.stack([x, y]), torch.stack([y, y]))
    assert torch.allclose(batched[0], kernel.matrix(x, y), rtol=1e-10)


@pytest.mark.parametrize("kernel", [Laplace(), NegativeDistance()], ids=str)
def test_a_kink_has_the_slope_zero(kernel: Kernel) -> None:
    x = points(4, 2, 0).requires_grad_()
    (slope,) = torch.autograd.grad(kernel.matrix(x, x).diagonal().sum(), x)
    assert torch.equal(slope, torch.zeros_like(slope))
    assert torch.equal(kernel.of_with_weight(torch.zeros(3))[1], torch.zeros(3))


@pytest.mark.parametrize("kernel", SPECTRAL, ids=str)
def test_a_spectrum_gives_the_kernel_back(kernel: Kernel) -> None:
    """E cos(omega (x - y)) over 100,000 draws: within four standard errors, sqrt(1 / 2) / sqrt(n) at most."""
    x = torch.tensor([[0.3, -0.2], [1.0, 0.5], [0.0, 2.0]], dtype=torch.float64)
    zero = torch.zeros(1, 2, dtype=torch.float64)
    frequencies = kernel.frequencies(100_000, 2, seed=0)
    found = torch.cos(x @ frequencies.T).mean(1)
    assert torch.allclose(found, kernel.matrix(x, zero)[:, 0], atol=4 * math.sqrt(0.5 / 100_000))
    assert torch.equal(frequencies[:9], kernel.frequencies(100_000, 2, seed=0)[:9])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(2, 7), st.integers(0, 10_000), st.sampled_from(sorted(KERNELS)))
def test_kernels_are_symmetric_and_positive(d: int, n: int, seed: int, name: str) -> None:
    """Of the negative distance, only on weights that sum to zero; rounding is 1e-12 of the largest eigenvalue."""
    x = points(n, d, seed)
    matrix = KERNELS[name]().matrix(x, x)
    assert torch.allclose(matrix, matrix.T, rtol=1e-9)
    centring = torch.eye(n, dtype=torch.float64) - 1 / n
    eigenvalues = torch.linalg.eigvalsh(centring @ matrix @ centring)
    assert float(eigenvalues.min()) > -1e-12 * max(1.0, float(eigenvalues.max()))


@pytest.mark.parametrize("name", [name for name, kernel in KERNELS.items() if kernel.radial])
@settings(max_examples=10, deadline=None)
@given(st.floats(-100, 100), st.integers(0, 1000))
def test_radial_kernels_do_not_see_translations(name: str, shift: float, seed: int) -> None:
    """A distance near 100 keeps 14 digits after the point."""
    x, y, kernel = points(4, 2, seed), points(3, 2, seed + 1), KERNELS[name]()
    assert torch.allclose(kernel.matrix(x + shift, y + shift), kernel.matrix(x, y), atol=1e-9)


def test_distances_are_never_negative() -> None:
    x = points(300, 3, 0, torch.float32)
    assert squared_distances(x, x).min() == 0
    assert torch.allclose(squared_distances(x, x), exact_squared_distances(x, x), atol=1e-4)
    assert torch.equal(exact_squared_distances(x, x).diagonal(), torch.zeros(300))


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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gaussian(()), r"bandwidths: expected positive numbers; got \(\)"),
        (lambda: Gaussian((1.0, 0.0)), "bandwidths: expected positive numbers"),
        (lambda: Gaussian((math.nan,)), "bandwidths: expected positive numbers"),
        (lambda: Laplace((-1.0,)), "bandwidths: expected positive numbers"),
        (lambda: RationalQuadratic((0.0,)), "alphas: expected positive numbers"),
        (lambda: RationalQuadratic(width=math.inf), "width: expected positive numbers"),
        (lambda: Polynomial(0), "degree: expected a positive int; got 0"),
        (lambda: Polynomial(scale=-1.0), "scale: expected positive numbers"),
        (lambda: Polynomial(offset=-1.0), "offset: expected a number that is not negative"),
    ],
)
def test_bad_settings_are_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("kernel", [Polynomial(), NegativeDistance()], ids=str)
def test_a_kernel_without_a_spectrum_says_so(kernel: Kernel) -> None:
    with pytest.raises(TypeError, match="kernel: expected one with a spectral law"):
        kernel.frequencies(10, 2)
