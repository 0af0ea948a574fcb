"""Losses of candidates: gradients against autograd, the least value at the true ratio, and finite far out."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from implicit_estimators.networks.candidate_losses import BalancedLoss, BinaryLoss, ContrastiveLoss, SoftmaxLoss

LOSSES = {
    "binary": BinaryLoss(),
    "balanced": BalancedLoss(weight=10.0),
    "softmax": SoftmaxLoss(4),
    "contrastive": ContrastiveLoss(3, 0.7),
}


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=25, deadline=None)
@given(scale=st.floats(0.01, 30), seed=st.integers(0, 1000))
def test_gradients_are_those_of_autograd(name: str, scale: float, seed: int) -> None:
    loss, draw = LOSSES[name], torch.Generator().manual_seed(seed)
    h = scale * torch.randn(2, loss.candidates, 6, generator=draw, dtype=torch.float64)
    h.requires_grad_()
    (slope,) = torch.autograd.grad(loss.value(h).sum(), [h])
    torch.testing.assert_close(loss.gradient(h.detach()), slope, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("value", [-1e4, 1e4])
def test_values_and_gradients_are_finite_far_out(name: str, value: float) -> None:
    loss = LOSSES[name]
    h = torch.full((1, loss.candidates, 3), value)
    h[:, 0] = -value
    assert torch.isfinite(loss.value(h)).all()
    assert torch.isfinite(loss.gradient(h)).all()
    if value > 0 and name != "balanced":  # wrong and sure of it: the gradient must be alive
        assert (loss.gradient(h)[:, 0] < -0.1).all()


def log_ratio(theta: torch.Tensor, x: torch.Tensor, sigma: float = 0.5) -> torch.Tensor:
    """Of x = theta + sigma * noise, for theta standard normal."""
    variance = 1 + sigma**2
    return -0.5 * ((x - theta) / sigma) ** 2 - math.log(sigma) + 0.5 * x**2 / variance + 0.5 * math.log(variance)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_least_at_the_true_ratio(name: str) -> None:
    """Stretched or shifted log-ratios cost more; a shift costs nothing where the loss does not know the constant."""
    loss, draw = LOSSES[name], torch.Generator().manual_seed(2)
    theta = torch.randn(1, loss.candidates, 40_000, generator=draw)
    x = theta[:, :1] + 0.5 * torch.randn(1, 1, 40_000, generator=draw)
    h = log_ratio(theta, x)
    best = loss.value(h)
    assert all(loss.value(other) > best for other in (1.3 * h, 0.7 * h))
    for other in (h + 0.5, h - 0.5):
        if loss.normalised:
            assert loss.value(other) > best
        else:
            torch.testing.assert_close(loss.value(other), best, rtol=1e-4, atol=1e-5)


def test_the_penalty_is_that_of_the_balance() -> None:
    """E_joint[d] + E_marginal[d] = 1 at the true ratio, within 5 standard errors; a shift by 1 adds its square."""
    draw = torch.Generator().manual_seed(3)
    theta = torch.randn(1, 2, 100_000, generator=draw)
    h = log_ratio(theta, theta[:, :1] + 0.5 * torch.randn(1, 1, 100_000, generator=draw))
    share = h.sigmoid().sum(1)
    assert abs(float(share.mean()) - 1) < 5 * float(share.std()) / 100_000**0.5
    imbalance = float((h + 1).sigmoid().sum(1).mean()) - 1
    extra = BalancedLoss(100.0).value(h + 1) - BalancedLoss(0.0).value(h + 1)
    torch.testing.assert_close(extra, torch.tensor([100 * imbalance**2]), rtol=1e-3, atol=1e-5)
    assert BalancedLoss(0.0).value(h) == pytest.approx(2 * float(BinaryLoss().value(h)), rel=1e-6)


def test_one_contrast_is_the_binary_loss_and_large_odds_are_the_softmax() -> None:
    h = torch.randn(2, 2, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(ContrastiveLoss(1, 1.0).value(h), BinaryLoss().value(h))
    many = torch.randn(2, 6, 50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(
        ContrastiveLoss(5, 1e9).value(many), SoftmaxLoss(5).value(many[:, :5]), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: BalancedLoss(-1.0), "weight"),
        (lambda: SoftmaxLoss(1), "atoms"),
        (lambda: ContrastiveLoss(0), "contrasts"),
        (lambda: ContrastiveLoss(3, 0.0), "gamma"),
    ],
)
def test_settings_out_of_range_are_refused(make, named: str) -> None:
    with pytest.raises(ValueError, match=f"{named}: expected"):
        make()
