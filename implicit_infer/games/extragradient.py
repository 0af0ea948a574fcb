"""Extragradient: look where a step would lead, come back, and step along the gradient from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from implicit_infer.games.base import Game, Optimisers, apply, clip, mean
from implicit_infer.games.duel import Duel


@dataclass(frozen=True)
class Extragradient(Game):
    r"""Both players extrapolate, and then step from where they were along the gradient at the extrapolated point.

    .. math:: w_{t+1/2} = w_t - \eta v(w_t), \qquad w_{t+1} = w_t - \eta v(w_{t+1/2})

    Both halves are steps of the optimiser, on a batch each, and both move its moments: with Adam this is the paper's
    ExtraAdam. Weights are clipped after both. With ``past`` the extrapolation uses the gradient at the *last*
    extrapolated point, :math:`v(w_{t-1/2})`, which is already known, and a step costs one gradient instead of two; the
    first step of a game extrapolates with its own.

    References:
        | A Variational Inequality Perspective on Generative Adversarial Networks (Gidel et al., 2019), algorithm 4
        | https://arxiv.org/abs/1802.10551

    Args:
        critic_steps: Critic steps for each generator step; all but the last are extragradient steps of the critic
            alone.
        past: Whether to extrapolate from the past.

    Raises:
        ValueError: If ``critic_steps`` is not positive.
    """

    takes_turns: bool = field(default=False, init=False, repr=False)
    past: bool = False

    name = "extragradient"

    def step(self, duel: Duel, optimisers: Optimisers) -> tuple[Tensor, Tensor]:
        """Extrapolate, take the gradients there, come back, step."""
        alone = 0 if duel.critic is None else self.critic_steps - 1
        losses = [self._move(duel, optimisers, generator_moves=False)[0] for _ in range(alone)]
        loss, moved = self._move(duel, optimisers)
        return mean([*losses, loss]), moved

    def _move(self, duel: Duel, optimisers: Optimisers, generator_moves: bool = True) -> tuple[Tensor, Tensor]:
        key = "extragradient.both" if generator_moves else "extragradient.critic"
        critic = duel.critic_parameters()
        generator = duel.generator_parameters() if generator_moves else []
        weights = [*critic, *generator]
        there = optimisers.memory.get(key) if self.past else None
        if there is None:
            there = _gradients(duel, duel.draw(), generator_moves)[2]
        with torch.no_grad():
            here = torch._foreach_mul(weights, 1.0)
        self._advance(duel, optimisers, critic, generator, there)
        critic_loss, generator_loss, there = _gradients(duel, duel.draw(), generator_moves)
        with torch.no_grad():
            torch._foreach_copy_(weights, here)
        self._advance(duel, optimisers, critic, generator, there)
        duel.critic_steps_made += duel.critic is not None
        if self.past:
            optimisers.memory[key] = there
        return critic_loss, generator_loss

    def _advance(
        self,
        duel: Duel,
        optimisers: Optimisers,
        critic: Sequence[Tensor],
        generator: Sequence[Tensor],
        gradient: Sequence[Tensor],
    ) -> None:
        if optimisers.critic is not None:
            apply(optimisers.critic, critic, gradient[: len(critic)])
            clip(duel, critic)
        if generator:
            apply(optimisers.generator, generator, gradient[len(critic) :])


def _gradients(duel: Duel, batch: Any, of_generator: bool) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Both losses (0 of a player that does not move) and the gradients, the critic's before the generator's."""
    critic_loss, gradient = duel.critic_gradient(batch) if duel.critic is not None else (None, [])
    generator_loss = None
    if of_generator:
        generator_loss, ours = duel.generator_gradient(batch)
        gradient = [*gradient, *ours]
    some = generator_loss if critic_loss is None else critic_loss
    assert some is not None
    zero = torch.zeros_like(some)
    return (
        zero if critic_loss is None else critic_loss,
        zero if generator_loss is None else generator_loss,
        gradient,
    )
