"""The critic of a comparison: its width, its outputs, its spectral norm, and the shapes of packed samples."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from implicit_estimators.comparisons import Adversarial, Comparison
from implicit_estimators.critics import ConditionalCritic, ConvCritic, make_critic


@dataclass(frozen=True)
class Wide(Comparison):
    name = "wide"

    @property
    def outputs(self) -> int:
        return 16


@dataclass(frozen=True)
class Untrained(Comparison):
    name = "untrained"
    trained = False


@pytest.mark.parametrize("packing", [1, 3])
def test_vectors_and_images(packing: int) -> None:
    vector = make_critic((4,), 2, Adversarial(), packing=packing, seed=0)
    assert isinstance(vector, ConditionalCritic)
    assert vector(torch.randn(5, packing * 4), torch.randn(5, packing * 2)).shape == (5,)
    image = make_critic((3, 8, 8), 2, Wide(), packing=packing, hidden=(16,), seed=0)
    assert isinstance(image, ConvCritic)
    assert image(torch.randn(5, packing * 3, 8, 8), torch.randn(5, packing * 2)).shape == (5, 16)


def test_outputs_and_spectral_norm_are_the_comparisons():
    assert make_critic((4,), 0, Wide(), seed=0).config["outputs"] == 16
    plain, bounded = (make_critic((4,), 0, Adversarial(spectral_norm=choice), seed=0) for choice in (False, True))
    assert not plain.config["spectral_norm"]
    assert bounded.config["spectral_norm"]
    assert sum(nn.utils.parametrize.is_parametrized(module) for module in bounded.modules()) == 3
    assert bounded.config["activation"] == "leaky_relu"


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="comparison: expected one that trains a critic; 'untrained' compares"):
        make_critic((4,), 0, Untrained())
    with pytest.raises(ValueError, match=r"event_shape: expected \(width,\) or \(channels, height, width\)"):
        make_critic((4, 5), 0, Adversarial())
    with pytest.raises(ValueError, match="packing: expected a positive int; got 0"):
        make_critic((4,), 0, Adversarial(), packing=0)
