r"""Two players and their losses: the vector field that every way of stepping a game follows.

With parameters :math:`\theta` of the generator and :math:`\psi` of the critic and a loss of each, the field is
:math:`v(\theta, \psi) = (\nabla_\theta L_G, \nabla_\psi L_C)`. The losses are functions of the players, not of fixed
weights, so that a game can ask for them elsewhere: after an extrapolation, or along unrolled steps of the critic.

The critic's loss depends on the generator as well, and whether its gradient may be differentiated in the generator's
parameters is the game's choice: a loss does not detach what the generator made, and :class:`Duel` gives it a generator
that records no graph (:class:`Held`) unless a game asks for one.

References:
    | The Numerics of GANs (Mescheder, Nowozin and Geiger, 2017)
    | https://arxiv.org/abs/1705.10461
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

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
    """A game before it is played. All losses are scalars, differentiable in all the players that they are given.

    Attributes:
        generator: The model.
        critic: What tells its draws from data; None where nothing is trained.
        generator_loss: ``(generator, critic, batch)`` to the generator's loss.
        critic_loss: The same of the critic's loss, without penalty. Need not detach what the generator made, and must
            not, for games that differentiate the critic's gradient (consensus, unrolled).
        draw: A fresh batch.
        penalty: ``(generator, critic, batch)`` to the critic's penalty, or None.
        penalise_every: Critic steps between two evaluations of the penalty, whose weight is multiplied accordingly.
        clip: The largest absolute value of the critic's parameters after each of its steps, or None.
        critic_steps_made: Steps of the critic so far, which say when a penalty is due.
    """

    generator: nn.Module
    critic: nn.Module | None
    generator_loss: Callable[[Player, Player | None, Any], Tensor]
    critic_loss: Callable[[Player, Player, Any], Tensor] | None
    draw: Callable[[], Any]
    penalty: Callable[[Player, Player, Any], Tensor] | None = None
    penalise_every: int = 1
    clip: float | None = None
    critic_steps_made: int = 0

    def __post_init__(self) -> None:
        if (self.critic is None) != (self.critic_loss is None):
            raise ValueError("critic, critic_loss: expected both or neither")
        if self.penalise_every < 1:
            raise ValueError(f"penalise_every: expected a positive int; got {self.penalise_every}")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip: expected a positive number or None; got {self.clip}")

    def generator_parameters(self) -> list[Tensor]:
        """The generator's parameters that move: those that were trainable when they were first asked for."""
        return list(self._trained[0])

    def critic_parameters(self) -> list[Tensor]:
        """The critic's parameters that move, as for the generator; none where nothing is trained."""
        return list(self._trained[1])

    @cached_property
    def _trained(self) -> tuple[list[Tensor], list[Tensor]]:
        # once: walking through modules costs as much as a small layer, and a step asks several times
        critic = [] if self.critic is None else self.critic.parameters()
        return [p for p in self.generator.parameters() if p.requires_grad], [p for p in critic if p.requires_grad]

    def critic_gradient(
        self,
        batch: Any,
        critic: Player | None = None,
        parameters: Sequence[Tensor] | None = None,
        graph: bool = False,
        ahead: int = 0,
    ) -> tuple[Tensor, list[Tensor]]:
        """The critic's loss at a batch and its gradient, with the penalty's where one is due.

        Args:
            batch: What :attr:`draw` gave.
            critic: What stands in for the critic, with ``parameters``; the critic itself if None.
            parameters: What to differentiate in.
            graph: Whether the gradient itself is to be differentiated, in the parameters of both players.
            ahead: Critic steps between those made and the one that the gradient is for.

        Returns:
            The loss without penalty (detached), and one gradient for each parameter.
        """
        assert self.critic_loss is not None
        player: Any = self.critic if critic is None else critic
        generator: Any = self.generator if graph else Held(self.generator)
        parameters = self.critic_parameters() if parameters is None else parameters
        loss = self.critic_loss(generator, player, batch)
        total = loss
        if self.penalty is not None and (self.critic_steps_made + ahead) % self.penalise_every == 0:
            total = total + self.penalise_every * self.penalty(generator, player, batch)
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


class Held:
    """A player that records no graph: its weights are constants of whatever is computed with it."""

    def __init__(self, player: Player) -> None:
        self.player = player

    def __call__(self, *inputs: Any) -> Tensor:
        """What the player makes, detached."""
        with torch.no_grad():
            return self.player(*inputs).detach()  # a player may give a parameter itself


class Substitute:
    """A module with other parameters: what stands in for a critic a few steps ahead of itself.

    Args:
        module: The module whose structure, buffers and untrained parameters are used.
        parameters: What to put in place of its trained parameters, in their order.
    """

    def __init__(self, module: nn.Module, parameters: Sequence[Tensor]) -> None:
        self.module = module
        names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
        self.parameters = dict(zip(names, parameters, strict=True))

    def __call__(self, *inputs: Any) -> Tensor:
        """What the module makes with these parameters."""
        made: Tensor = functional_call(self.module, self.parameters, inputs)
        return made
