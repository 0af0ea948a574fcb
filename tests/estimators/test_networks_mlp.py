"""The MLP: shapes, gradients to every parameter, repeatable weights, and no change to torch's global state."""

from __future__ import annotations

import pytest
import torch

from implicit_estimators.networks.mlp import ACTIVATIONS, MLP

SETTINGS = [
    {},
    {"hidden": ()},
    {"hidden": (16, 8)},
    {"layer_norm": True},
    {"residual": True, "hidden": (16, 16, 16)},
    {"dtype": torch.float64},
    *({"activation": name} for name in ACTIVATIONS),
]
every = pytest.mark.parametrize("settings", SETTINGS, ids=str)


@every
def test_shapes_and_gradients(settings: dict) -> None:
    network = MLP(5, 3, seed=0, **settings)
    x = torch.randn(4, 7, 5, dtype=settings.get("dtype", torch.float32), requires_grad=True)
    y = network(x)
    assert y.shape == (4, 7, 3)
    assert y.dtype == x.dtype
    y.square().sum().backward()
    assert x.grad is not None
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@every
def test_the_seed_makes_the_weights(settings: dict) -> None:
    before = torch.get_rng_state()
    one, same, other = (MLP(5, 3, seed=seed, **settings).state_dict() for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@every
def test_the_config_builds_the_same_network(settings: dict) -> None:
    network = MLP(5, 3, seed=0, **settings)
    again = MLP(**network.config, dtype=settings.get("dtype"))
    again.load_state_dict(network.state_dict())
    x = torch.randn(4, 5, dtype=settings.get("dtype", torch.float32))
    assert torch.equal(network(x), again(x))


def test_residual_layers_add_their_input() -> None:
    network = MLP(5, 1, (8, 8), residual=True, seed=0)
    with torch.no_grad():
        for parameter in network.layers[1].parameters():
            parameter.zero_()  # silu(0) = 0, so the second layer passes its input on
    x = torch.randn(3, 5)
    assert torch.allclose(network.layers[1](network.layers[0](x)), network.layers[0](x))


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="hidden: expected positive widths"):
        MLP(5, 1, (8, 0))
    with pytest.raises(ValueError, match=r"activation: expected one of relu, .*; got 'swish'"):
        MLP(5, 1, activation="swish")
