"""Energy distance: the closed form for Gaussians, the sum over all pairs, its gradient, and what leaves it as it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import energy_distance

from implicit_estimators.discrepancies import EnergyDistance


def closed_form(shift: float) -> float:
    """Of N(0, 1) and N(shift, 1): 2 E|N(shift, 2)| - 2 E|N(0, 2)|."""
    root = math.sqrt(2)
    folded = root * math.sqrt(2 / math.pi) * math.exp(-(shift**2) / 4) + shift * math.erf(shift / 2)
    return 2 * folded - 2 * root * math.sqrt(2 / math.pi)


def draws(n: int, m: int, dim: int, seed: int, shift: float = 0.0, dtype: torch.dtype = torch.float64):
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(n, dim, generator=random, dtype=dtype)
    return x, torch.randn(m, dim, generator=random, dtype=dtype) + shift


def naive(x: torch.Tensor, y: torch.Tensor, beta: float, unbiased: bool) -> torch.Tensor:
    def total(a, b):
        return (a[:, None] - b[None]).square().sum(-1).sqrt().pow(beta).sum()

    n, m = len(x), len(y)
    within_x, within_y = (total(s, s) / (len(s) * (len(s) - 1) if unbiased else len(s) ** 2) for s in (x, y))
    return 2 * total(x, y) / (n * m) - within_x - within_y


@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_two_gaussians_without_bias(shift: float) -> None:
    """The mean of 200 repeats with 40 and 60 samples, within four of its standard errors; at shift 0 too."""
    energy = EnergyDistance()
    values = torch.stack([energy.squared(*draws(40, 60, 1, seed, shift)) for seed in range(100, 300)])
    assert abs(float(values.mean()) - closed_form(shift)) < 4 * float(values.std()) / math.sqrt(200)
    if shift == 0:
        assert (values < 0).any()


@pytest.mark.parametrize("dim", [1, 3])
@pytest.mark.parametrize("beta", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("unbiased", [True, False])
def test_it_is_the_sum_over_all_pairs_in_any_blocks(dim: int, beta: float, unbiased: bool) -> None:
    x, y = draws(23, 17, dim, 100, 0.5)
    expected = float(naive(x, y, beta, unbiased))
    for block in (4, 10, 1000):
        assert float(EnergyDistance(beta, unbiased, block).squared(x, y)) == pytest.approx(expected, rel=1e-10)


def test_scipy_has_the_square_root_of_the_biased_form_on_the_line() -> None:
    x, y = draws(50, 31, 1, 100, 0.7)
    y[:10] = x[:10]  # ties
    value = float(EnergyDistance(unbiased=False).squared(x, y))
    assert value == pytest.approx(energy_distance(x[:, 0].numpy(), y[:, 0].numpy()) ** 2, rel=1e-10)


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("beta", [0.6, 1.0, 1.5])
@pytest.mark.parametrize("unbiased", [True, False])
def test_its_gradient_is_that_of_finite_differences(dim: int, beta: float, unbiased: bool) -> None:
    x, y = (s.requires_grad_() for s in draws(6, 5, dim, 100, 1))
    assert torch.autograd.gradcheck(EnergyDistance(beta, unbiased, block=4).squared, (x, y))


@settings(max_examples=20)
@given(
    st.integers(1, 3),
    st.integers(2, 12),
    st.integers(2, 12),
    st.sampled_from([0.5, 1.0, 1.9]),
    st.floats(-100, 100),
    st.floats(0.1, 10),
    st.integers(0, 10**6),
)
def test_shifts_rotations_order_and_scale(dim, n, m, beta, offset, scale, seed) -> None:
    """Not negative with pairs of equals; unchanged by isometries, order and roles; of degree beta in scale."""
    x, y = draws(n, m, dim, seed, 0.3)
    turn = torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(seed), dtype=x.dtype))[0]
    energy = EnergyDistance(beta, unbiased=False, block=5)
    value = float(energy.squared(x, y))
    assert value >= -1e-12
    assert float(energy.squared(y, x)) == pytest.approx(value, abs=1e-10)
    assert float(energy.squared(x.flip(0), y.roll(1, 0))) == pytest.approx(value, abs=1e-10)
    assert float(energy.squared(x @ turn + offset, y @ turn + offset)) == pytest.approx(value, abs=1e-7)
    assert float(energy.squared(scale * x, scale * y)) == pytest.approx(scale**beta * value, abs=1e-9)


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_samples_that_coincide(dim: int, beta: float) -> None:
    """At distance 0, and without a slope between them, however far away the others are.

    Squares of 1e3 are rounded by 1e-10 in float64, and the smallest roots by about that to the power of beta / 2.
    """
    x = draws(30, 2, dim, 100, dtype=torch.float32)[0]
    x[:5] += 1e3
    energy = EnergyDistance(beta, unbiased=False, block=7)
    leaf = x.clone().requires_grad_()
    value = energy.squared(leaf, x)
    value.backward()
    assert float(value.detach()) == pytest.approx(0, abs=1e-5)
    assert leaf.grad is not None
    assert float(leaf.grad.abs().max()) < 1e-5


@pytest.mark.parametrize("dim", [1, 3])
def test_far_from_the_origin_in_float32(dim: int) -> None:
    """An offset of 1,024 leaves float32 a resolution of 6e-5, and that is the tolerance."""
    x, y = draws(200, 150, dim, 100, 0.5, torch.float32)
    near = float(EnergyDistance().squared(x, y))
    assert float(EnergyDistance().squared(x + 1024, y + 1024)) == pytest.approx(near, abs=6e-5)


@pytest.mark.parametrize("dim", [1, 3])
def test_one_sample_of_each(dim: int) -> None:
    x, y = torch.zeros(1, dim), torch.full((1, dim), 2.0)
    assert float(EnergyDistance(unbiased=False).squared(x, y)) == pytest.approx(4 * math.sqrt(dim))
    with pytest.raises(ValueError, match="x: expected at least 2 rows; got 1"):
        EnergyDistance().squared(x, y)


def test_it_can_be_descended_from_far_away() -> None:
    """A shift of 70 standard deviations is undone; four standard errors of the difference of two means of 100."""
    x, y = draws(100, 100, 2, 100, dtype=torch.float32)
    shift = torch.tensor([50.0, -50.0])
    for step in range(40):
        leaf = shift.clone().requires_grad_()
        (slope,) = torch.autograd.grad(EnergyDistance().squared(x + leaf, y), leaf)
        shift = shift - 8 * 0.9**step * slope
    assert float(shift.abs().max()) < 4 * math.sqrt(2 / 100)


def test_what_is_refused() -> None:
    x, y = draws(10, 10, 2, 100)
    for arguments, message in [
        ({"beta": 0.0}, r"beta: expected a number inside \(0, 2\); got 0.0"),
        ({"beta": 2.0}, r"beta: expected a number inside \(0, 2\); got 2.0"),
        ({"beta": math.nan}, "beta: expected"),
        ({"block": 0}, "block: expected a positive int; got 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            EnergyDistance(**arguments)
    x[3, 1] = math.nan
    with pytest.raises(ValueError, match="x: expected finite values; 1 of 10"):
        EnergyDistance().squared(x, y)
    with pytest.raises(ValueError, match="as many columns in both; got 2 and 1"):
        EnergyDistance().squared(y, np.zeros(4))
