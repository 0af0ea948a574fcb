"""The critic of images: sizes, the two ways in for a condition, and a class that only its picture tells."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from implicit_estimators.critics import ConvCritic
from implicit_estimators.ratio_losses import LogLoss


@pytest.mark.parametrize(
    ("shape", "convolutions", "seen"),
    [((1, 8, 8), 1, (4, 4, 4)), ((3, 32, 32), 3, (16, 4, 4)), ((2, 8, 32), 1, (4, 4, 16))],
)
def test_images_are_halved_until_four_are_left(shape: tuple, convolutions: int, seen: tuple) -> None:
    critic = ConvCritic(shape, 0, 4, seed=0)
    kernels = [module for module in critic.modules() if isinstance(module, nn.Conv2d)]
    assert [(k.kernel_size, k.stride, k.padding) for k in kernels] == [((4, 4), (2, 2), (1, 1))] * convolutions
    assert [k.out_channels for k in kernels] == [4 * 2**i for i in range(convolutions)]
    assert critic.head.in_features == torch.Size(seen).numel()
    assert critic(torch.randn(2, *shape)).shape == (2,)
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in critic.modules())


def test_projection_is_linear_in_the_condition():
    critic = ConvCritic((1, 8, 8), 3, 4, condition_by="projection", seed=0, dtype=torch.float64)
    x = torch.randn(5, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a, b = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    none = critic(x, torch.zeros_like(a))
    assert torch.allclose(critic(x, a + 2 * b) - none, critic(x, a) - none + 2 * (critic(x, b) - none))
    v = critic.projection.weight  # (features, conditions)
    assert torch.allclose(critic(x, a) - none, torch.einsum("nf,fk,nk->n", critic.features(x), v, a))


@pytest.mark.parametrize("condition_by", ["channels", "projection"])
def test_it_tells_pairs_that_belong_together(condition_by: str) -> None:
    """p: a bright half on the side that the class says; q: on either side. Log p/q is log 2 or minus infinity."""
    random = torch.Generator().manual_seed(0)

    def picture(side: Tensor) -> Tensor:
        x = 0.3 * torch.randn(len(side), 1, 8, 8, generator=random)
        x[:, 0, :, :4] += (side == 0).float()[:, None, None]
        x[:, 0, :, 4:] += (side == 1).float()[:, None, None]
        return x

    def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
        side, other = torch.randint(2, (2, 64), generator=random)
        classes = nn.functional.one_hot(side, 2).float()
        return picture(side), picture(other), classes, (side != other)

    critic = ConvCritic((1, 8, 8), 2, 8, condition_by=condition_by, seed=0)
    optimiser = torch.optim.Adam(critic.parameters(), lr=5e-3)
    for _ in range(100):
        data, model, classes, _ = batch()
        optimiser.zero_grad()
        LogLoss().loss(critic(data, classes), critic(model, classes)).backward()
        optimiser.step()
    data, model, classes, wrong = batch()
    with torch.no_grad():
        assert critic(model, classes)[wrong].max() < -1
        assert float(critic(data, classes).mean()) == pytest.approx(0.69, abs=0.35)


def test_bad_arguments_are_named() -> None:
    for shape in ((1, 4, 8), (1, 12, 8), (8, 8), (0, 8, 8)):
        with pytest.raises(ValueError, match=r"event_shape: expected .* powers of two from 8 on; got"):
            ConvCritic(shape)
    with pytest.raises(ValueError, match="condition_by: expected 'channels' or 'projection'; got 'sum'"):
        ConvCritic((1, 8, 8), 2, condition_by="sum")
    with pytest.raises(ValueError, match="activation: expected one of"):
        ConvCritic((1, 8, 8), activation="maxout")
    with pytest.raises(ValueError, match="conditions: expected an int of 0 or more; got -1"):
        ConvCritic((1, 8, 8), -1)
