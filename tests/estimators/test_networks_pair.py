"""Samples made ready to train on: all rows once, on one side of the split, mapped alike."""

from __future__ import annotations

import torch

from implicit_estimators.networks.pair import Pair
from implicit_estimators.networks.standardise import STANDARDISERS
from implicit_estimators.networks.storage import joined, parted


def test_each_row_is_on_one_side() -> None:
    p, q = torch.randn(50, 2, dtype=torch.float64), 3 + torch.randn(30, 2, dtype=torch.float64)
    pair = Pair.of(p, q, 0.2, 0, STANDARDISERS["moments"])
    for samples, raw, test, learned, held_out in zip(
        (p, q), pair.raw, pair.test, pair.learned, pair.held_out, strict=True
    ):
        assert (len(raw), len(test)) == (0.8 * len(samples), 0.2 * len(samples))
        assert {tuple(row) for row in torch.cat([raw, test]).tolist()} == {tuple(row) for row in samples.tolist()}
        assert torch.equal(learned[0], pair.standardiser(raw).float())
        assert torch.equal(held_out[0], pair.standardiser(test).float())
    both = torch.cat([side[0] for side in pair.learned])
    assert torch.allclose(both.mean(0), torch.zeros(2), atol=1e-5)  # the map has not seen what is held out
    again = Pair.of(p, q, 0.2, 0, STANDARDISERS["moments"])
    assert torch.equal(again.test[0], pair.test[0])


def test_what_is_joined_comes_apart() -> None:
    parts = {"network": {"0.weight": torch.ones(2), "0.bias": torch.zeros(1)}, "map": {"scale": torch.ones(3)}}
    flat = joined(parts)
    assert list(flat) == ["network.0.weight", "network.0.bias", "map.scale"]
    found = parted(flat)
    assert {name: list(tensors) for name, tensors in found.items()} == {n: list(t) for n, t in parts.items()}
    assert all(found[part][name] is value for part, tensors in parts.items() for name, value in tensors.items())
