"""Duels of a generator and a critic: what each of them is shown, packing by the paper, and losses by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from implicit_estimators.comparisons import Adversarial
from implicit_estimators.critics import make_critic
from implicit_estimators.penalties import R1, slopes
from implicit_infer.games import Batch, Duel
from implicit_infer.generators.duels import Sight, make_duel


class Shift(nn.Module):
    def __init__(self, by: float = 1.0) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(by))

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return z + self.by


def plain_sight(packing: int = 1) -> Sight:
    return Sight(torch.zeros(()), torch.ones(()), packing)


def duel_of(critic: nn.Module, comparison: Adversarial, sight: Sight, batch: Batch, **settings: Any) -> Duel:
    random = torch.Generator().manual_seed(0)
    return make_duel(Shift(), critic, comparison, lambda: batch, sight, random, **settings)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_packed_rows_lie_side_by_side_in_their_order() -> None:
    rows = torch.arange(14.0).reshape(7, 2)
    packed = plain_sight(3).packed(rows)
    assert packed.tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]  # the seventh row is left over
    assert torch.equal(plain_sight().packed(rows), rows)


def test_packed_images_are_stacked_along_their_channels() -> None:
    images = normal(6, 3, 8, 8)
    packed = plain_sight(2).packed(images)
    assert packed.shape == (3, 6, 8, 8)
    assert torch.equal(packed[1, :3], images[2])
    assert torch.equal(packed[1, 3:], images[3])


def test_a_pack_is_one_draw_of_the_product_law() -> None:
    """The optimum for packs is the sum of log-ratios: divergences of products, which grow with the packing.

    p = N(0, 1), q = N(1, 1): log p/q = 1/2 - x, and KL(q^m | p^m) = m / 2 is the mean of minus the sum over packs of
    draws from q; five standard errors, each pack's variance being m.
    """
    draws = 1 + normal(40_000, 1)
    for packing in (1, 2, 4):
        packs = plain_sight(packing)(draws)
        kl = (packs - 0.5).sum(1)
        assert kl.mean().item() == pytest.approx(packing / 2, abs=5 * (packing / len(packs)) ** 0.5)


@pytest.mark.parametrize("packing", [1, 2, 3])
def test_losses_are_those_of_packs(packing):
    """The minimax paper's: the discriminator's log-loss of packs of data and of model, each pack of one side alone."""
    batch = Batch(normal(12, 2), normal(12, 2, seed=1))
    critic = make_critic((2,), 0, Adversarial(), packing=packing, hidden=(8,), seed=0)
    duel = duel_of(critic, Adversarial(), plain_sight(packing), batch)
    data = critic(batch.real.reshape(12 // packing, -1))
    model = critic((batch.latent + 1).reshape(12 // packing, -1))
    expected = nn.functional.softplus(-data).mean() + nn.functional.softplus(model).mean()
    assert duel.critic_gradient(batch)[0].item() == pytest.approx(expected.item(), rel=1e-6)
    expected = nn.functional.softplus(-model).mean()
    assert duel.generator_gradient(batch)[0].item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_collapse_is_plainer_in_packs() -> None:
    """Data: -1 or 1, one as often as the other. Model: 1 always. The least loss is log 4 - 2 JS of the packs' laws.

    Packs of m: p^m is uniform on 2^m corners and q^m sits on one, so with w = 2^-m the optimum is
    D = w / (w + 1) there and 1 elsewhere. The critic is trained on exact packs.
    """
    for packing in (1, 2, 3):
        w = 0.5**packing
        expected = w * math.log((1 + w) / w) + math.log(1 + w)
        corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * packing).reshape(-1, 1)
        model = torch.zeros_like(corners)  # the generator adds 1
        critic = make_critic((1,), 0, Adversarial(), packing=packing, hidden=(16,), seed=0)
        duel = duel_of(critic, Adversarial(), plain_sight(packing), Batch(corners, model))
        optimiser = torch.optim.Adam(critic.parameters(), lr=0.05)
        for _ in range(150):
            loss, gradient = duel.critic_gradient(duel.draw())
            for parameter, slope in zip(critic.parameters(), gradient, strict=True):
                parameter.grad = slope
            optimiser.step()
        assert float(loss) == pytest.approx(expected, abs=0.02)


def test_conditions_are_packed_with_their_samples() -> None:
    seen = {}

    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            seen["x"], seen["y"] = x, y
            return self.scale * (x.sum(1) + y.sum(1))

    batch = Batch(normal(6, 2), normal(6, 2, seed=1), torch.arange(6.0)[:, None])
    duel_of(Looks(), Adversarial(), plain_sight(2), batch).generator_gradient(batch)
    assert seen["x"].shape == (3, 4)
    assert seen["y"].tolist() == [[0, 1], [2, 3], [4, 5]]


def test_a_penalty_is_charged_once_for_each_pack() -> None:
    """The slope of a critic of packs is that in all samples of one pack together."""
    batch = Batch(normal(8, 2), normal(8, 2, seed=1))
    critic = make_critic((2,), 0, Adversarial(), packing=2, hidden=(8,), seed=0)
    duel = duel_of(critic, Adversarial(penalty=R1(3.0)), plain_sight(2), batch)
    expected = 1.5 * slopes(critic, batch.real.reshape(4, 4)).square().mean()
    assert duel.penalty is not None
    assert duel.penalty(duel.generator, critic, batch).item() == pytest.approx(expected.item())


def test_every_sample_of_a_pack_moves_the_generator() -> None:
    latent = normal(6, 2, seed=1).requires_grad_()
    batch = Batch(normal(6, 2), latent)
    critic = make_critic((2,), 0, Adversarial(), packing=3, hidden=(8,), seed=0)
    duel = duel_of(critic, Adversarial(), plain_sight(3), batch)
    duel.generator_loss(duel.generator, critic, batch).backward()
    assert latent.grad is not None
    assert latent.grad.abs().sum(1).min() > 0


def test_samples_are_seen_in_standard_units_with_noise() -> None:
    """Mean 0 and standard deviation sqrt(1 + 0.5^2), to five standard errors."""
    draw = torch.Generator().manual_seed(0)
    samples = 3 + 10 * torch.randn(20_000, 2, generator=draw)
    sight = Sight(torch.tensor([3.0, 3.0]), torch.tensor([10.0, 10.0]), noise=0.5, random=draw)
    seen = sight(samples)
    assert seen.mean(0).abs().max() < 5 * 1.12 / 20_000**0.5
    assert seen.std(0).tolist() == pytest.approx([1.25**0.5] * 2, rel=5 / 40_000**0.5)
    assert not torch.equal(sight(samples), seen)
