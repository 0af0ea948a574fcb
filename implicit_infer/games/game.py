"""The way a game is stepped: what every one of them offers to the loop that plays it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from implicit_infer.games.duel import Duel


@dataclass
class Optimisers:
    """One optimiser for each player, and what a game remembers between steps beside them (all of it in checkpoints).

    Attributes:
        generator: Of the generator's parameters.
        critic: Of the critic's; None where nothing is trained.
        memory: Tensors by name.
    """

    generator: torch.optim.Optimizer
    critic: torch.optim.Optimizer | None
    memory: dict[str, list[Tensor]] = field(default_factory=dict)


@dataclass(frozen=True)
class Game:
    """A child sets ``name`` and writes ``step``.

    Attributes:
        name: The name in ``GAMES``.
    """

    name: ClassVar[str]

    def step(self, duel: Duel, optimisers: Optimisers) -> tuple[Tensor, Tensor]:
        """Move both players once.

        Args:
            duel: The players and their losses.
            optimisers: What turns gradients into steps; their step sizes are the loop's business.

        Returns:
            The critic's loss (0 where there is none) and the generator's, detached, with shape ().
        """
        raise NotImplementedError(f"{type(self).__name__} must write step(duel, optimisers)")


def apply(optimiser: torch.optim.Optimizer, parameters: Sequence[Tensor], directions: Sequence[Tensor]) -> None:
    """Let the optimiser step as if ``directions`` were the gradients of ``parameters``."""
    for parameter, direction in zip(parameters, directions, strict=True):
        parameter.grad = direction
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


def move_critic(duel: Duel, optimisers: Optimisers, directions: Sequence[Tensor]) -> None:
    """One step of the critic along its gradient, and what is due after it."""
    assert optimisers.critic is not None
    apply(optimisers.critic, duel.critic_parameters(), directions)
    duel.critic_steps_made += 1
    if duel.after_critic_step is not None:
        duel.after_critic_step()
