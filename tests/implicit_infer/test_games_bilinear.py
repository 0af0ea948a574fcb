"""min over x, max over y of x y: every game is a matrix there, and its iterates are powers of it."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from implicit_infer.games import (
    Alternating,
    Consensus,
    Duel,
    Extragradient,
    Game,
    Optimisers,
    Optimistic,
    Simultaneous,
    Unrolled,
    eigenvalues,
    multipliers,
)

ETA = 0.1
ONE = torch.eye(2, dtype=torch.float64)
A = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)  # the flow: x' = -y, y' = x
OF_X, OF_Y = (torch.diag(torch.tensor(row, dtype=torch.float64)) for row in ([1.0, 0.0], [0.0, 1.0]))


class Number(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value, dtype=torch.float64))

    def forward(self) -> torch.Tensor:
        return self.value


def bilinear(x: float = 1.0, y: float = 1.0) -> Duel:
    def value(g: Any, c: Any) -> torch.Tensor:
        return g() * c()

    return Duel(Number(x), Number(y), lambda g, c, _: value(g, c), lambda g, c, _: -value(g, c), lambda: None)


def descent(duel: Duel, rate: float = ETA) -> Optimisers:
    return Optimisers(
        torch.optim.SGD(duel.generator_parameters(), lr=rate), torch.optim.SGD(duel.critic_parameters(), lr=rate)
    )


def where(duel: Duel) -> torch.Tensor:
    return torch.stack([*duel.generator_parameters(), *duel.critic_parameters()]).detach()


def play(game: Game, steps: int, duel: Duel) -> torch.Tensor:
    optimisers = descent(duel)
    for _ in range(steps):
        game.step(duel, optimisers)
    return where(duel)


K = 5
UNROLLED = torch.tensor([[1 - 2 * K * ETA**2, -ETA], [ETA, 1.0]], dtype=torch.float64)
MATRICES = {
    "simultaneous": (Simultaneous(), ONE + ETA * A),
    "alternating": (Alternating(), (ONE + ETA * OF_X @ A) @ (ONE + ETA * OF_Y @ A)),
    "alternating-3": (
        Alternating(3),
        (ONE + ETA * OF_X @ A) @ torch.linalg.matrix_power(ONE + ETA * OF_Y @ A, 3),
    ),
    "simultaneous-3": (
        Simultaneous(3),
        (ONE + ETA * A) @ torch.linalg.matrix_power(ONE + ETA * OF_Y @ A, 2),
    ),
    "extragradient": (Extragradient(), ONE + ETA * A @ (ONE + ETA * A)),
    "consensus": (Consensus(gamma=2.0), ONE + ETA * (A - 2 * ONE)),
    "consensus in turns": (
        Consensus(gamma=2.0, takes_turns=True),
        (ONE + ETA * OF_X @ (A - 2 * ONE)) @ (ONE + ETA * OF_Y @ (A - 2 * ONE)),
    ),
    "unrolled": (Unrolled(unrolled_steps=K), UNROLLED),
    "unrolled, own rate": (Unrolled(unrolled_steps=2 * K, learning_rate=ETA / 2), UNROLLED),
}


@pytest.mark.parametrize(("game", "matrix"), MATRICES.values(), ids=MATRICES)
def test_steps_are_powers_of_the_matrix(game, matrix):
    start = torch.tensor([1.0, 1.0], dtype=torch.float64)
    expected = torch.linalg.matrix_power(matrix, 20) @ start
    torch.testing.assert_close(play(game, 20, bilinear()), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("game", "matrix"), MATRICES.values(), ids=MATRICES)
def test_multipliers_are_those_of_the_matrix(game, matrix):
    duel = bilinear(0.0, 0.0)
    found = multipliers(duel, game, ETA)
    expected = torch.linalg.eigvals(matrix)
    torch.testing.assert_close(
        *(torch.view_as_real(v[v.imag.argsort()]) for v in (found, expected)), rtol=1e-8, atol=1e-8
    )
    assert torch.equal(where(duel), torch.zeros(2, dtype=torch.float64))
    assert duel.critic_steps_made == 0


def test_the_flow_turns_in_circles():
    found = eigenvalues(bilinear(0.3, -0.2))
    assert sorted(found.imag.tolist()) == [-1.0, 1.0]
    assert found.real.abs().max() == 0


@pytest.mark.parametrize("game", [Optimistic(), Extragradient(past=True)], ids=["optimistic", "past"])
def test_multipliers_of_games_that_remember(game):
    """w' = w + 2 eta A w - eta A w_last has the roots of m^2 - (1 + 2 i eta) m + i eta for each eigenvalue i of A."""
    found = multipliers(bilinear(0.0, 0.0), game, ETA)
    residual = found**2 - (1 + 2j * ETA) * found + 1j * ETA
    conjugate = found**2 - (1 - 2j * ETA) * found - 1j * ETA
    assert len(found) == 4
    assert torch.minimum(residual.abs(), conjugate.abs()).max() < 1e-7
    assert found.abs().max().item() == pytest.approx(0.99494, abs=1e-4)


@pytest.mark.parametrize(
    ("game", "steps", "radius"),
    [
        (Simultaneous(), 500, 17.016),
        (Extragradient(), 500, 0.1176),
        (Optimistic(), 500, 0.1129),
        (Unrolled(unrolled_steps=5), 200, 1.5e-4),
    ],
    ids=["simultaneous", "extragradient", "optimistic", "unrolled"],
)
def test_radius_after_many_steps(game, steps, radius):
    """Computed apart, by powers of the matrices; to the digits given."""
    assert play(game, steps, bilinear()).norm().item() == pytest.approx(radius, rel=5e-3)


def test_the_unrolled_game_has_its_second_order_term():
    """A generator that merely meets the critic of five steps later has half the damping: 2.9e-2 instead of 1.5e-4."""
    first_order = torch.tensor([[1 - K * ETA**2, -ETA], [ETA, 1.0]], dtype=torch.float64)
    start = torch.tensor([1.0, 1.0], dtype=torch.float64)
    assert (torch.linalg.matrix_power(first_order, 200) @ start).norm().item() == pytest.approx(2.9e-2, rel=2e-2)
    duel = bilinear()
    optimisers = descent(duel)
    _, (gradient,) = Unrolled(unrolled_steps=K).generator_direction(duel, duel.draw(), optimisers)
    assert gradient.item() == pytest.approx(1.0 + 2 * K * ETA)


def test_alternating_stays_on_its_ellipse():
    duel = bilinear(1.0, -1.0)
    optimisers = descent(duel)
    for _ in range(100):
        Alternating().step(duel, optimisers)
        x, y = where(duel).tolist()
        assert x**2 + y**2 + ETA * x * y == pytest.approx(2 - ETA, rel=1e-12)
        assert math.hypot(x, y) < 2**0.5


def test_optimistic_descent_by_hand():
    """The first step is the optimiser's own; then 2 u - u_last."""
    duel = bilinear()
    optimisers = descent(duel)
    states, updates = [where(duel)], []
    for _ in range(4):
        Optimistic().step(duel, optimisers)
        updates.append(ETA * A @ states[-1])
        last = updates[-2] if len(updates) > 1 else updates[-1]
        states.append(states[-1] + 2 * updates[-1] - last)
        torch.testing.assert_close(where(duel), states[-1], rtol=1e-12, atol=0)


@pytest.mark.parametrize("game", [Optimistic(), Extragradient(past=True)], ids=["optimistic", "past"])
def test_memory_and_weights_are_all_that_a_game_needs_to_go_on(game):
    duel = bilinear()
    optimisers = descent(duel)
    for _ in range(3):
        game.step(duel, optimisers)
    other = bilinear(*where(duel).tolist())
    others = descent(other)
    others.memory.update(copy.deepcopy(optimisers.memory))
    game.step(duel, optimisers)
    game.step(other, others)
    assert torch.equal(where(duel), where(other))


def test_extrapolation_from_the_past_needs_one_gradient_a_step():
    draws = []
    for game in (Extragradient(), Extragradient(past=True)):
        counted = []
        duel = bilinear()
        duel.draw = lambda counted=counted: counted.append(1)
        play(game, 10, duel)
        draws.append(len(counted))
    assert draws == [20, 11]


def test_extra_adam_moves_the_moments_in_both_halves():
    """Algorithm 4 of Gidel et al.: the moments of the extrapolation are those that the step goes on from."""
    duel = bilinear()
    adam = {"lr": 0.01, "betas": (0.5, 0.9)}
    optimisers = Optimisers(
        torch.optim.Adam(duel.generator_parameters(), **adam), torch.optim.Adam(duel.critic_parameters(), **adam)
    )
    m, v, w = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64), where(duel)
    made = 0
    for _ in range(3):
        Extragradient().step(duel, optimisers)
        at = w
        for _ in range(2):
            made += 1
            gradient = -A @ at
            m, v = 0.5 * m + 0.5 * gradient, 0.9 * v + 0.1 * gradient**2
            at = w - 0.01 * (m / (1 - 0.5**made)) / ((v / (1 - 0.9**made)).sqrt() + 1e-8)
        w = at
        torch.testing.assert_close(where(duel), w, rtol=1e-9, atol=0)
