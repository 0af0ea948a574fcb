"""Seeds become streams that repeat, that differ wherever they should, and that leave the global generators alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from implicit_simulators.streams import ROLES, Stream, resolve_seed

SEEDS = st.integers(0, 2**63 - 1)


@given(SEEDS, st.integers(0, 10**6), st.sampled_from(ROLES))
def test_a_stream_repeats(seed: int, block: int, role: str) -> None:
    assert Stream.of(seed, block, role) == Stream.of(seed, block, role)
    assert 0 <= Stream.of(seed, block, role).key < 2**64


def test_neighbouring_seeds_blocks_and_roles_have_different_streams() -> None:
    keys = {Stream.of(seed, block, role).key for seed in range(20) for block in range(50) for role in ROLES}
    assert len(keys) == 20 * 50 * len(ROLES)


def test_neighbouring_streams_are_uncorrelated() -> None:
    draws = torch.stack([torch.randn(4000, generator=Stream.of(0, block).torch()) for block in range(10)])
    correlation = torch.corrcoef(draws)[~torch.eye(10, dtype=torch.bool)]
    assert correlation.abs().max() < 4.5 / 4000**0.5  # standard error 1 / sqrt(4000), 45 pairs


def test_generators_start_at_the_beginning_of_the_stream_each_time() -> None:
    stream = Stream.of(3)
    assert torch.equal(torch.rand(5, generator=stream.torch()), torch.rand(5, generator=stream.torch()))
    assert np.array_equal(stream.numpy().random(5), stream.numpy().random(5))


def test_forked_code_repeats_and_leaves_the_global_generator_as_it_was() -> None:
    before = torch.random.get_rng_state()
    with Stream.of(1).forked():
        first = torch.rand(3)
    with Stream.of(1).forked():
        assert torch.equal(torch.rand(3), first)
    with Stream.of(2).forked():
        assert not torch.equal(torch.rand(3), first)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_forked_restores_after_an_error() -> None:
    before = torch.random.get_rng_state()
    with pytest.raises(RuntimeError), Stream.of(1).forked():
        torch.rand(3).reshape(2)
    assert torch.equal(torch.random.get_rng_state(), before)


@given(SEEDS)
def test_an_int_is_its_own_seed(seed: int) -> None:
    assert resolve_seed(seed) == seed
    assert resolve_seed(np.int64(seed)) == seed


def test_a_generator_is_drawn_from() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = resolve_seed(generator), resolve_seed(generator)
    assert first != second
    assert resolve_seed(torch.Generator().manual_seed(0)) == first


def test_none_is_fresh_entropy() -> None:
    assert resolve_seed(None) != resolve_seed(None)


@pytest.mark.parametrize(
    ("seed", "error", "message"),
    [
        (-1, ValueError, "non-negative"),
        (1.5, TypeError, "float"),
        ("1", TypeError, "str"),
        (True, TypeError, "bool"),
        (np.random.default_rng(0), TypeError, "Generator"),
    ],
)
def test_what_is_no_seed_is_refused(seed: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"seed: expected .*{message}"):
        resolve_seed(seed)


def test_what_is_no_block_or_role_is_refused() -> None:
    with pytest.raises(ValueError, match="block: expected a non-negative int; got -1"):
        Stream.of(0, -1)
    with pytest.raises(ValueError, match=r"role: expected one of .*; got 'sing'"):
        Stream.of(0, role="sing")
