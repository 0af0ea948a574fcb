"""Annealed instance noise: its level on the way, and what a game sees of it."""

from __future__ import annotations

import math

import pytest
import torch

from implicit_infer.games.instance_noise import AnnealedNoise
from implicit_infer.generators.duels import Sight


@pytest.mark.parametrize(
    ("noise", "levels"),
    [
        (AnnealedNoise(0.4, until=0.5), [0.4, 0.2, 0.0, 0.0]),
        (AnnealedNoise(1.0, until=1.0), [1.0, 0.75, 0.5, 0.0]),
        (AnnealedNoise(0.3, until=math.inf), [0.3] * 4),
        (AnnealedNoise(0.0), [0.0] * 4),
    ],
)
def test_levels(noise: AnnealedNoise, levels: list[float]) -> None:
    assert [noise.at(share) for share in (0.0, 0.25, 0.5, 1.0)] == pytest.approx(levels)


def test_what_is_seen_has_the_variance_of_both() -> None:
    """Standard deviation sqrt(1 + sigma^2) of standard normal samples; five standard errors, 5 / sqrt(2 n)."""
    draw = torch.Generator().manual_seed(0)
    samples = torch.randn(20_000, 1, generator=draw)
    sight = Sight(torch.zeros(()), torch.ones(()), random=draw)
    before = AnnealedNoise(2.0, until=1.0).on(sight)
    for share in (0.0, 0.5, 1.0):
        before(share)
        expected = math.sqrt(1 + (2 * (1 - share)) ** 2)
        assert sight(samples).std().item() == pytest.approx(expected, rel=5 / 40_000**0.5)
    assert torch.equal(sight(samples), samples)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="start: expected a number not below 0; got -1"):
        AnnealedNoise(-1)
    with pytest.raises(ValueError, match="until: expected a positive share of the game; got 0"):
        AnnealedNoise(1, until=0)
