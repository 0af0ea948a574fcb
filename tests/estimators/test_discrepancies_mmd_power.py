"""The variance of MMD against enumeration and repeats, the criterion's choices, and the test that is exact."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from implicit_estimators.discrepancies import mmd_power as module
from implicit_estimators.discrepancies.mmd import MMD
from implicit_estimators.discrepancies.mmd_permutation import mmd_test
from implicit_estimators.discrepancies.mmd_power import mmd_variance, most_powerful, power_criterion
from implicit_estimators.kernels import Gaussian, Laplace, Polynomial, RationalQuadratic


def normal(n: int, d: int, seed: int, shift: float = 0.0) -> Tensor:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[:, 0] += shift
    return x


def enumerated(x: Tensor, y: Tensor, kernel) -> float:
    """Cov of each two terms of the statistic, every expectation a mean over all choices of different samples."""
    n, m = len(x), len(y)
    xx, yy, xy = kernel.matrix(x, x), kernel.matrix(y, y), kernel.matrix(x, y)

    def mean(product, rows: int, columns: int) -> float:
        choices = list(
            itertools.product(itertools.permutations(range(n), rows), itertools.permutations(range(m), columns))
        )
        return sum(float(product(i, j)) for i, j in choices) / len(choices)

    def own(k, rows: int, columns: int, size: int, pick) -> float:
        corner = mean(
            lambda i, j: k[pick(i, j)[0], pick(i, j)[1]] * k[pick(i, j)[0], pick(i, j)[2]], 3 * rows, 3 * columns
        )
        square = mean(lambda i, j: k[pick(i, j)[0], pick(i, j)[1]] ** 2, 2 * rows, 2 * columns)
        apart = mean(
            lambda i, j: k[pick(i, j)[0], pick(i, j)[1]] * k[pick(i, j)[2], pick(i, j)[3]], 4 * rows, 4 * columns
        )
        return (4 * (size - 2) * (corner - apart) + 2 * (square - apart)) / (size * (size - 1))

    within = own(xx, 1, 0, n, lambda i, j: i) + own(yy, 0, 1, m, lambda i, j: j)
    apart = mean(lambda i, j: xy[i[0], j[0]] * xy[i[1], j[1]], 2, 2)
    cross = (m - 1) * (mean(lambda i, j: xy[i[0], j[0]] * xy[i[0], j[1]], 1, 2) - apart)
    cross += (n - 1) * (mean(lambda i, j: xy[i[0], j[0]] * xy[i[1], j[0]], 2, 1) - apart)
    cross += mean(lambda i, j: xy[i[0], j[0]] ** 2, 1, 1) - apart
    shared = mean(lambda i, j: xx[i[0], i[1]] * xy[i[0], j[0]], 2, 1)
    shared_x = 2 / n * (shared - mean(lambda i, j: xx[i[0], i[1]] * xy[i[2], j[0]], 3, 1))
    shared = mean(lambda i, j: yy[j[0], j[1]] * xy[i[0], j[0]], 1, 2)
    shared_y = 2 / m * (shared - mean(lambda i, j: yy[j[0], j[1]] * xy[i[0], j[2]], 1, 3))
    return within + 4 * cross / (n * m) - 4 * shared_x - 4 * shared_y


@pytest.mark.parametrize("kernel", [Gaussian((0.7, 2.0)), Polynomial()], ids=lambda k: k.name)
@pytest.mark.parametrize("rows", [2, 1024])
def test_the_variance_is_what_enumeration_gives(kernel, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", rows)
    x, y = normal(5, 2, 0), normal(4, 2, 1, 0.7)
    assert float(mmd_variance(x, y, kernel)) == pytest.approx(enumerated(x, y, kernel), rel=1e-9)


@pytest.mark.slow  # two thousand repeats; enumeration above is the quick proof
@pytest.mark.parametrize(("n", "m", "shift"), [(12, 12, 1.0), (8, 20, 0.0)])
def test_the_variance_is_that_of_repeats(n: int, m: int, shift: float) -> None:
    """1,000 repeats: the mean estimate and the variance of the statistic, within four of their standard errors."""
    kernel, mmd, found = Gaussian((1.0,)), MMD((1.0,)), []
    for seed in range(1000):
        x, y = normal(n, 1, seed), normal(m, 1, 5000 + seed, shift)
        found.append((float(mmd.squared(x, y)), float(mmd_variance(x, y, kernel))))
    values, estimates = torch.tensor(found, dtype=torch.float64).T
    squares = (values - values.mean()).square()
    error = math.sqrt((float(squares.var()) + float(estimates.var())) / 1000)
    assert abs(float(squares.mean() - estimates.mean())) < 4 * error
    assert float(squares.mean()) > 8 * error  # that is, the two would be told apart from half or twice of it


def test_the_criterion_is_the_statistic_in_standard_deviations() -> None:
    x, y, kernel = normal(40, 2, 0), normal(30, 2, 1, 1.0), RationalQuadratic()
    expected = MMD(kernel=kernel).squared(x, y) / mmd_variance(x, y, kernel).sqrt()
    assert float(power_criterion(x, y, kernel)) == pytest.approx(float(expected), rel=1e-9)
    assert math.isfinite(float(power_criterion(torch.zeros(5, 1), torch.ones(5, 1), kernel)))  # variance 0: the floor
    assert float(power_criterion(y, x, kernel)) == pytest.approx(float(expected), rel=1e-9)


def test_the_criterion_can_be_climbed() -> None:
    x, y = normal(6, 2, 0).requires_grad_(), normal(5, 2, 1, 1.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: power_criterion(x, y, Gaussian((1.0, 2.0))), (x, y), fast_mode=True)


def test_it_chooses_a_bandwidth_of_the_size_of_the_difference() -> None:
    """A grid of peaks 1 apart under an equal broad law: the median distance, 4, sees nothing; fine kernels do."""
    draw = torch.Generator().manual_seed(0)
    broad = 3 * torch.randn(2, 400, 1, generator=draw)
    x = broad[0].round() + 0.05 * torch.randn(400, 1, generator=draw)
    chosen = most_powerful(x, broad[1])
    assert isinstance(chosen, Gaussian)
    assert max(chosen.bandwidths) < 1
    shifted = most_powerful(broad[0], broad[1] + 2)
    assert isinstance(shifted, Gaussian)
    assert max(shifted.bandwidths) > 1
    assert most_powerful(x, broad[1], [Laplace()]) == Laplace()
    with pytest.raises(ValueError, match="kernels: expected at least one; got none"):
        most_powerful(x, x, [])


def test_the_permuted_statistics_are_those_of_mmd() -> None:
    from implicit_estimators.discrepancies.mmd_permutation import _statistics

    x, y = normal(9, 2, 0), normal(7, 2, 1)
    kernel, pooled = Gaussian((1.0, 2.0)), torch.cat([x, y])
    found = _statistics(x, y, kernel, 5, torch.Generator().manual_seed(3))
    draw = torch.Generator().manual_seed(3)
    assert float(found[0]) == pytest.approx(float(MMD(kernel=kernel).squared(x, y)), abs=1e-12)
    for value in found[1:]:
        order = torch.randperm(16, generator=draw)
        first = torch.zeros(16, dtype=torch.bool)
        first[order[:9]] = True
        expected = MMD(kernel=kernel).squared(pooled[first], pooled[~first])
        assert float(value) == pytest.approx(float(expected), abs=1e-12)


def test_the_p_value_is_honest_and_has_power() -> None:
    """Under p = q at most a share a is below a, give or take four binomial standard errors of 100 tests."""
    kernel = Gaussian()
    same = [
        mmd_test(normal(20, 1, s), normal(16, 1, 900 + s), kernel, permutations=19, seed=s).p_value for s in range(100)
    ]
    for level in (0.1, 0.3):
        assert sum(p <= level for p in same) / 100 < level + 4 * math.sqrt(level * (1 - level) / 100)
    assert min(same) < 0.2  # nor is it stuck at 1
    found = mmd_test(normal(100, 1, 0), normal(80, 1, 1, 1.5), permutations=199, seed=0)
    assert found.p_value == 1 / 200
    assert (found.n_x, found.n_y) == (50, 40)
    assert found == mmd_test(normal(100, 1, 0), normal(80, 1, 1, 1.5), permutations=199, seed=0)
    fixed = mmd_test(normal(100, 1, 0), normal(80, 1, 1, 1.5), Laplace(), permutations=99, seed=0)
    assert (fixed.n_x, fixed.kernel, fixed.p_value) == (100, Laplace(), 0.01)


def test_samples_that_are_all_the_same_prove_nothing() -> None:
    assert mmd_test(torch.zeros(9, 2), torch.zeros(8, 2), seed=0).p_value == 1


def test_bad_arguments_are_named() -> None:
    x = normal(20, 1, 0)
    for arguments, message in [
        ({"permutations": 0}, "permutations: expected a positive int; got 0"),
        ({"share": 1.0}, "share: expected a share inside"),
    ]:
        with pytest.raises(ValueError, match=message):
            mmd_test(x, x, **arguments)
    with pytest.raises(ValueError, match="y: expected at least 8 rows; got 7"):
        mmd_test(x, x[:7])
    with pytest.raises(ValueError, match="x: expected at least 4 rows; got 3"):
        mmd_variance(x[:3], x, Gaussian())
    x[3] = math.nan
    with pytest.raises(ValueError, match="x: expected finite values; 1 of 20 rows hold NaN"):
        mmd_variance(x, x, Gaussian())
