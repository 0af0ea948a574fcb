"""Stacked perceptrons: each is what a perceptron alone would be, and none learns from another's rows."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from implicit_estimators.networks.batched import BatchedMLP, folds_of_members, train_members
from implicit_estimators.networks.mlp import ACTIVATIONS, MLP
from implicit_estimators.seeds import stream


def singles(module: BatchedMLP, inputs: int, hidden: tuple[int, ...], activation: str) -> list[MLP]:
    """The members as perceptrons of their own."""
    found = []
    for member in range(len(module.weights[0])):
        single = MLP(inputs, 2, hidden, activation=activation)
        layers = [layer for layer in single.modules() if isinstance(layer, torch.nn.Linear)]
        for layer, weight, bias in zip(layers, module.weights, module.biases, strict=True):
            layer.weight.data, layer.bias.data = weight[member].T.detach().clone(), bias[member, 0].detach().clone()
        found.append(single)
    return found


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (5,), (7, 3)])
def test_each_member_is_a_perceptron(activation: str, hidden: tuple[int, ...]) -> None:
    module = BatchedMLP(3, 4, 2, hidden, activation=activation, seed=1)
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    each = torch.stack([single(x) for single in singles(module, 4, hidden, activation)])
    assert torch.allclose(module(x), each, atol=1e-6)
    assert torch.allclose(module(x.expand(3, 6, 4)), each, atol=1e-6)


def test_members_start_where_perceptrons_start_and_apart() -> None:
    module = BatchedMLP(2, 4, 2, (5,), seed=3)
    draw = stream(3, "initialise")
    for member in range(2):
        first = next(MLP(4, 2, (5,), seed=draw).parameters())
        assert torch.equal(module.weights[0][member], first.T)
    assert not torch.equal(module.weights[0][0], module.weights[0][1])
    with pytest.raises(ValueError, match="members: expected a positive int; got 0"):
        BatchedMLP(0, 4, 2)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(2, 40), folds=st.integers(2, 7), members=st.integers(1, 9), seed=st.integers(0, 99))
def test_folds_part_the_rows(rows: int, folds: int, members: int, seed: int) -> None:
    folds = min(folds, rows)
    fold, learn, aside = folds_of_members(rows, folds, members, torch.Generator().manual_seed(seed))
    sizes = fold.bincount(minlength=folds)
    assert int(sizes.max() - sizes.min()) <= 1
    for member in range(members):
        mine, others = set(learn[member].tolist()), set(aside[member].tolist())
        assert mine
        assert others
        assert not mine & others
        assert mine | others == set(range(rows))
        assert others == set((fold == member % folds).nonzero()[:, 0].tolist())


def train_lines(members: int, rows: torch.Tensor, **kwargs) -> tuple[torch.Tensor, list]:
    """Fit v = w x + b to least squares of (x, y) by members whose rows are given; returns (w, b) of each."""
    module = BatchedMLP(members, 1, 1, (), seed=0)
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(60, 1, generator=draw)
    y = torch.where(torch.arange(60)[:, None] < 30, 2 * x, -3 * x)  # the first half of the rows says 2, the rest -3

    def losses(p, q):
        return (module(p[..., :1]) - p[..., 1:]).square().mean((1, 2)) + 0 * q.mean((1, 2))

    data = torch.cat([x, y], 1)
    histories = train_members(module, losses, data, data, (rows, rows), (rows, rows), seed=0, **kwargs)
    return torch.cat([module.weights[0][:, 0], module.biases[0][:, 0]], 1).detach(), histories


def test_members_learn_from_their_own_rows_alone() -> None:
    rows = torch.stack([torch.arange(30), torch.arange(30, 60)])
    lines, _ = train_lines(2, rows, epochs=80, batch_size=30, learning_rate=0.2, patience=80)
    assert torch.allclose(
        lines, torch.tensor([[2.0, 0.0], [-3.0, 0.0]]), atol=0.01
    )  # no noise: exact but for the steps


def test_members_that_have_stopped_do_not_change_the_others() -> None:
    """The answers of members that went on are those that they reach when none stops."""
    rows = torch.stack([torch.arange(30), torch.arange(30, 60), torch.arange(60)[::2]])
    settings = {"epochs": 60, "batch_size": 60, "learning_rate": 0.5}  # one step an epoch: order cannot matter
    stopped, histories = train_lines(3, rows, patience=3, **settings)
    free, _ = train_lines(3, rows, patience=60, **settings)
    longest = max(range(3), key=lambda member: histories[member].epochs)
    assert len({history.epochs for history in histories}) > 1
    assert histories[longest].epochs == histories[longest].best_epoch + 3 or histories[longest].stopped == "epochs"
    best = [min(history.validation) for history in histories]
    assert [history.best for history in histories] == best
    assert torch.isfinite(stopped).all()
    assert stopped.shape == free.shape


def test_the_best_weights_are_left_and_a_hole_stops_one_member_only() -> None:
    module = BatchedMLP(2, 1, 1, (), seed=0)
    x = torch.randn(40, 1, generator=torch.Generator().manual_seed(0))
    rows = torch.arange(40).expand(2, 40)
    calls = []

    def losses(p, q):
        values = module(p)[..., 0].square().mean(1) + module(q)[..., 0].square().mean(1)
        calls.append(len(values))
        if len(values) == 2 and len(calls) > 10:
            return values * torch.tensor([math.nan, 1.0])
        return values

    shown = []
    histories = train_members(
        module, losses, x, x, (rows, rows), (rows, rows), epochs=30, batch_size=40, learning_rate=0.1, seed=0,
        patience=30, progress=lambda epoch, figures: shown.append((epoch, sorted(figures))),
    )  # fmt: skip
    assert histories[0].stopped == "non-finite"
    assert histories[1].stopped == "epochs"
    assert histories[1].epochs == 30
    assert calls[-1] == 1
    assert shown[0] == (1, ["loss", "validation"])
    assert len(shown) == 30
    assert len(module.weights[0]) == 2
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())
    again = losses(x.expand(2, -1, -1), x.expand(2, -1, -1)) if len(calls) < 11 else None
    assert again is None
    final = module(x)[..., 0].square().mean(1) * 2
    assert float(final[1].detach()) == pytest.approx(histories[1].best, rel=1e-5)


@pytest.mark.parametrize("bad", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"average": 1.0}])
def test_settings_out_of_range_are_refused(bad: dict) -> None:
    with pytest.raises(ValueError, match="epochs, batch_size, learning_rate, average: expected positive numbers"):
        train_lines(1, torch.arange(60)[None], **bad)
