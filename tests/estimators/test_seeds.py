"""Seeds: repeatable, independent by role, and without touching torch's global generator."""

from __future__ import annotations

import pytest
import torch

from implicit_estimators.seeds import ROLES, forked, generator, resolve_seed, stream


def test_roles_and_seeds_have_streams_of_their_own() -> None:
    draws = [torch.rand(4, generator=stream(seed, role)) for seed in (0, 1) for role in ROLES]
    assert len({tuple(draw.tolist()) for draw in draws}) == len(draws)
    assert torch.equal(torch.rand(4, generator=stream(0, "split")), torch.rand(4, generator=stream(0, "split")))


def test_a_generator_is_drawn_from_and_none_is_fresh() -> None:
    mine = torch.Generator().manual_seed(3)
    assert resolve_seed(mine) != resolve_seed(mine)
    assert resolve_seed(None) != resolve_seed(None)
    assert generator(mine, "cpu") is mine
    assert torch.equal(torch.rand(2, generator=generator(5, "cpu")), torch.rand(2, generator=generator(5, "cpu")))


def test_forked_code_reads_the_global_generator_under_the_seed() -> None:
    before = torch.get_rng_state()
    draws = []
    for _ in range(2):
        with forked(4):
            draws.append(torch.rand(3))
    assert torch.equal(*draws)
    assert torch.equal(before, torch.get_rng_state())


def test_bad_seeds_are_named() -> None:
    with pytest.raises(ValueError, match="seed: expected a non-negative int; got -1"):
        resolve_seed(-1)
    for bad in (True, 1.5, "0"):
        with pytest.raises(TypeError, match=r"seed: expected an int, a torch.Generator or None"):
            resolve_seed(bad)
