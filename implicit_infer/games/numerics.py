r"""Whether a game converges, before it is played: eigenvalues of its flow, and of the steps that follow it, at a point.

Near an equilibrium the flow :math:`\dot w = -v(w)` of both players is linear, with the matrix :math:`A = -v'(w)`. It
converges if every eigenvalue of A has a negative real part; the imaginary parts are the rotation that sets games apart
from minimisation. A *step* of size :math:`\eta` is another linear map, and it converges if every eigenvalue of that
(its multipliers) is shorter than 1: simultaneous descent has :math:`1 + \eta \lambda`, which for
:math:`\lambda = \pm i \omega` is longer than 1 at any step size.

These are for small games, whose matrices can be written down: both cost one pass for each parameter.

References:
    | The Numerics of GANs (Mescheder, Nowozin and Geiger, 2017)
    | https://arxiv.org/abs/1705.10461
    | Which Training Methods for GANs do actually Converge? (Mescheder, Geiger and Nowozin, 2018)
    | https://arxiv.org/abs/1801.04406
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from implicit_infer.games.base import Game, Optimisers
from implicit_infer.games.duel import Duel, gradients


def jacobian(duel: Duel, batch: Any = None) -> Tensor:
    r"""The matrix :math:`A = -v'(w)` of the flow, the generator's parameters before the critic's.

    A penalty counts with its mean weight, however seldom it is evaluated; its points are held fixed, so that the
    generator's influence on it through them is left out (at an equilibrium with a zero-centred penalty that is 0).

    Args:
        duel: The players, at the point of interest.
        batch: What to take the losses at; a fresh one if None.

    Returns:
        The matrix, with shape (N, N) for N trained parameters of both players.
    """
    batch = duel.draw() if batch is None else batch
    at = replace(duel, penalise_every=1)
    field = at.generator_gradient(batch, graph=True)[1]
    if at.critic is not None:
        field = [*field, *at.critic_gradient(batch, graph=True)[1]]
    parameters = [*at.generator_parameters(), *at.critic_parameters()]
    rows = []
    for component in torch.cat([part.flatten() for part in field]):
        # the graph is asked for again with each component, and create_graph keeps it
        slopes = gradients(component, parameters, graph=True)
        rows.append(torch.cat([slope.detach().flatten() for slope in slopes]))
    return -torch.stack(rows)


def eigenvalues(duel: Duel, batch: Any = None) -> Tensor:
    r"""The eigenvalues of :func:`jacobian`: the flow converges where all their real parts are negative.

    The Dirac-GAN with a zero-centred penalty of weight :math:`\gamma` has, at its equilibrium,
    :math:`-\frac{\gamma}{2} \pm \sqrt{\frac{\gamma^2}{4} - \frac14}`.

    Args:
        duel: The players, at the point of interest.
        batch: What to take the losses at; a fresh one if None.

    Returns:
        Complex numbers with shape (N,).
    """
    return torch.linalg.eigvals(jacobian(duel, batch))


def multipliers(
    duel: Duel,
    game: Game,
    learning_rate: float = 0.1,
    critic_learning_rate: float | None = None,
    batch: Any = None,
) -> Tensor:
    r"""The eigenvalues of one step of a game with plain gradient descent: it converges where all are shorter than 1.

    Found by central differences of the step itself, so that they are those of any game; what a game remembers between
    steps is part of its state, and adds multipliers of its own. Needs losses that draw nothing beside their batch.
    Weights are those of before afterwards. Use modules in double precision for more than two digits.

    Args:
        duel: The players, at an equilibrium.
        game: How they are stepped.
        learning_rate: Step size of the generator.
        critic_learning_rate: Step size of the critic; the generator's if None.
        batch: What to take the losses at; a fresh one if None.

    Returns:
        Complex numbers, as many as the players have parameters and the game has numbers in memory.
    """
    batch = duel.draw() if batch is None else batch
    ours, theirs = duel.generator_parameters(), duel.critic_parameters()
    weights = [*ours, *theirs]
    start = [weight.detach().clone() for weight in weights]

    def step(state: Tensor | None, memory: dict[str, list[Tensor]]) -> tuple[Tensor, dict[str, list[Tensor]]]:
        """The state after one step, from ``state`` in the form of weights and ``memory``, or from the start."""
        if state is not None:
            parts = iter(state.split([part.numel() for part in [*weights, *chain(*memory.values())]]))
            _put(weights, [next(parts) for _ in weights])
            memory = {key: [next(parts).view_as(part) for part in kept] for key, kept in memory.items()}
        at = replace(duel, draw=lambda: batch, penalise_every=1)
        critic_rate = learning_rate if critic_learning_rate is None else critic_learning_rate
        optimisers = Optimisers(
            torch.optim.SGD(ours, lr=learning_rate),
            torch.optim.SGD(theirs, lr=critic_rate) if theirs else None,
            {key: [part.clone() for part in kept] for key, kept in memory.items()},
        )
        game.step(at, optimisers)
        after = [*weights, *chain(*optimisers.memory.values())]
        return torch.cat([part.detach().flatten() for part in after]), optimisers.memory

    try:
        _, memory = step(None, {})
        here = torch.cat([part.flatten() for part in [*start, *chain(*memory.values())]])
        width = torch.finfo(here.dtype).eps ** (1 / 3)
        columns = []
        for i in range(len(here)):
            nudge = torch.zeros_like(here)
            nudge[i] = width
            columns.append((step(here + nudge, memory)[0] - step(here - nudge, memory)[0]) / (2 * width))
    finally:
        _put(weights, start)
    return torch.linalg.eigvals(torch.stack(columns, 1))


@torch.no_grad()
def _put(weights: list[Tensor], values: list[Tensor]) -> None:
    for weight, value in zip(weights, values, strict=True):
        weight.copy_(value.view_as(weight))
