"""Minibatch discrimination: the closeness in closed form, and a collapse that only a whole batch gives away."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from implicit_estimators.critics import ConditionalCritic, MinibatchCritic, MinibatchDiscrimination
from implicit_estimators.penalties import PENALTIES
from implicit_estimators.ratio_losses import LogLoss


def test_closeness_in_closed_form() -> None:
    layer = MinibatchDiscrimination(2, kernels=1, width=2, seed=0)
    with torch.no_grad():
        layer.map.weight.copy_(torch.eye(2))
    rows = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    appended = layer(rows)
    assert torch.equal(appended[:, :2], rows)
    expected = [1 + math.exp(-1) + math.exp(-2), 1 + math.exp(-1) + math.exp(-3), 1 + math.exp(-2) + math.exp(-3)]
    assert appended[:, 2].tolist() == pytest.approx(expected)


def test_a_batch_of_copies_is_as_close_as_can_be() -> None:
    layer = MinibatchDiscrimination(3, 4, 5, seed=0)
    copies = torch.randn(1, 3, generator=torch.Generator().manual_seed(0)).expand(7, 3)
    assert torch.equal(layer(copies)[:, 3:], torch.full((7, 4), 7.0))
    spread = 100 * torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(layer(spread)[:, 3:], torch.ones(7, 4), atol=1e-2)


def test_the_order_of_the_batch_does_not_matter() -> None:
    critic = MinibatchCritic(3, seed=0, dtype=torch.float64)
    x = torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(critic(x)[order], critic(x[order]))


def test_a_collapse_is_seen_by_the_batch_alone() -> None:
    """Data: independent N(0, 1). Model: N(0, 1), but the whole batch one draw. Row by row the two laws are the same.

    So no critic of single samples can have a mean loss below log 4 on fresh batches (its standard error over 50 batches
    of copies is measured here), and one that sees the batch goes to 0.
    """
    n = 16

    def draw(random: torch.Generator) -> tuple[Tensor, Tensor]:
        return torch.randn(n, 1, generator=random), torch.randn(1, 1, generator=random).expand(n, 1)

    def trained(critic: nn.Module) -> Tensor:
        random = torch.Generator().manual_seed(0)
        optimiser = torch.optim.Adam(critic.parameters(), lr=1e-2)
        for _ in range(120):
            data, model = draw(random)
            optimiser.zero_grad()
            LogLoss().loss(critic(data), critic(model)).backward()
            optimiser.step()
        with torch.no_grad():
            fresh = [draw(random) for _ in range(50)]
            return torch.stack([LogLoss().loss(critic(data), critic(model)) for data, model in fresh])

    seen = trained(MinibatchCritic(1, 0, (16,), kernels=4, width=3, seed=0))
    unseen = trained(ConditionalCritic(1, 0, (16,), seed=0))
    assert seen.mean() < 0.1
    assert unseen.mean() > math.log(4) - 4 * float(unseen.std()) / 50**0.5


@pytest.mark.parametrize("name", PENALTIES)
def test_penalties_refuse_it(name: str) -> None:
    real, fake = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=r"critic: expected one that treats rows independently; .*MinibatchDisc"):
        PENALTIES[name]().penalty(MinibatchCritic(3, seed=0), real, fake, seed=0)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="kernels: expected a positive int; got 0"):
        MinibatchDiscrimination(3, 0)
    with pytest.raises(ValueError, match="hidden: expected at least one layer; got none"):
        MinibatchCritic(3, hidden=())
    with pytest.raises(ValueError, match="conditions: expected a width of 0 or more; got -1"):
        MinibatchCritic(3, -1)
