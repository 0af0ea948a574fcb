"""What a ratio says of itself: nothing where it is exact, and what is wrong where it is not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from implicit_infer.posteriors.ratio.self_check import self_check

SIGMA = 0.7


def exact(theta: Tensor, x: Tensor) -> Tensor:
    """The log-ratio of x = theta + sigma noise, theta standard normal: (B, W, 1) at (B, 1)."""
    variance = 1 + SIGMA**2
    likelihood = -0.5 * ((x[:, None] - theta) / SIGMA) ** 2 - math.log(SIGMA)
    return (likelihood + 0.5 * x[:, None] ** 2 / variance + 0.5 * math.log(variance))[..., 0]


def pairs(n: int, seed: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    theta = torch.randn(n, 1, generator=draw)
    return theta, theta + SIGMA * torch.randn(n, 1, generator=draw)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("normalised", [True, False])
def test_the_exact_ratio_passes(seed: int, normalised: bool) -> None:
    figures, warnings = self_check(exact, *pairs(1000, seed), normalised)
    assert warnings == []
    assert figures["ratio_mean"] == pytest.approx(1, abs=0.1)
    assert abs(figures["calibration_slope"] - 1) < 4 * figures["calibration_slope_error"] + 0.1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda theta, x: exact(theta, x) + 0.5, "not normalised"),
        (lambda theta, x: exact(theta, x) - 0.5, "not normalised"),
        (lambda theta, x: 2 * exact(theta, x), "too sure of itself"),
        (lambda theta, x: 0.4 * exact(theta, x), "not sure enough"),
    ],
)
def test_wrong_ratios_are_told(wrong, said: str) -> None:
    _, warnings = self_check(wrong, *pairs(1000, 0), normalised=True)
    assert any(said in sentence for sentence in warnings)


def test_a_constant_is_no_fault_where_the_loss_cannot_tell_it() -> None:
    shifted, _ = self_check(lambda theta, x: exact(theta, x) + 3, *pairs(1000, 0), normalised=False)
    plain, _ = self_check(exact, *pairs(1000, 0), normalised=False)
    assert shifted == pytest.approx(plain, rel=1e-6)
