"""The way a game is stepped: what every one of them offers to the loop that plays it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from implicit_infer.games.duel import Duel

Direction = tuple[Tensor, list[Tensor]]
"""A player's loss, detached, and one direction for each of its parameters."""


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
    r"""A way of stepping a duel. A child sets ``name`` and overrides what it does otherwise than gradient descent.

    A step is ``critic_steps`` moves of the critic and one of the generator, each along a *direction* (its gradient, or
    what a game makes of it) that its optimiser turns into a move. Where the players take turns, the generator answers
    the critic's new weights; where they do not, the last move of the critic and the generator's start from the same
    point and look at the same batch.

    To add a game, copy :class:`~implicit_infer.games.Consensus` (other directions) or
    :class:`~implicit_infer.games.Optimistic` (other moves), and add it to ``GAMES``.

    Args:
        critic_steps: Critic steps for each generator step.
        takes_turns: Whether the generator sees the last of them.

    Attributes:
        name: The name in ``GAMES``.
        needs_critic: Whether there is no such game for one player, with a comparison that trains nothing.

    Raises:
        ValueError: If ``critic_steps`` is not positive.
    """

    critic_steps: int = 1
    takes_turns: bool = False

    name: ClassVar[str]
    needs_critic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.critic_steps < 1:
            raise ValueError(f"critic_steps: expected a positive int; got {self.critic_steps}")

    def step(self, duel: Duel, optimisers: Optimisers) -> tuple[Tensor, Tensor]:
        """Move both players once.

        Args:
            duel: The players and their losses.
            optimisers: What turns gradients into steps; their step sizes are the loop's business.

        Returns:
            The critic's loss (0 where there is none; the mean over its steps) and the generator's, detached, with shape
            ().

        Raises:
            ValueError: If the game needs a critic and there is none.
        """
        self.check(duel)
        if duel.critic is None:
            moved, direction = self.generator_direction(duel, duel.draw(), optimisers)
            self.move_generator(duel, optimisers, direction)
            return torch.zeros_like(moved), moved
        losses = []
        for _ in range(self.critic_steps if self.takes_turns else self.critic_steps - 1):
            loss, direction = self.critic_direction(duel, duel.draw(), optimisers)
            self.move_critic(duel, optimisers, direction)
            losses.append(loss)
        batch = duel.draw()
        if self.takes_turns:
            moved, direction = self.generator_direction(duel, batch, optimisers)
        else:
            (loss, theirs), (moved, direction) = self.directions(duel, batch, optimisers)
            self.move_critic(duel, optimisers, theirs)
            losses.append(loss)
        self.move_generator(duel, optimisers, direction)
        return mean(losses), moved

    def check(self, duel: Duel) -> None:
        """Refuse a duel that the game cannot be played with.

        Raises:
            ValueError: If the game needs a critic and there is none.
        """
        if self.needs_critic and duel.critic is None:
            raise ValueError(f"game: {self.name!r} needs a trained critic; the comparison of this duel trains none")

    def critic_direction(self, duel: Duel, batch: Any, optimisers: Optimisers) -> Direction:
        """The critic's loss at a batch, and what it descends: its gradient, with that of a penalty that is due."""
        return duel.critic_gradient(batch)

    def generator_direction(self, duel: Duel, batch: Any, optimisers: Optimisers) -> Direction:
        """The generator's loss at a batch, and what it descends: its gradient."""
        return duel.generator_gradient(batch)

    def directions(self, duel: Duel, batch: Any, optimisers: Optimisers) -> tuple[Direction, Direction]:
        """The critic's and the generator's directions at one point and one batch."""
        return self.critic_direction(duel, batch, optimisers), self.generator_direction(duel, batch, optimisers)

    def move_critic(self, duel: Duel, optimisers: Optimisers, direction: Sequence[Tensor]) -> None:
        """One step of the critic, and the clipping of its weights."""
        assert optimisers.critic is not None
        parameters = duel.critic_parameters()
        self.move(optimisers, "critic", optimisers.critic, parameters, direction)
        duel.critic_steps_made += 1
        clip(duel, parameters)

    def move_generator(self, duel: Duel, optimisers: Optimisers, direction: Sequence[Tensor]) -> None:
        """One step of the generator."""
        self.move(optimisers, "generator", optimisers.generator, duel.generator_parameters(), direction)

    def move(
        self,
        optimisers: Optimisers,
        player: str,
        optimiser: torch.optim.Optimizer,
        parameters: Sequence[Tensor],
        direction: Sequence[Tensor],
    ) -> None:
        """One step of a player: its optimiser's."""
        apply(optimiser, parameters, direction)


def apply(optimiser: torch.optim.Optimizer, parameters: Sequence[Tensor], directions: Sequence[Tensor]) -> None:
    """Let the optimiser step as if ``directions`` were the gradients of ``parameters``."""
    for parameter, direction in zip(parameters, directions, strict=True):
        parameter.grad = direction
    optimiser.step()
    for parameter in parameters:
        parameter.grad = None


@torch.no_grad()
def clip(duel: Duel, parameters: Sequence[Tensor]) -> None:
    """Put weights of the critic back into their bounds, where it has any."""
    if duel.clip is not None:
        for parameter in parameters:
            parameter.clamp_(-duel.clip, duel.clip)


def mean(losses: Sequence[Tensor]) -> Tensor:
    """The mean of scalars."""
    return losses[0] if len(losses) == 1 else torch.stack(list(losses)).mean()
