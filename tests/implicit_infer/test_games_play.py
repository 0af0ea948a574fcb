"""Games as the loop plays them: a location that is found, an average that follows, and a stop where it diverges."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from implicit_estimators.generator_losses import generator_loss
from implicit_estimators.penalties import R1
from implicit_estimators.ratio_losses import ratio_loss
from implicit_infer.games import GAMES, Duel, Play, Training, game


class Location(nn.Module):
    """x = z + mu: the smallest generator."""

    def __init__(self) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.tensor([1.5]))

    def forward(self, z):
        return z + self.mu


class Line(nn.Module):
    """A critic that holds the log-ratio of two Gaussians with equal variance exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(1, 1)
        nn.init.zeros_(self.line.weight)
        nn.init.zeros_(self.line.bias)

    def forward(self, x):
        return self.line(x)[:, 0]


def location_game(loss, name="alternating", seed=100, **training):
    random = torch.Generator().manual_seed(seed)
    wants, moves = ratio_loss("log"), generator_loss(loss)
    duel = Duel(
        Location(),
        Line(),
        lambda g, c, batch: moves.loss(c(g(batch[1]))),
        lambda g, c, batch: wants.loss(c(batch[0]), c(g(batch[1]))),
        lambda: torch.randn(2, 512, 1, generator=random),
        lambda g, c, batch: R1(0.1).penalty(c, batch[0], batch[0]),
        penalise_every=4,
    )
    play = Play(duel, game(name), Training(**training))
    return play, play.run(progress=False)


@pytest.mark.parametrize("loss", ["saturating", "non-saturating", "kl", "reverse-kl"])
def test_every_generator_loss_finds_the_location(loss):
    """From 1.5; the average of the last iterates, which batches of 512 move by about 0.05."""
    play, history = location_game(loss, steps=200, learning_rate=3e-2, critic_learning_rate=1e-1, average=0.95)
    assert history.finite
    assert abs(play.averaged.mu.item()) < 0.15


@pytest.mark.parametrize("name", GAMES)
def test_every_game_finds_the_location(name):
    play, history = location_game(
        "non-saturating", name, steps=100, learning_rate=5e-2, critic_learning_rate=1e-1, average=0.95
    )
    assert history.finite
    assert abs(play.averaged.mu.item()) < 0.15


@pytest.mark.parametrize("name", GAMES)
def test_same_seed_same_game(name):
    first, second = (location_game("non-saturating", name, steps=10)[0].averaged.mu.item() for _ in range(2))
    assert first == second
    assert first != 1.5


def test_critic_is_left_trainable_and_the_generator_loss_does_not_move_it():
    critic = Line()
    duel = Duel(
        Location(),
        critic,
        lambda g, c, z: c(g(z)).mean() * 1e6,
        lambda g, c, z: c(z).sum() * 0,
        lambda: torch.ones(4, 1),
    )
    Play(duel, game("alternating"), Training(steps=1)).run(progress=False)
    assert all(p.requires_grad for p in critic.parameters())
    assert critic.line.weight.item() == 0.0


@pytest.mark.parametrize("name", GAMES)
def test_a_diverging_game_stops_and_says_so(name):
    duel = Duel(
        Location(),
        Line(),
        lambda g, c, z: g(z).sum() * float("nan"),
        lambda g, c, z: c(z).square().sum() + c(g(z)).sum(),
        lambda: torch.ones(4, 1),
    )
    history = Play(duel, game(name), Training(steps=200, marks=100)).run(progress=False)
    assert not history.finite
    assert history.steps[-1] == 2


def test_average_follows_late_iterates():
    play, _ = location_game("non-saturating", steps=100, learning_rate=1e-2, critic_learning_rate=5e-2)
    averaged, last = play.averaged.mu.item(), play.duel.generator.mu.item()
    assert averaged != last
    assert abs(averaged - last) < 1.0


@pytest.mark.parametrize("setting", ["steps", "marks"])
def test_settings_must_be_positive(setting):
    with pytest.raises(ValueError, match=f"{setting}: expected a positive int"):
        Training(**{setting: 0})


@pytest.mark.parametrize("name", GAMES)
def test_critic_steps_must_be_positive(name):
    with pytest.raises(ValueError, match="critic_steps: expected a positive int; got 0"):
        game(name, critic_steps=0)


@pytest.mark.parametrize("name", ["optimistic", "extragradient"])
def test_a_game_put_back_goes_on_as_it_went(name):
    """Whatever a game remembers beside its optimisers is part of the state that a checkpoint holds."""
    settings = {"past": True} if name == "extragradient" else {}
    z = torch.randn(2, 16, 1, generator=torch.Generator().manual_seed(0))
    duel = Duel(
        Location(),
        Line(),
        lambda g, c, _: nn.functional.softplus(-c(g(z[1]))).mean(),
        lambda g, c, _: ratio_loss("log").loss(c(z[0]), c(g(z[1]))),
        lambda: None,
    )
    play = Play(duel, game(name, **settings), Training(steps=6, marks=6))
    states = []
    play.run(progress=False, keep=lambda p: states.append(p.state()))
    end = play.averaged.mu.item()
    play.put_back(states[2])
    assert any(key.startswith(name) for key in play.optimisers.memory)
    play.history.stopped = "no"
    play.run(progress=False)
    assert play.averaged.mu.item() == end
