"""Rows that are read in windows: every row once an epoch, in batches of the same size as in memory, and read ahead."""

import threading
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from implicit_estimators.networks.sources import Windowed
from implicit_estimators.networks.train import evaluate, split, train


def source(lengths, window, read=None):
    starts = torch.tensor([0, *lengths]).cumsum(0).tolist()

    def rows(block):
        numbers = torch.arange(starts[block], starts[block + 1], dtype=torch.float32)
        return numbers[:, None], -numbers

    return Windowed(read or rows, lengths, window)


@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(sum),
    window=st.integers(1, 30),
    share=st.floats(0, 1),
    shuffled=st.booleans(),
)
def test_every_row_once_in_batches_of_nearly_one_size(lengths, window, share, shuffled):
    n = sum(lengths)
    steps = max(1, round(share * n))
    shuffler = torch.Generator().manual_seed(0) if shuffled else None
    batches = list(source(lengths, window).batches(steps, shuffler))
    sizes = [len(batch[0]) for batch in batches]
    assert sizes == [len(part) for part in torch.arange(n).tensor_split(steps)]
    one, other = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert torch.equal(one[:, 0], -other)  # rows stay together
    if shuffled:
        one = one.sort(0).values
    assert one[:, 0].tolist() == list(range(n))


@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(lambda n: sum(n) > 1), share=st.floats(0, 0.9)
)
def test_a_split_holds_the_same_rows_out_as_in_memory(lengths, share):
    whole = source(lengths, 5)
    numbers = torch.arange(sum(lengths), dtype=torch.float32)
    expected = split([(numbers,)], share, seed=3)
    found = split(whole, share, seed=3)
    for groups, part in zip(expected, found, strict=True):
        rows = [batch[0][:, 0] for batch in part.batches(1, None)] if part else []
        assert torch.cat([*rows, torch.zeros(0)]).tolist() == sorted(groups[0][0].tolist() if groups else [])


def test_shuffles_differ_by_epoch_and_mix_blocks():
    whole = source([100] * 10, 300)
    shuffler = torch.Generator().manual_seed(0)
    first, second = (torch.cat([batch[0] for batch in whole.batches(20, shuffler)])[:, 0] for _ in range(2))
    assert not torch.equal(first, second)
    blocks = (first[:300] // 100).unique()
    assert len(blocks) == 3  # one window
    assert len((first[:50] // 100).unique()) == 3  # and all of it in one batch
    assert not torch.equal(blocks, (second[:300] // 100).unique())


def test_the_next_window_is_read_while_this_one_is_used():
    began = threading.Event()

    def read(block):
        if block == 1:
            began.set()
        return [torch.full((10,), float(block))]

    batches = source([10, 10, 10], 10, read).batches(3, None)
    assert float(next(batches)[0][0]) == 0
    assert began.wait(10)
    assert [float(batch[0][0]) for batch in batches] == [1, 2]


def test_a_reader_that_fails_and_one_that_is_left_early():
    def broken(block):
        raise OSError("unplugged")

    with pytest.raises(OSError, match="unplugged"):
        list(source([10], 10, broken).batches(1, None))
    before = threading.active_count()
    batches = source([10] * 5, 10).batches(5, None)
    next(batches)
    batches.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def line(seed):
    torch.manual_seed(seed)
    return nn.Linear(1, 1)


def test_training_in_windows_and_in_memory_end_alike():
    """A linear regression has one answer, which either way of shuffling must find."""
    x = torch.linspace(-1, 1, 400)[torch.randperm(400, generator=torch.Generator().manual_seed(0))][:, None]
    y = 2 * x[:, 0] - 1

    def loss(x, y, *, generator):
        return (module(x)[:, 0] - y).square().mean()

    found = []
    for data in ([(x, y)], Windowed(lambda i: (x[50 * i : 50 * i + 50], y[50 * i : 50 * i + 50]), [50] * 8, 120)):
        with torch.random.fork_rng():
            module = line(0)
        history = train(module, loss, data, epochs=40, batch_size=32, learning_rate=0.05, seed=1)
        assert history.best == pytest.approx(evaluate(module, loss, split(data, 0.1, 1)[1], seed=1), rel=1e-4, abs=1e-9)
        found.append([float(value.detach()) for value in module.parameters()])
    for slope, intercept in found:
        assert slope == pytest.approx(2, abs=0.02)
        assert intercept == pytest.approx(-1, abs=0.02)


def test_empty_and_too_small():
    with pytest.raises(ValueError, match="at least one row; the source has none"):
        train(line(0), lambda x, *, generator: x.sum(), source([0, 0], 5))
    with pytest.raises(ValueError, match=r"at least 2 rows to hold out a share of 0\.5; got 1"):
        split(source([1], 5), 0.5, 0)
