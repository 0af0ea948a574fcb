"""Historical averaging: the means, the gradients that it adds, and the bilinear game at its rate."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from implicit_infer.games import GAMES, Alternating, Duel, Game, Optimisers, Simultaneous
from implicit_infer.games.historical import MEMORY, HistoricalAveraging


class Point(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.tensor([value], dtype=torch.float64))

    def forward(self) -> Tensor:
        return self.at


def bilinear() -> Duel:
    """min over x, max over y of x y, from (1, 1)."""

    def value(x: Any, y: Any) -> Tensor:
        return (x() * y()).sum()

    return Duel(
        Point(1.0),
        Point(1.0),
        lambda x, y, _: value(x, y),
        lambda x, y, _: -value(x, y),
        lambda: None,
    )


def play(game: Game, steps: int, rate: float = 0.1) -> tuple[list[float], Optimisers, Duel]:
    duel = bilinear()
    optimisers = Optimisers(
        torch.optim.SGD(duel.generator_parameters(), lr=rate), torch.optim.SGD(duel.critic_parameters(), lr=rate)
    )
    radii = []
    for _ in range(steps):
        game.step(duel, optimisers)
        radii.append(math.hypot(duel.generator_parameters()[0].item(), duel.critic_parameters()[0].item()))
    return radii, optimisers, duel


def test_the_bilinear_game_contracts_at_its_rate() -> None:
    """Like t^(-1 / (1 + 4 weight^2)); without, sqrt(2) (1 + 0.01)^(t / 2).

    The mean is followed with a lag of 1 / rate steps, so the exponent is right to 1 / (rate t).
    """
    free = play(Simultaneous(), 500)[0]
    assert free[-1] == pytest.approx(math.sqrt(2) * 1.01**250)
    for weight in (0.25, 0.5):
        radii = play(HistoricalAveraging(Simultaneous(), weight=weight), 600)[0]
        assert radii[-1] < 0.3
        rate = math.log(radii[149] / radii[-1]) / math.log(4)
        assert rate == pytest.approx(1 / (1 + 4 * weight**2), abs=1 / (0.1 * 150))


@pytest.mark.parametrize("name", GAMES)
def test_any_game_can_be_played_with_it(name: str) -> None:
    """Games that converge by themselves faster than like 1 / t are only to stay within the circle."""
    radii, _, duel = play(HistoricalAveraging(GAMES[name](), weight=0.25), 300)
    assert radii[-1] < 0.35
    assert duel.critic_steps_made == 300


def test_the_first_steps_by_hand() -> None:
    """x and y from 1, rate 0.1, weight 1/2; the mean holds the point that the step starts from."""
    _, optimisers, duel = play(HistoricalAveraging(Simultaneous(), weight=0.5), 3)
    x, y, path = 1.0, 1.0, []
    for _ in range(3):
        path.append((x, y))
        mean_x, mean_y = (sum(values) / len(path) for values in zip(*path, strict=True))
        x, y = x - 0.1 * (y + x - mean_x), y - 0.1 * (-x + y - mean_y)
    assert duel.generator_parameters()[0].item() == pytest.approx(x)
    assert duel.critic_parameters()[0].item() == pytest.approx(y)
    assert optimisers.memory[f"{MEMORY}.generator"][0].item() == pytest.approx(mean_x)
    assert optimisers.memory[f"{MEMORY}.critic"][0].item() == pytest.approx(mean_y)


def test_without_weight_it_is_the_game_itself() -> None:
    assert play(HistoricalAveraging(Alternating(3), weight=0.0), 20)[0] == play(Alternating(3), 20)[0]


def test_a_game_with_one_player() -> None:
    """x^2 / 2 alone, from 1: the mean slows it down, and it gets there."""
    duel = Duel(Point(1.0), None, lambda x, y, _: 0.5 * x().square().sum(), None, lambda: None)
    optimisers = Optimisers(torch.optim.SGD(duel.generator_parameters(), lr=0.5), None)
    for _ in range(50):
        HistoricalAveraging(weight=0.1).step(duel, optimisers)
    assert 0 < duel.generator_parameters()[0].item() < 0.05


def test_its_memory_is_all_that_it_needs_to_go_on() -> None:
    """As a checkpoint keeps it: weights and memory of step 7, put into a fresh game."""
    game = HistoricalAveraging(Simultaneous(), weight=0.3)
    expected = play(game, 12)[0][-1]
    _, optimisers, duel = play(game, 7)
    other = bilinear()
    with torch.no_grad():
        for mine, theirs in zip(
            [*other.generator_parameters(), *other.critic_parameters()],
            [*duel.generator_parameters(), *duel.critic_parameters()],
            strict=True,
        ):
            mine.copy_(theirs)
    again = Optimisers(
        torch.optim.SGD(other.generator_parameters(), lr=0.1),
        torch.optim.SGD(other.critic_parameters(), lr=0.1),
        {key: [value.clone() for value in values] for key, values in optimisers.memory.items()},
    )
    for _ in range(5):
        game.step(other, again)
    found = math.hypot(other.generator_parameters()[0].item(), other.critic_parameters()[0].item())
    assert found == pytest.approx(expected, rel=1e-12)


def test_it_takes_after_its_game() -> None:
    game = HistoricalAveraging(Alternating(4))
    assert (game.critic_steps, game.takes_turns) == (4, True)
    assert not HistoricalAveraging(Simultaneous()).takes_turns
    with pytest.raises(ValueError, match="weight: expected a number not below 0; got -1"):
        HistoricalAveraging(weight=-1)
