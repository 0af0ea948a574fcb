"""Gradient descent in turns: the critic steps, then the generator answers the new critic."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_infer.games.duel import Duel
from implicit_infer.games.game import Game, Optimisers, apply, move_critic


@dataclass(frozen=True)
class Alternating(Game):
    r"""``critic_steps`` steps of the critic, each on a fresh batch, then one of the generator.

    References:
        | Generative Adversarial Networks (Goodfellow et al., 2014), algorithm 1
        | https://arxiv.org/abs/1406.2661

    Args:
        critic_steps: Critic steps before each generator step.

    Raises:
        ValueError: If ``critic_steps`` is not positive.
    """

    critic_steps: int = 1

    name = "alternating"

    def __post_init__(self) -> None:
        if self.critic_steps < 1:
            raise ValueError(f"critic_steps: expected a positive int; got {self.critic_steps}")

    def step(self, duel: Duel, optimisers: Optimisers) -> tuple[Tensor, Tensor]:
        """The critic's steps, then the generator's."""
        losses = []
        if duel.critic is not None:
            for _ in range(self.critic_steps):
                loss, gradient = duel.critic_gradient(duel.draw())
                move_critic(duel, optimisers, gradient)
                losses.append(loss)
        moved, gradient = duel.generator_gradient(duel.draw())
        apply(optimisers.generator, duel.generator_parameters(), gradient)
        return torch.stack(losses).mean() if losses else torch.zeros_like(moved), moved
