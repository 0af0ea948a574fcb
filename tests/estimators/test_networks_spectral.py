"""Spectral normalisation: singular values of 1, and the slope of whole critics that follows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from implicit_estimators.critics import ConditionalCritic, ConvCritic
from implicit_estimators.networks.spectral import NORMALISED, normalise_spectrally
from implicit_estimators.penalties import slopes


def steep(critic: nn.Module, x: torch.Tensor, passes: int = 100) -> nn.Module:
    """Make all weights ten times as large and let the power iteration find their norms again."""
    with torch.no_grad():
        for name, parameter in critic.named_parameters():
            if "weight" in name:
                parameter.mul_(10)
        for _ in range(passes):
            critic(x)
    return critic.eval()


def greatest(critic: nn.Module) -> list[float]:
    """The largest singular value of each normalised weight, as a matrix."""
    return [
        float(torch.linalg.matrix_norm(module.weight.detach().flatten(1), 2))
        for module in critic.modules()
        if isinstance(module, NORMALISED)
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_largest_singular_value_is_one(dtype: torch.dtype) -> None:
    """The power iteration's estimate comes from below, so the quotient comes from above."""
    x = torch.randn(8, 3, dtype=dtype, generator=torch.Generator().manual_seed(0))
    critic = steep(ConditionalCritic(3, 0, (20, 30), spectral_norm=True, seed=0, dtype=dtype), x, 300)
    assert greatest(critic) == pytest.approx([1, 1, 1], abs=2e-3)
    pictures = torch.randn(2, 1, 16, 16, dtype=dtype, generator=torch.Generator().manual_seed(0))
    assert greatest(steep(ConvCritic((1, 16, 16), 0, 4, spectral_norm=True, seed=0, dtype=dtype), pictures, 300)) == (
        pytest.approx([1, 1, 1], abs=2e-3)
    )


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "tanh", "maxout"])
def test_the_slope_of_a_critic_is_at_most_one(activation: str) -> None:
    draw = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(2000, 4, generator=draw)
    plain, bounded = (
        steep(ConditionalCritic(4, 0, (16, 16), activation=activation, spectral_norm=spectral_norm, seed=0), x[:2])
        for spectral_norm in (False, True)
    )
    assert slopes(plain, x).max() > 5
    assert slopes(bounded, x).max() <= 1.005
    far = 3 * torch.randn(2000, 4, generator=draw)
    with torch.no_grad():
        assert ((bounded(x) - bounded(far)).abs() / (x - far).norm(dim=1)).max() <= 1.005


def test_a_linear_critic_has_slope_one_exactly() -> None:
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    critic = ConditionalCritic(4, 0, (), spectral_norm=True, seed=0).eval()
    assert slopes(critic, x).tolist() == pytest.approx([1] * 5, abs=1e-6)


def test_a_strided_convolution_has_slope_at_most_two() -> None:
    """Each number is in (4 / 2)^2 patches: two convolutions and a linear layer, 4 in all."""
    pictures = torch.randn(32, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    critic = steep(ConvCritic((1, 16, 16), 0, 4, spectral_norm=True, seed=0), pictures[:2])
    assert slopes(critic, pictures).max() <= 4 * 1.005
    images = nn.Conv2d(1, 1, 4, stride=2, padding=1, bias=False)
    with torch.no_grad():
        images.weight.fill_(1)
    normalise_spectrally(images, 0)
    constant = torch.ones(1, 1, 64, 64)
    assert 1.8 < float((images(constant).norm() / constant.norm()).detach()) <= 2  # the bound is nearly reached


def test_the_seed_alone_decides() -> None:
    before = torch.get_rng_state()
    critics = [ConditionalCritic(3, 0, spectral_norm=True, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(before, torch.get_rng_state())
    states = [torch.cat([value.flatten() for value in critic.state_dict().values()]) for critic in critics]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
