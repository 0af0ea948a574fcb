"""The training loop: every row once an epoch, the best weights back, live steps, and repeatable runs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from implicit_estimators.networks.mlp import MLP
from implicit_estimators.networks.train import clip_gradients, evaluate, split, train


def regression(n: int = 400) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(n, 2, generator=draw)
    return x, x @ torch.tensor([[1.0], [-2.0]]) + 0.5


def squares(network: nn.Module):
    return lambda x, y, generator: (network(x) - y).square().mean()


def test_it_minimises_the_loss() -> None:
    network = MLP(2, 1, (), seed=0)
    history = train(network, squares(network), [regression()], epochs=100, learning_rate=0.1, seed=0)
    assert history.best < 1e-6
    assert history.validation[history.best_epoch - 1] == history.best == min(history.validation)
    assert history.training[0] > 100 * history.training[-1]
    assert not network.training


def noisy(network: nn.Module):
    """A loss that draws."""
    return lambda x, y, generator: (network(x) - y + torch.randn(y.shape, generator=generator)).square().mean()


@pytest.mark.parametrize(
    "settings", [{}, {"average": 0.99}, {"schedule": "constant"}, {"validation": 0}, {"clip": None}]
)
def test_the_same_seed_gives_the_same_weights(settings: dict) -> None:
    before = torch.get_rng_state()
    weights = []
    for seed in (1, 1, 2):
        network = MLP(2, 1, (8,), seed=0)
        train(network, noisy(network), [regression()], epochs=3, seed=seed, **settings)
        weights.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("n", "m", "batch_size"), [(100, 100, 32), (7, 1000, 64), (1000, 3, 10), (5, 5, 1000)])
def test_every_row_of_every_group_is_seen_once_an_epoch(n: int, m: int, batch_size: int) -> None:
    seen: list[tuple[Tensor, Tensor]] = []
    weight = nn.Linear(1, 1)

    def loss(p: Tensor, q: Tensor, generator: torch.Generator) -> Tensor:
        seen.append((p[:, 0], q[:, 0]))
        return weight.weight.square().sum()

    groups = [(torch.arange(n)[:, None].float(),), (torch.arange(m)[:, None].float(),)]
    train(weight, loss, groups, validation=0, epochs=1, batch_size=batch_size, seed=0)
    for side, count in ((0, n), (1, m)):
        rows = torch.cat([batch[side] for batch in seen])
        assert sorted(rows.tolist()) == list(range(count))
        if 5 < count < 1000:
            assert rows.tolist() != list(range(count))
        assert min(len(batch[side]) for batch in seen) >= 1
    sizes = [len(p) + len(q) for p, q in seen]
    assert max(sizes) - min(sizes) <= 2  # no small last batch
    assert len(seen) == min(-(-(n + m) // batch_size), n, m)


def test_rows_of_a_group_stay_together() -> None:
    module = nn.Linear(1, 1)

    def loss(x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        assert torch.equal(2 * x, y)
        return module.weight.square().sum()

    x = torch.randn(50, 1)
    train(module, loss, [(x, 2 * x)], epochs=2, batch_size=8, seed=0)


@pytest.mark.parametrize("average", [0.0, 0.5])
def test_the_best_weights_come_back(average: float) -> None:
    """Held-out rows that agree with the first weights: every epoch is worse than the one before."""
    network = MLP(2, 1, (), seed=0)
    x, y = regression()
    held_out = [(x, network(x).detach())]
    settings = {"epochs": 6, "learning_rate": 0.1, "schedule": "constant", "average": average}
    history = train(network, squares(network), [(x, y)], validation=held_out, seed=0, **settings)
    assert (history.best_epoch, history.epochs) == (1, 6)
    assert evaluate(network, squares(network), held_out) == pytest.approx(history.best, rel=1e-5)


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_patience_ends_it(average: float) -> None:
    """There is nothing to learn: what fits the training noise does not fit the held-out noise."""
    network = MLP(2, 1, (), seed=0)
    draw = torch.Generator().manual_seed(0)
    seen, held_out = ((torch.randn(50, 2, generator=draw), torch.randn(50, 1, generator=draw)) for _ in range(2))
    settings = {"epochs": 500, "patience": 5, "learning_rate": 0.05, "average": average}
    history = train(network, squares(network), [seen], validation=[held_out], seed=0, **settings)
    assert history.stopped == "patience"
    assert history.epochs == history.best_epoch + 5 < 500
    assert evaluate(network, squares(network), [held_out]) == pytest.approx(history.best, rel=1e-5)


def test_the_average_is_what_is_validated_and_kept() -> None:
    """With a wild step size the weights jump about the minimum; their average lies near it."""
    losses = {}
    x, y = regression(2000)
    y = y + torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    clean = regression(2000)
    for average in (0.0, 0.99):
        network = MLP(2, 1, (), seed=0)
        settings = {"epochs": 10, "batch_size": 16, "learning_rate": 0.3, "schedule": "constant", "validation": 0}
        train(network, squares(network), [(x, y)], average=average, seed=0, **settings)
        losses[average] = evaluate(network, squares(network), [clean])
    assert losses[0.99] < 0.2 * losses[0.0]


def test_another_loss_can_choose_the_best_weights() -> None:
    network = MLP(2, 1, (), seed=0)

    def size(x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        return network(x).square().mean()  # grows as the network learns

    settings = {"validation_loss": size, "learning_rate": 0.1, "epochs": 5}
    history = train(network, squares(network), [regression()], seed=0, **settings)
    assert history.best_epoch < 5
    assert history.best == min(history.validation)


def test_a_loss_that_is_not_finite_ends_it_with_the_weights_before() -> None:
    network = nn.Linear(2, 1)
    calls = []

    def loss(x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        calls.append(1)
        value = (network(x) - y).square().mean()
        return value * math.nan if len(calls) > 20 else value

    history = train(network, loss, [regression()], validation=0, batch_size=100, epochs=50, seed=0)
    assert history.stopped == "non-finite"
    assert history.epochs == 6
    assert all(torch.isfinite(p).all() for p in network.parameters())
    assert math.isfinite(history.best)


def test_an_interrupt_leaves_the_best_weights() -> None:
    network = nn.Linear(2, 1)
    start = network.weight.detach().clone()

    def stop(epoch: int, figures: dict[str, float]) -> None:
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(
            network, squares(network), [regression()], epochs=50, learning_rate=0.1, average=0.5, seed=0, progress=stop
        )
    assert not torch.equal(network.weight, start)
    assert not network.training


def test_progress_hears_every_epoch() -> None:
    heard = []
    network = nn.Linear(2, 1)
    history = train(network, squares(network), [regression()], epochs=4, seed=0, progress=lambda *a: heard.append(a))
    assert [epoch for epoch, _ in heard] == [1, 2, 3, 4]
    assert heard[-1][1] == {"loss": history.training[-1], "validation": history.validation[-1]}


@pytest.mark.parametrize("size", [1e-3, 3.0, 1e20, 1e35])
def test_gradients_of_any_finite_size_are_clipped_to_a_step_in_their_direction(size: float) -> None:
    a, b = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2))
    a.grad, b.grad = torch.tensor([3.0, 0.0, 0.0]) * size, torch.tensor([0.0, 4.0]) * size
    clip_gradients([a, b], 1.0)
    expected = min(1.0, 5 * size) / 5
    assert torch.cat([a.grad, b.grad]).tolist() == pytest.approx([3 * expected, 0, 0, 0, 4 * expected], rel=1e-5)


def test_split_takes_rows_apart() -> None:
    x = torch.arange(100.0)
    (kept, lone), (aside, also) = split([(x, 2 * x), (x[:10],)], 0.2, seed=0)
    assert len(aside[0]) == 20
    assert sorted(torch.cat([kept[0], aside[0]]).tolist()) == x.tolist()
    assert torch.equal(2 * aside[0], aside[1])
    assert (len(lone[0]), len(also[0])) == (8, 2)
    assert split([(x,)], 0)[1] == []
    assert [len(group[0][0]) for group in split([(x[:2],)], 0.01)] == [1, 1]


def test_buffers_come_along() -> None:
    norm = nn.BatchNorm1d(4)
    network = nn.Sequential(nn.Linear(2, 4), norm, nn.Linear(4, 1))
    history = train(network, squares(network), [regression()], epochs=5, average=0.9, seed=0)
    assert norm.num_batches_tracked is not None
    assert norm.num_batches_tracked > 0
    assert math.isfinite(history.best)


def test_bad_arguments_are_named() -> None:
    network = nn.Linear(2, 1)
    x, y = regression(10)
    for settings, message in [
        ({"validation": 1.0}, "validation: expected a share in"),
        ({"epochs": 0}, "epochs, batch_size: expected positive ints"),
        ({"learning_rate": 0.0}, "learning_rate: expected a positive number"),
        ({"average": 1.0}, "average: expected a decay in"),
    ]:
        with pytest.raises(ValueError, match=message):
            train(network, squares(network), [(x, y)], **settings)
    with pytest.raises(ValueError, match="data: expected the tensors of a group to have one positive length"):
        train(network, squares(network), [(x, y[:5])])
    with pytest.raises(ValueError, match="data: expected at least one group"):
        train(network, squares(network), [])
    with pytest.raises(ValueError, match="data: expected at least 2 rows to hold out"):
        train(network, squares(network), [(x[:1], y[:1])])
