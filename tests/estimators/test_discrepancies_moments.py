"""Moments: the means and (co)variances that are asked for, unbiased, in any units where weights are optimal."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import chi2, kstest

from implicit_estimators.discrepancies import MomentDistance
from implicit_estimators.discrepancies.moments import products


def draws(n: int, m: int, dim: int, seed: int):
    random = torch.Generator().manual_seed(seed)
    return (torch.randn(k, dim, generator=random, dtype=torch.float64) for k in (n, m))


def test_products_are_all_monomials_once() -> None:
    x = torch.tensor([[2.0, 3.0, 5.0]])
    assert sorted(products(x, 1)[0].tolist()) == [2, 3, 5]
    assert sorted(products(x, 2)[0].tolist()) == [2, 3, 4, 5, 6, 9, 10, 15, 25]
    cubic = [a * b * c for i, a in enumerate((2, 3, 5)) for j, b in enumerate((2, 3, 5)[i:], i) for c in (2, 3, 5)[j:]]
    assert sorted(products(x, 3)[0, 9:].tolist()) == sorted(cubic)
    assert [products(torch.zeros(1, d), k).shape[1] for d, k in ((1, 4), (4, 2), (5, 3))] == [4, 14, 55]


def test_the_degree_is_what_is_seen() -> None:
    """A change of scale is nothing to means; in units of the reference, 3 standard deviations count as 9."""
    x, _ = draws(1000, 1, 1, 100)
    means, both = MomentDistance(1, unbiased=False), MomentDistance(2, unbiased=False)
    centred = x - x.mean()
    assert float(means.squared(2 * centred, centred)) == pytest.approx(0, abs=1e-20)
    assert float(both.squared(2 * centred, centred)) == pytest.approx(9, rel=1e-9)  # second moments 4 and 1
    assert float(means.squared(5 * centred + 15 * centred.std(correction=0), 5 * centred)) == pytest.approx(9, rel=1e-9)


def test_chance_alone_is_taken_off() -> None:
    """The mean of 400 repeats of one law, within four standard errors of 0; with bias it is tr Cov (1/n + 1/m)."""
    own = MomentDistance(features=lambda x: torch.stack([x[:, 0], x[:, 0].square()], 1))
    biased = MomentDistance(features=own.features, unbiased=False)
    values = torch.tensor([[float(d.squared(*draws(20, 30, 1, seed))) for d in (own, biased)] for seed in range(400)])
    errors = 4 * values.std(0) / math.sqrt(400)
    assert abs(float(values[:, 0].mean())) < float(errors[0])
    assert abs(float(values[:, 1].mean()) - (1 + 2) * (1 / 20 + 1 / 30)) < float(errors[1])
    assert (values[:, 0] < 0).any()


def test_optimal_weights_make_a_chi_squared_test() -> None:
    """Five moments of two columns under one law: p-values of 100 repeats are uniform (Kolmogorov-Smirnov, 0.1 %)."""
    test = MomentDistance(2, "optimal", unbiased=False)
    values = [chi2(5).sf(500 * float(test.squared(*draws(1000, 1000, 2, seed)))) for seed in range(100, 200)]
    assert kstest(values, "uniform").pvalue > 1e-3


def test_optimal_weights_do_not_know_units() -> None:
    """Any invertible affine map of the columns, near and far from the origin."""
    x, y = draws(200, 300, 3, 100)
    x = x * 1.2 + 0.1
    mix, _ = draws(3, 1, 3, 101)
    test = MomentDistance(2, "optimal", unbiased=False)
    assert float(test.squared(1e4 * x @ mix + 1e4, 1e4 * y @ mix + 1e4)) == pytest.approx(
        float(test.squared(x, y)), rel=1e-5
    )


def test_features_that_do_not_vary_are_left_out() -> None:
    x, y = draws(50, 60, 1, 100)
    twice = MomentDistance(lambda x: torch.cat([x, x, torch.ones_like(x)], 1), "optimal", unbiased=False)
    once = MomentDistance(lambda x: x, "optimal", unbiased=False)
    assert float(twice.squared(x, y)) == pytest.approx(float(once.squared(x, y)), rel=1e-9)
    assert float(MomentDistance(2, unbiased=False).squared(torch.ones(5, 1), torch.ones(5, 1))) == 0


@pytest.mark.parametrize("weights", ["equal", "optimal"])
@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("features", [1, 2, 3, lambda x: x.sin()])
def test_its_gradient_is_that_of_finite_differences(weights, unbiased, features) -> None:
    x, y = draws(6, 30, 2, 100)
    moments = MomentDistance(features, weights, unbiased)
    assert torch.autograd.gradcheck(lambda x: moments.squared(x, y), (x.requires_grad_(),))


def test_order_and_offsets_do_not_matter() -> None:
    x, y = draws(30, 40, 2, 100)
    value = float(MomentDistance().squared(x, y))
    assert float(MomentDistance().squared(x.flip(0), y.roll(3, 0))) == pytest.approx(value, rel=1e-12)
    assert float(MomentDistance().squared(x + 1e5, y + 1e5)) == pytest.approx(value, rel=1e-6)
    own = MomentDistance(features=lambda x: x)
    assert float(own.squared(x, y)) == pytest.approx(float(own.squared(y, x)), rel=1e-12)


def test_what_is_refused() -> None:
    x, y = draws(10, 10, 2, 100)
    with pytest.raises(ValueError, match="features: expected a degree of 1 or more, or a callable; got 0"):
        MomentDistance(0)
    with pytest.raises(TypeError, match="features: expected a degree or a callable; got str"):
        MomentDistance("mean")
    with pytest.raises(ValueError, match="weights: expected 'equal' or 'optimal'; got 'best'"):
        MomentDistance(weights="best")
    with pytest.raises(ValueError, match=r"features: expected shape \(10, k\); got \(1, 2\)"):
        MomentDistance(lambda x: x.mean(0, keepdim=True)).squared(x, y)
    with pytest.raises(ValueError, match="x: expected at least 2 rows; got 1"):
        MomentDistance().squared(x[:1], y)
    assert torch.isfinite(MomentDistance(unbiased=False).squared(x[:1], y))
    x[3, 1] = math.nan
    with pytest.raises(ValueError, match="x: expected finite values; 1 of 10"):
        MomentDistance().squared(x, y)
