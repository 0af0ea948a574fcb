"""MMD: the closed form for Gaussians, unbiased where it says so, differentiable, and the same in every block."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from implicit_estimators.discrepancies import MMD
from implicit_estimators.kernels import KERNELS, Gaussian, NegativeDistance, Polynomial


def closed_form(width: float, shift: float, spread: float, dim: int = 1) -> float:
    """MMD^2 of N(0, s^2 I) and N(shift e_1, s^2 I) under a Gaussian kernel."""
    share = width**2 / (width**2 + 2 * spread**2)
    return 2 * share ** (dim / 2) * -math.expm1(-(shift**2) / (2 * (width**2 + 2 * spread**2)))


def samples(n: int, m: int, shift: float, seed: int, spread: float = 1.0, dim: int = 1):
    draw = torch.Generator().manual_seed(seed)
    x = spread * torch.randn(n, dim, generator=draw)
    y = spread * torch.randn(m, dim, generator=draw)
    y[:, 0] += shift
    return x, y


@pytest.mark.parametrize(
    ("width", "shift", "spread", "dim"), [(1, 1, 1, 1), (0.5, 2, 1, 1), (2, 0.7, 0.5, 3), (1, 0, 1, 2)]
)
def test_the_closed_form_without_bias(width: float, shift: float, spread: float, dim: int) -> None:
    """The mean of 300 repeats with 40 and 60 samples, within four of its standard errors; at shift 0 too."""
    mmd = MMD(bandwidths=(width,))
    values = torch.stack([mmd.squared(*samples(40, 60, shift, seed, spread, dim)) for seed in range(300)])
    error = float(values.std()) / math.sqrt(300)
    assert abs(float(values.mean()) - closed_form(width, shift, spread, dim)) < 4 * error
    if shift == 0:
        assert (values < 0).any()


def test_the_biased_form_adds_what_theory_says() -> None:
    """E[V - U] = (1 - E k(x, x')) (1/n + 1/m) for one law, with E k = sqrt(1 / 3) here; four standard errors."""
    n, m = 20, 50
    both = [[MMD((1.0,), unbiased=u).squared(*samples(n, m, 0, seed)) for u in (True, False)] for seed in range(300)]
    difference = torch.tensor([float(v - u) for u, v in both])
    assert all(float(v) >= 0 for _, v in both)
    expected = (1 - math.sqrt(1 / 3)) * (1 / n + 1 / m)
    assert abs(float(difference.mean()) - expected) < 4 * float(difference.std()) / math.sqrt(300)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("block", [3, 7, 1000])
def test_it_is_the_naive_sum(unbiased: bool, block: int) -> None:
    x, y = (s.double() for s in samples(23, 17, 0.5, 0, dim=4))
    widths = (0.5, 1.0, 3.0)

    def kernel(a, b):
        squared = (a[:, None] - b[None]).square().sum(-1)
        return torch.stack([(-squared / (2 * width**2)).exp() for width in widths]).mean(0)

    def mean(matrix):
        n = len(matrix)
        return (matrix.sum() - matrix.diagonal().sum()) / (n * (n - 1)) if unbiased else matrix.mean()

    expected = mean(kernel(x, x)) + mean(kernel(y, y)) - 2 * kernel(x, y).mean()
    assert float(MMD(widths, unbiased, block).squared(x, y)) == pytest.approx(float(expected), rel=1e-10)


@pytest.mark.parametrize("unbiased", [True, False])
def test_its_gradient_is_that_of_finite_differences(unbiased: bool) -> None:
    x, y = (s.double().requires_grad_() for s in samples(6, 5, 1, 0, dim=2))
    assert torch.autograd.gradcheck(MMD((0.7, 1.4), unbiased, block=4).squared, (x, y))


def test_it_can_be_descended() -> None:
    """A shift and a scale learned from 500 samples; the tolerance is four standard errors of a mean, 4 / sqrt(500)."""
    draw = torch.Generator().manual_seed(0)
    data = 2 + 0.5 * torch.randn(500, 1, generator=draw)
    model = torch.tensor([0.0, 0.0], requires_grad=True)
    mmd = MMD.placed(data, torch.randn(500, 1, generator=draw))
    optimiser = torch.optim.Adam([model], 0.05)
    for _ in range(200):
        fake = model[0] + model[1].exp() * torch.randn(500, 1, generator=draw)
        optimiser.zero_grad()
        mmd.squared(fake, data).backward()
        optimiser.step()
    mean, sd = float(model[0].detach()), float(model[1].detach().exp())
    assert mean == pytest.approx(2, abs=4 / math.sqrt(500))
    assert sd == pytest.approx(0.5, abs=4 / math.sqrt(500))


def test_order_and_roles_do_not_matter() -> None:
    x, y = samples(50, 40, 1, 0, dim=3)
    mmd = MMD.placed(x, y, block=16)
    value = float(mmd.squared(x, y))
    assert float(mmd.squared(x.flip(0), y.roll(3, 0))) == pytest.approx(value, abs=1e-6)
    assert float(mmd.squared(y, x)) == pytest.approx(value, abs=1e-6)


def test_the_same_samples_are_at_distance_zero() -> None:
    x, _ = samples(50, 2, 0, 0)
    assert float(MMD(unbiased=False).squared(x, x)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("block", [2, 500])
def test_many_sets_at_once(unbiased: bool, block: int) -> None:
    draw = torch.Generator().manual_seed(0)
    xs, y = torch.randn(9, 12, 3, generator=draw), torch.randn(20, 3, generator=draw)
    mmd = MMD((0.5, 1.0, 2.0), unbiased, block)
    one_by_one = torch.stack([mmd.squared(x, y) for x in xs])
    assert torch.allclose(mmd.batched(xs, y), one_by_one, atol=1e-6)
    xs[4, 0, 0] = math.nan
    assert mmd.batched(xs, y).isnan().tolist() == [i == 4 for i in range(9)]


def test_arrays_frames_and_columns_are_taken() -> None:
    x, y = samples(30, 40, 1, 0)
    mmd = MMD((1.0,))
    value = float(mmd.squared(x, y))
    for convert in (
        lambda s: s.numpy(),
        lambda s: pd.DataFrame(s.numpy()),
        lambda s: s[:, 0],
        lambda s: s.numpy().astype(np.float64),
    ):
        assert float(mmd.squared(convert(x), convert(y))) == pytest.approx(value, rel=1e-5)


def test_bandwidths_follow_the_samples_unless_fixed() -> None:
    x, y = samples(100, 100, 1, 0)
    assert float(MMD().squared(1e6 * x, 1e6 * y)) == pytest.approx(float(MMD().squared(x, y)), rel=1e-4)
    assert len(MMD.placed(x, y).bandwidths) == 5


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("unbiased", [True, False])
def test_another_kernel_is_taken(name: str, unbiased: bool) -> None:
    x, y = samples(12, 9, 1, 0, dim=2)
    mmd = MMD(kernel=KERNELS[name](), unbiased=unbiased)
    a, b, c = (
        KERNELS[name]().matrix(*pair) for pair in ((x.double(),) * 2, (y.double(),) * 2, (x.double(), y.double()))
    )
    own = [k.sum() - unbiased * k.trace() for k in (a, b)]
    expected = own[0] / (12 * (12 - unbiased)) + own[1] / (9 * (9 - unbiased)) - 2 * c.mean()
    assert float(mmd.squared(x, y)) == pytest.approx(float(expected), rel=1e-4)
    assert float(mmd.batched(x[None], y)[0]) == pytest.approx(float(expected), rel=1e-3)


def test_kernels_with_a_meaning_of_their_own() -> None:
    """The linear kernel compares means, the negative distance is the energy distance."""
    x, y = (s.double() for s in samples(30, 20, 1, 0, dim=3))
    means = MMD(kernel=Polynomial(1, 1.0, 0.0), unbiased=False).squared(x, y)
    assert float(means) == pytest.approx(float((x.mean(0) - y.mean(0)).square().sum()), rel=1e-9)
    within = [torch.cdist(s, s).sum() / (len(s) * (len(s) - 1)) for s in (x, y)]
    energy = 2 * torch.cdist(x, y).mean() - within[0] - within[1]
    assert float(MMD(kernel=NegativeDistance()).squared(x, y)) == pytest.approx(float(energy), rel=1e-9)


def test_bad_arguments_are_named() -> None:
    x, y = samples(10, 10, 0, 0)
    with pytest.raises(ValueError, match="y: expected finite values; 1 of 10 rows hold NaN or infinity"):
        MMD().squared(x, torch.where(torch.arange(10)[:, None] == 3, torch.nan, y))
    with pytest.raises(ValueError, match="bandwidths, kernel: expected one of them; got"):
        MMD((1.0,), kernel=Gaussian())
    for settings, message in [
        ({"bandwidths": ()}, "bandwidths: expected positive numbers"),
        ({"bandwidths": (1.0, 0.0)}, "bandwidths: expected positive numbers"),
        ({"block": 0}, "block: expected a positive int"),
    ]:
        with pytest.raises(ValueError, match=message):
            MMD(**settings)
    with pytest.raises(ValueError, match="x: expected at least 2 rows; got 1"):
        MMD().squared(x[:1], y)
    assert torch.isfinite(MMD(unbiased=False).squared(x[:1], y))
    with pytest.raises(ValueError, match=r"xs: expected shape \(B, n, 1\); got \(10, 1\)"):
        MMD((1.0,)).batched(x, y)
    with pytest.raises(ValueError, match="bandwidths: sets are compared with each other"):
        MMD().batched(x[None], y)
