"""Sums over pairs: exact values and gradients in torch's blocks and compiled, at any distance from the origin."""

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
    pair_sum,
)
from implicit_estimators.kernels import pairs as pairs_module

SOME = [
    Gaussian((0.5, 1.0, 2.0, 4.0, 8.0)),
    Gaussian((0.3, 1.7)),
    Gaussian(tuple(2.0**-b for b in range(9))),
    RationalQuadratic(),
    RationalQuadratic((0.3, 4.0), 0.7),
    Laplace((0.5, 2.0)),
    NegativeDistance(),
    Polynomial(),
]
some = pytest.mark.parametrize("kernel", SOME, ids=str)


def points(n: int, d: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def naive(x: torch.Tensor, y: torch.Tensor | None, kernel: Kernel) -> torch.Tensor:
    """From the differences, in double precision, with autograd's gradient."""
    own = y is None
    x, y = x.double(), (x if y is None else y).double()
    if kernel.radial:
        matrix = kernel.of((x[:, None] - y[None]).square().sum(-1))
    else:
        matrix = kernel.matrix(x, y)
    return (matrix * (1 - torch.eye(len(x), dtype=torch.float64)) if own else matrix).sum()


def slopes(value: torch.Tensor, *leaves: torch.Tensor) -> list[torch.Tensor]:
    return [slope.double() for slope in torch.autograd.grad(value, leaves)]


@some
@pytest.mark.parametrize(("n", "m", "block"), [(7, 5, 3), (7, 5, 100), (6, 6, 2), (1, 9, 4), (2, 2, 1)])
def test_double_precision_is_exact_in_every_block(kernel: Kernel, n: int, m: int, block: int) -> None:
    x, y = points(n, 3, 0).requires_grad_(), points(m, 3, 1).requires_grad_()
    for other, leaves in ((y, (x, y)), (None, (x,))):
        value, expected = pair_sum(x, other, kernel, block), naive(x, other, kernel)
        assert float(value.detach()) == pytest.approx(float(expected.detach()), rel=1e-11, abs=1e-300)
        for slope, wanted in zip(slopes(value, *leaves), slopes(expected, *leaves), strict=True):
            assert torch.allclose(slope, wanted, rtol=1e-9, atol=1e-11)


@some
@pytest.mark.parametrize("d", [1, 2, 3, 10, 17])
@pytest.mark.parametrize(("n", "m"), [(1, 3), (2, 2), (129, 256), (300, 130)])
def test_single_precision_loses_nothing_that_matters(kernel: Kernel, d: int, n: int, m: int) -> None:
    """Of mean kernels, 2e-6 (some rounding errors of 6e-8, enlarged by fourth powers) times their logarithm.

    A distance of which seven digits are known leaves fewer of an exponential function that is very small.
    """
    x, y = (2 * points(k, d, seed, torch.float32) for k, seed in ((n, d), (m, 100 + d)))
    x, y = x.requires_grad_(), y.requires_grad_()
    for other, leaves in ((y, (x, y)), (None, (x,))):
        value, expected = pair_sum(x, other, kernel), naive(x, other, kernel)
        assert value.dtype == torch.float64
        mean = float(expected.detach()) / max(1, n * (m if other is not None else n - 1))
        digits = 2e-6 * (1 + abs(math.log(abs(mean)))) if mean else 0
        assert float(value.detach()) == pytest.approx(float(expected.detach()), rel=digits, abs=1e-36)
        for slope, wanted in zip(slopes(value, *leaves), slopes(expected, *leaves), strict=True):
            assert float((slope - wanted).norm()) <= 5 * digits * float(wanted.norm()) + 1e-33


@pytest.mark.parametrize("offset", [1e3, 1e5])
@pytest.mark.parametrize("kernel", [kernel for kernel in SOME if kernel.radial], ids=str)
def test_far_from_the_origin_single_precision_is_as_exact_as_its_input(kernel: Kernel, offset: float) -> None:
    """Squares of 1e10 would leave no digit of distances of order 1; the input itself is what both are given."""
    x, y = points(200, 5, 0, torch.float32) + offset, points(150, 5, 1, torch.float32) + offset
    x, y = x.requires_grad_(), y.requires_grad_()
    value, expected = pair_sum(x, y, kernel), naive(x, y, kernel)
    assert float(value.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    for slope, wanted in zip(slopes(value, x, y), slopes(expected, x, y), strict=True):
        assert float((slope - wanted).norm()) <= 1e-5 * float(wanted.norm())


def test_clusters_far_apart_keep_their_gradient() -> None:
    """One centre for all would leave coordinates of 1e5, and of a gradient of order 1 five digits fewer."""
    x = points(200, 3, 0, torch.float32)
    x = torch.cat([x - 1e5, x + 1e5]).requires_grad_()
    kernel = Gaussian((0.5, 1.0, 2.0))
    (slope,), (wanted,) = slopes(pair_sum(x, None, kernel), x), slopes(naive(x, None, kernel), x)
    assert float((slope - wanted).norm()) <= 1e-5 * float(wanted.norm())


def test_kernels_that_vanish_are_counted_as_nothing() -> None:
    """At a hundred bandwidths, below the smallest float; not NaN, and not what rounding makes of it."""
    x = torch.tensor([[0.0], [100.0]], requires_grad=True)
    value = pair_sum(x, None, Gaussian((0.25, 0.5, 1.0)))
    assert 0 <= float(value.detach()) < 1e-30
    assert float(slopes(value, x)[0].abs().max()) < 1e-30
    large = torch.tensor([[-3e38], [3e38]], requires_grad=True)
    assert float(pair_sum(large, None, Gaussian()).detach()) < 1e-30


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 17), st.integers(2, 140), st.integers(0, 1000), st.sampled_from(SOME))
def test_order_and_roles_do_not_matter(d: int, n: int, seed: int, kernel: Kernel) -> None:
    x, y = points(n, d, seed, torch.float32), points(n + 3, d, seed + 1, torch.float32)
    value = float(pair_sum(x, y, kernel))
    assert float(pair_sum(y, x, kernel)) == pytest.approx(value, rel=1e-5)
    assert float(pair_sum(x.flip(0), y.roll(2, 0), kernel)) == pytest.approx(value, rel=1e-5)
    assert float(pair_sum(x.flip(0), None, kernel)) == pytest.approx(float(pair_sum(x, None, kernel)), rel=1e-5)


def test_a_repeated_call_gives_the_same_bits() -> None:
    x = points(300, 4, 0, torch.float32).requires_grad_()
    first, second = (pair_sum(x, None, SOME[0]) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(slopes(first, x)[0], slopes(second, x)[0])


@some
def test_samples_that_are_not_contiguous_or_may_not_be_written_are_taken(kernel: Kernel) -> None:
    wide = points(20, 6, 0, torch.float32)
    x = wide[::2, ::3]
    assert float(pair_sum(x, x.clone(), kernel)) == pytest.approx(float(naive(x, x, kernel)), rel=1e-6)
    row = torch.ones(1, 2).expand(5, 2)
    assert float(pair_sum(row, None, kernel)) == pytest.approx(float(naive(row, None, kernel)), abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_only_what_is_wanted_has_a_gradient(dtype: torch.dtype) -> None:
    x, y = points(5, 2, 0, dtype).requires_grad_(), points(4, 2, 1, dtype).requires_grad_()
    both = slopes(pair_sum(x, y, SOME[0]), x, y)
    assert torch.equal(slopes(pair_sum(x, y.detach(), SOME[0]), x)[0], both[0])
    assert torch.equal(slopes(pair_sum(x.detach(), y, SOME[0]), y)[0], both[1])
    assert not pair_sum(x.detach(), y.detach(), SOME[0]).requires_grad


@some
def test_second_derivatives_are_those_of_finite_differences(kernel: Kernel) -> None:
    x, y = points(4, 2, 0).requires_grad_(), points(3, 2, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: pair_sum(x, y, kernel), (x, y))
    assert torch.autograd.gradgradcheck(lambda x, y: pair_sum(x, y, kernel), (x, y))
    assert torch.autograd.gradgradcheck(lambda x: pair_sum(x, None, kernel), (x,))
    assert torch.autograd.gradgradcheck(lambda y: pair_sum(x.detach(), y, kernel), (y,))


def test_second_derivatives_that_would_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_module, "MOST_PAIRS", 100)
    x = points(11, 2, 0).requires_grad_()
    value = pair_sum(x, None, Gaussian())
    with pytest.raises(RuntimeError, match="create_graph: a derivative of the gradient would hold 121 kernel values"):
        torch.autograd.grad(value, x, create_graph=True)
    assert slopes(value, x)[0].shape == (11, 2)


@pytest.mark.parametrize("name", KERNELS)
def test_torch_serves_where_numba_is_turned_off(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    x = points(9, 3, 0, torch.float32)
    before = float(pair_sum(x, None, KERNELS[name]()))
    monkeypatch.setattr(numba.config, "DISABLE_JIT", True)
    monkeypatch.setattr(pairs_module, "_compiled_sums", None)
    assert float(pair_sum(x, None, KERNELS[name]())) == pytest.approx(before, rel=1e-5)
