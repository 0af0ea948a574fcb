"""Consensus optimisation: both players also descend the length of the field, which is 0 where they agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from implicit_infer.games.base import Direction, Game, Optimisers
from implicit_infer.games.duel import Duel, gradients


@dataclass(frozen=True)
class Consensus(Game):
    r"""Both players also descend a loss that they share, the squared length of the field.

    .. math:: \theta \leftarrow \theta - \eta \nabla_\theta (L_G + \gamma L), \quad
        \psi \leftarrow \psi - \eta \nabla_\psi (L_C + \gamma L), \quad
        L = \tfrac12 \|\nabla_\theta L_G\|^2 + \tfrac12 \|\nabla_\psi L_C\|^2

    With J the Jacobian of v, an eigenvalue :math:`\pm i \omega` of the flow becomes :math:`-\gamma \omega^2 \pm i
    \omega`: what turned in circles now turns inwards. A penalty that is due counts as part of the critic's loss, so
    that its third derivatives are taken; its points are held fixed. L is that of the batch, which exceeds that of the
    expected field by the variance of the gradients, so that this is pulled down as well. Any stationary point of L
    attracts, not equilibria alone: a large :math:`\gamma` can stop at one that is none.

    The published Dirac-GAN experiment has half of the term with :math:`f' f''` in it; here is the gradient itself.

    References:
        | The Numerics of GANs (Mescheder, Nowozin and Geiger, 2017), algorithm 2
        | https://arxiv.org/abs/1705.10461

    Args:
        critic_steps: Critic steps for each generator step; each descends :math:`L_C + \gamma L`.
        takes_turns: Whether the generator sees the last of them; in the paper it does not.
        gamma: The weight of the shared loss.

    Raises:
        ValueError: If ``critic_steps`` is not positive or ``gamma`` is negative.
    """

    gamma: float = 1.0

    name = "consensus"
    needs_critic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.gamma >= 0:
            raise ValueError(f"gamma: expected a number not below 0; got {self.gamma}")

    def critic_direction(self, duel: Duel, batch: Any, optimisers: Optimisers) -> Direction:
        """The gradient of the critic's loss and of the shared one."""
        return self.directions(duel, batch, optimisers)[0]

    def generator_direction(self, duel: Duel, batch: Any, optimisers: Optimisers) -> Direction:
        """The gradient of the generator's loss and of the shared one."""
        return self.directions(duel, batch, optimisers)[1]

    def directions(self, duel: Duel, batch: Any, optimisers: Optimisers) -> tuple[Direction, Direction]:
        """Both, from one field."""
        critic_loss, theirs = duel.critic_gradient(batch, graph=True)
        generator_loss, ours = duel.generator_gradient(batch, graph=True)
        field = [*theirs, *ours]
        length = 0.5 * sum((part.square().sum() for part in field[1:]), field[0].square().sum())
        shared = gradients(length, [*duel.critic_parameters(), *duel.generator_parameters()])
        direction = [own.detach() + self.gamma * term for own, term in zip(field, shared, strict=True)]
        return (critic_loss, direction[: len(theirs)]), (generator_loss, direction[len(theirs) :])
