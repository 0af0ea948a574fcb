"""Linear-time, block and random-feature forms: unbiased against the closed form, and as noisy as they say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from implicit_estimators.discrepancies.mmd import MMD
from implicit_estimators.discrepancies.mmd_features import FeatureMMD
from implicit_estimators.discrepancies.mmd_linear import BlockMMD, LinearMMD
from implicit_estimators.kernels import Gaussian, Laplace, NegativeDistance, Polynomial, RationalQuadratic


def normal(n: int, d: int, seed: int, shift: float = 0.0) -> Tensor:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[:, 0] += shift
    return x


def closed_form(width: float, shift: float) -> float:
    """Of N(0, 1) and N(shift, 1)."""
    c = width**2 + 2
    return 2 * math.sqrt(width**2 / c) * -math.expm1(-(shift**2) / (2 * c))


@pytest.mark.parametrize("mmd", [LinearMMD(), BlockMMD(block=5), BlockMMD()], ids=str)
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_estimate_is_the_closed_form_within_its_error(mmd, shift: float) -> None:
    """One large sample, four of the standard errors that it states; and repeats have the spread that it states."""
    found = mmd.estimate(normal(20_000, 1, 0), normal(20_500, 1, 1, shift))
    assert abs(found - closed_form(1.0, shift)) < 4 * found.standard_error
    repeats = [mmd.estimate(normal(100, 1, s), normal(100, 1, 900 + s, shift)) for s in range(100)]
    spread = torch.tensor([float(r) for r in repeats]).std()
    stated = sum(r.standard_error for r in repeats) / 100
    # a standard deviation of 100 numbers is known to 7 %, the mean error of few blocks is low by some percent
    assert float(spread) == pytest.approx(stated, rel=0.3)


def test_terms_are_their_formula() -> None:
    x, y = normal(7, 2, 0), normal(9, 2, 1)
    k = Gaussian().matrix
    terms = LinearMMD().terms(x, y)
    assert len(terms) == 3
    for i, term in enumerate(terms):
        (a, b), (c, d) = (
            (x[2 * i : 2 * i + 1], x[2 * i + 1 : 2 * i + 2]),
            (y[2 * i : 2 * i + 1], y[2 * i + 1 : 2 * i + 2]),
        )
        assert float(term) == pytest.approx(float(k(a, b) + k(c, d) - k(a, d) - k(b, c)), rel=1e-12)
    blocks = BlockMMD(Laplace(), 3).terms(x, y)
    assert len(blocks) == 2
    expected = MMD(kernel=Laplace()).squared(x[3:6], y[3:6])
    assert float(blocks[1]) == pytest.approx(float(expected), rel=1e-12)
    assert len(BlockMMD().terms(x, y)) == 3  # of two, the root of 7


@pytest.mark.parametrize("kernel", [Gaussian((0.5, 2.0)), RationalQuadratic(), Laplace()], ids=lambda k: k.name)
@pytest.mark.parametrize("unbiased", [True, False])
def test_random_features_come_close_to_all_pairs(kernel, unbiased: bool) -> None:
    """20 draws of 2,048 frequencies: their mean, within four standard errors of it."""
    x, y = normal(200, 2, 0), normal(150, 2, 1, 1.0)
    exact = float(MMD(kernel=kernel, unbiased=unbiased).squared(x, y))
    values = [FeatureMMD(kernel, 2048, unbiased, seed=s).squared(x, y) for s in range(20)]
    found = torch.stack(values)
    assert abs(float(found.mean()) - exact) < 4 * float(found.std()) / math.sqrt(20)
    assert float(found.std()) < 0.1 * exact


def test_random_features_have_a_seed_and_do_not_see_translations() -> None:
    x, y = normal(50, 3, 0), normal(50, 3, 1, 1.0)
    mmd = FeatureMMD(features=256, seed=3)
    value = mmd.squared(x, y)
    assert torch.equal(mmd.squared(x, y), value)
    assert not torch.equal(FeatureMMD(features=256, seed=4).squared(x, y), value)
    assert float(mmd.squared(x + 1e6, y + 1e6)) == pytest.approx(float(value), rel=1e-6)
    far = mmd.squared(x.float() + 1e3, y.float() + 1e3)
    assert float(far) == pytest.approx(float(value), rel=1e-2)  # 1e3 with seven digits


@pytest.mark.parametrize("mmd", [LinearMMD(), BlockMMD(block=3), FeatureMMD(features=7)], ids=str)
def test_gradients_are_those_of_finite_differences(mmd) -> None:
    x, y = normal(6, 2, 0).requires_grad_(), normal(7, 2, 1).requires_grad_()
    assert torch.autograd.gradcheck(mmd.squared, (x, y))


def test_bad_arguments_are_named() -> None:
    x = normal(10, 1, 0)
    with pytest.raises(ValueError, match="block: expected None or an int of at least 2; got 1"):
        BlockMMD(block=1)
    with pytest.raises(ValueError, match="x: expected at least 11 rows; got 10"):
        BlockMMD(block=11).squared(x, x)
    with pytest.raises(ValueError, match="x: expected at least 2 rows; got 1"):
        LinearMMD().squared(x[:1], x)
    with pytest.raises(ValueError, match="features: expected a positive int; got 0"):
        FeatureMMD(features=0)
    for kernel in (Polynomial(), NegativeDistance()):
        with pytest.raises(TypeError, match="kernel: expected one with a spectral law"):
            FeatureMMD(kernel)
    with pytest.raises(TypeError, match="seed: expected an int, for all calls to have the same; got NoneType"):
        FeatureMMD(seed=None)
    assert math.isinf(LinearMMD().estimate(x[:2], x[:2]).standard_error)
