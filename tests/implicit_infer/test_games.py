"""The alternating game: known trajectories, averaging, and a stop where it diverges."""

import pytest
import torch
from torch import nn

from implicit_estimators.generator_losses import generator_loss
from implicit_estimators.penalties import R1
from implicit_estimators.ratio_losses import ratio_loss
from implicit_infer.games import Alternating


class Location(nn.Module):
    """x = z + mu: the smallest generator."""

    def __init__(self):
        super().__init__()
        self.mu = nn.Parameter(torch.tensor([3.0]))

    def forward(self, z):
        return z + self.mu


class Quadratic(nn.Module):
    """A critic that holds the log-ratio of two Gaussians with equal variance exactly: a line."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(1, 1)
        nn.init.zeros_(self.line.weight)
        nn.init.zeros_(self.line.bias)

    def forward(self, x):
        return self.line(x)[:, 0]


def location_game(loss, seed=0, **settings):
    generator, critic = Location(), Quadratic()
    random = torch.Generator().manual_seed(seed)
    wants, moves = ratio_loss("log"), generator_loss(loss)

    def fake():
        return generator(torch.randn(512, 1, generator=random))

    def real():
        return torch.randn(512, 1, generator=random)

    averaged, history = Alternating(**settings).play(
        generator,
        critic,
        lambda: moves.loss(critic(fake())),
        lambda: wants.loss(critic(real()), critic(fake().detach())),
        lambda: R1(0.1).penalty(critic, real(), fake().detach(), random),
        progress=False,
    )
    return averaged, generator, history


@pytest.mark.parametrize("loss", ["saturating", "non-saturating", "kl", "reverse-kl"])
def test_every_generator_loss_finds_the_location(loss):
    averaged, _, history = location_game(loss, steps=3000, learning_rate=5e-3, critic_learning_rate=5e-2)
    assert history.finite
    assert abs(averaged.mu.item()) < 0.15  # the average of the last iterates; batches of 512 move it by about 0.05


def test_same_seed_same_game():
    first, second = (location_game("non-saturating", steps=50)[0].mu.item() for _ in range(2))
    assert first == second


def test_critic_is_left_trainable_and_the_generator_loss_does_not_move_it():
    critic = Quadratic()
    generator = Location()
    Alternating(steps=1).play(
        generator,
        critic,
        lambda: critic(generator(torch.ones(4, 1))).mean() * 1e6,
        lambda: critic(torch.ones(4, 1)).sum() * 0 + critic.line.bias.sum() * 0,
        progress=False,
    )
    assert all(p.requires_grad for p in critic.parameters())
    assert critic.line.weight.item() == 0.0


def test_a_diverging_game_stops_and_says_so():
    generator, critic = Location(), Quadratic()
    _, history = Alternating(steps=1000, marks=100).play(
        generator,
        critic,
        lambda: generator.mu.sum() * float("nan"),
        lambda: critic(torch.ones(4, 1)).sum(),
        progress=False,
    )
    assert not history.finite
    assert history.steps[-1] == 10


def test_average_follows_late_iterates():
    averaged, last, _ = location_game("non-saturating", steps=400, learning_rate=1e-2, critic_learning_rate=5e-2)
    assert averaged.mu.item() != last.mu.item()
    assert abs(averaged.mu.item() - last.mu.item()) < 1.0


@pytest.mark.parametrize("setting", ["steps", "critic_steps", "penalise_every", "marks"])
def test_settings_must_be_positive(setting):
    with pytest.raises(ValueError, match=f"{setting}: expected a positive int"):
        Alternating(**{setting: 0})
