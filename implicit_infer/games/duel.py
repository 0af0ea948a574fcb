r"""Two players and their losses: the vector field that every way of stepping a game follows.

With parameters :math:`\theta` of the generator and :math:`\psi` of the critic and a loss of each, the field is
:math:`v(\theta, \psi) = (\nabla_\theta L_G, \nabla_\psi L_C)`. The losses are functions of the players, not of fixed
weights, so that a game can ask for them elsewhere: after an extrapolation, or along unrolled steps of the critic.

References:
    | The Numerics of GANs (Mescheder, Nowozin and Geiger, 2017)
    | https://arxiv.org/abs/1705.10461
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Player = Callable[..., Tensor]
"""A module, or what stands in for one with other weights: called as the module is."""


@dataclass(frozen=True)
class Batch:
    """What one step of a player looks at.

    Attributes:
        real: Samples of the data, with shape (n, *event_shape).
        latent: The generator's noise, with shape (n, *latent_shape); None for a generator that needs none.
        condition: What both are given, with n rows, or None.
    """

    real: Tensor
    latent: Tensor | None = None
    condition: Tensor | None = None


@dataclass
class Duel:
    """A game before it is played. All losses are scalars and differentiable in the players that they are given.

    Attributes:
        generator: The model.
        critic: What tells its draws from data; None where nothing is trained.
        generator_loss: ``(generator, critic, batch)`` to the generator's loss.
        critic_loss: The same of the critic's loss, without penalty; detaches what the generator made.
        draw: A fresh batch.
        penalty: ``(generator, critic, batch)`` to the critic's penalty, or None.
        penalise_every: Critic steps between two evaluations of the penalty, whose weight is multiplied accordingly.
        after_critic_step: Called after each step of the critic (weight clipping), or None.
    """

    generator: nn.Module
    critic: nn.Module | None
    generator_loss: Callable[[Player, Player | None, Any], Tensor]
    critic_loss: Callable[[Player, Player, Any], Tensor] | None
    draw: Callable[[], Any]
    penalty: Callable[[Player, Player, Any], Tensor] | None = None
    penalise_every: int = 1
    after_critic_step: Callable[[], None] | None = None
    critic_steps_made: int = 0

    def __post_init__(self) -> None:
        if (self.critic is None) != (self.critic_loss is None):
            raise ValueError("critic, critic_loss: expected both or neither")
        if self.penalise_every < 1:
            raise ValueError(f"penalise_every: expected a positive int; got {self.penalise_every}")

    def generator_parameters(self) -> list[Tensor]:
        """The generator's parameters that move."""
        return [parameter for parameter in self.generator.parameters() if parameter.requires_grad]

    def critic_parameters(self) -> list[Tensor]:
        """The critic's parameters that move; none where nothing is trained."""
        return [] if self.critic is None else [p for p in self.critic.parameters() if p.requires_grad]

    def critic_gradient(
        self, batch: Any, critic: Player | None = None, parameters: Sequence[Tensor] | None = None, graph: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """The critic's loss at a batch and its gradient, with the penalty's where one is due.

        Args:
            batch: What :attr:`draw` gave.
            critic: What stands in for the critic, with ``parameters``; the critic itself if None.
            parameters: What to differentiate in.
            graph: Whether the gradient itself is to be differentiated.

        Returns:
            The loss without penalty (detached), and one gradient for each parameter.
        """
        assert self.critic_loss is not None
        player: Any = self.critic if critic is None else critic
        parameters = self.critic_parameters() if parameters is None else parameters
        loss = self.critic_loss(self.generator, player, batch)
        total = loss
        if self.penalty is not None and self.critic_steps_made % self.penalise_every == 0:
            total = total + self.penalise_every * self.penalty(self.generator, player, batch)
        return loss.detach(), gradients(total, parameters, graph)

    def generator_gradient(
        self, batch: Any, critic: Player | None = None, graph: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """The generator's loss at a batch and its gradient, through ``critic`` if one stands in for the critic."""
        loss = self.generator_loss(self.generator, self.critic if critic is None else critic, batch)
        return loss.detach(), gradients(loss, self.generator_parameters(), graph)


def gradients(loss: Tensor, parameters: Sequence[Tensor], graph: bool = False) -> list[Tensor]:
    """The gradient of a scalar in each parameter, zero where it does not depend on one."""
    if not loss.requires_grad:
        return [torch.zeros_like(parameter) for parameter in parameters]
    return list(torch.autograd.grad(loss, parameters, create_graph=graph, materialize_grads=True))
