"""Maxout: the largest of each few, with slope at most 1, and PacGAN's discriminator made of it."""

from __future__ import annotations

import pytest
import torch

from implicit_estimators.networks.maxout import Maxout
from implicit_estimators.networks.mlp import MLP


def test_the_largest_of_neighbours() -> None:
    x = torch.tensor([[1.0, 5.0, 2.0, -4.0, -3.0, -9.0]])
    assert Maxout(3)(x).tolist() == [[5.0, -3.0]]
    assert Maxout(2)(x).tolist() == [[5.0, 2.0, -3.0]]


def test_slope_at_most_one() -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 1000, 15, generator=draw)
    moved = (Maxout()(a) - Maxout()(b)).norm(dim=1) / (a - b).norm(dim=1)
    assert moved.max() <= 1
    assert moved.max() > 0.7  # nor is it far from it


def test_the_discriminator_of_pacgan():
    """3 layers of 200 units, each the largest of 5 linear maps: weights (200 * 5) x before."""
    network = MLP(2, 1, (200, 200, 200), activation="maxout", seed=0)
    assert [tuple(p.shape) for p in network.parameters() if p.ndim == 2] == [
        (1000, 2),
        (1000, 200),
        (1000, 200),
        (1, 200),
    ]
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    weight, bias = network.layers[0][0].weight, network.layers[0][0].bias
    by_hand = torch.stack([row @ weight.T + bias for row in x]).reshape(4, 200, 5).max(-1).values
    assert torch.allclose(network.layers[0](x), by_hand, atol=1e-6)


def test_with_normalised_and_residual_layers() -> None:
    network = MLP(3, 2, (6, 6), activation="maxout", layer_norm=True, residual=True, seed=0)
    assert network(torch.randn(2, 5, 3)).shape == (2, 5, 2)
    assert torch.equal(network.layers[-1](network.features(torch.ones(3))), network(torch.ones(3)))


def test_one_piece_is_refused() -> None:
    with pytest.raises(ValueError, match="pieces: expected an int of 2 or more; got 1"):
        Maxout(1)
