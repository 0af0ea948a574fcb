"""Optimistic descent: each player steps as if its opponent were about to repeat its last move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_infer.games.base import Game, Optimisers, apply


@dataclass(frozen=True)
class Optimistic(Game):
    r"""Adds to each move u of the optimiser its change since the last one.

    .. math:: w_{t+1} = w_t + u_t + (u_t - u_{t-1}), \qquad u_{-1} = u_0

    With plain gradient descent, :math:`u_t = -\eta g_t`, this is optimistic mirror descent, :math:`w_{t+1} = w_t - 2
    \eta g_t + \eta g_{t-1}`; with Adam, the paper's Optimistic Adam. At the price of one gradient it does what
    extrapolation does at that of two: on the bilinear game the iterates themselves converge, not their average only.

    References:
        | Training GANs with Optimism (Daskalakis et al., 2018), algorithm 1
        | https://arxiv.org/abs/1711.00141

    Args:
        critic_steps: Critic steps for each generator step, all of them optimistic.
        takes_turns: Whether the generator sees the last of them; the paper's theory is of players that move at once.

    Raises:
        ValueError: If ``critic_steps`` is not positive.
    """

    name = "optimistic"

    @torch.no_grad()
    def move(
        self,
        optimisers: Optimisers,
        player: str,
        optimiser: torch.optim.Optimizer,
        parameters: Sequence[Tensor],
        direction: Sequence[Tensor],
    ) -> None:
        """The optimiser's step, and its change since the step before, which ``memory`` holds."""
        weights = list(parameters)
        before = torch._foreach_mul(weights, 1.0)
        apply(optimiser, weights, direction)
        update = torch._foreach_sub(weights, before)
        if last := optimisers.memory.get(f"optimistic.{player}"):
            torch._foreach_add_(weights, torch._foreach_sub(update, last))
        optimisers.memory[f"optimistic.{player}"] = list(update)
