"""Historical averaging: both players are held near the mean of where they have been, which ends their circling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from implicit_infer.games.alternating import Alternating
from implicit_infer.games.base import Game, Optimisers
from implicit_infer.games.duel import Duel, Player

MEMORY = "historical"
"""Where the means are kept among what games remember."""


@dataclass(frozen=True)
class HistoricalAveraging(Game):
    r"""Adds to the loss of each player its distance from its own past, and leaves the rest to another game.

    .. math:: L \leftarrow L + \lambda \Big\| w_t - \frac{1}{t + 1} \sum_{i = 0}^{t} w_i \Big\|^2

    The mean counts as a constant. On the bilinear game :math:`\min_x \max_y x y` the players, who would circle for
    ever, come to the equilibrium like :math:`t^{-1 / (1 + 4 \lambda^2)}`: slowly, for the mean forgets slowly, and a
    larger weight makes it slower. (Averaging the *iterates* afterwards, as the loop does for the generator, leaves the
    game as it is.)

    References:
        | Improved Techniques for Training GANs (Salimans et al., 2016), section 3.3
        | https://arxiv.org/abs/1606.03498

    Args:
        game: How the players are stepped.
        weight: :math:`\lambda`.

    Attributes:
        critic_steps: Those of ``game``.
        takes_turns: That of ``game``.

    Raises:
        ValueError: If ``weight`` is negative.
    """

    critic_steps: int = field(default=1, init=False, repr=False)
    takes_turns: bool = field(default=True, init=False, repr=False)
    game: Game = field(default_factory=Alternating)
    weight: float = 0.25

    name = "historical-averaging"

    def __post_init__(self) -> None:
        object.__setattr__(self, "critic_steps", self.game.critic_steps)
        object.__setattr__(self, "takes_turns", self.game.takes_turns)
        if not self.weight >= 0:
            raise ValueError(f"weight: expected a number not below 0; got {self.weight}")

    def step(self, duel: Duel, optimisers: Optimisers) -> tuple[Tensor, Tensor]:
        """A step of ``game`` on losses that remember."""
        memory = optimisers.memory
        ours, theirs = duel.generator_parameters(), duel.critic_parameters()
        keys = [f"{MEMORY}.{part}" for part in ("generator", "critic", "count")]
        with torch.no_grad():
            if keys[0] not in memory:
                for key, player in zip(keys, (ours, theirs), strict=False):
                    memory[key] = [weight.clone() for weight in player]
                memory[keys[2]] = [torch.ones((), device=ours[0].device)]
            else:
                memory[keys[2]][0] += 1
                for key, player in zip(keys, (ours, theirs), strict=False):
                    for mean, weight in zip(memory[key], player, strict=True):
                        mean += (weight - mean) / memory[keys[2]][0]
        remembering = Remembering(
            **{setting.name: getattr(duel, setting.name) for setting in fields(Duel)},
            of_generator=memory[keys[0]],
            of_critic=memory[keys[1]],
            weight=self.weight,
        )
        losses = self.game.step(remembering, optimisers)
        duel.critic_steps_made = remembering.critic_steps_made
        return losses


@dataclass
class Remembering(Duel):
    """A duel whose gradients hold those of the distance to the means as well.

    Attributes:
        of_generator: Means of the generator's weights.
        of_critic: Means of the critic's.
        weight: Weight of the squared distance.
    """

    of_generator: Sequence[Tensor] = ()
    of_critic: Sequence[Tensor] = ()
    weight: float = 0.0

    def critic_gradient(
        self,
        batch: Any,
        critic: Player | None = None,
        parameters: Sequence[Tensor] | None = None,
        graph: bool = False,
        ahead: int = 0,
    ) -> tuple[Tensor, list[Tensor]]:
        """See :meth:`Duel.critic_gradient`."""
        loss, gradient = super().critic_gradient(batch, critic, parameters, graph, ahead)
        weights = self.critic_parameters() if parameters is None else parameters
        return loss, self._remembered(gradient, weights, self.of_critic, graph)

    def generator_gradient(
        self, batch: Any, critic: Player | None = None, graph: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """See :meth:`Duel.generator_gradient`."""
        loss, gradient = super().generator_gradient(batch, critic, graph)
        return loss, self._remembered(gradient, self.generator_parameters(), self.of_generator, graph)

    def _remembered(
        self, gradient: Sequence[Tensor], weights: Sequence[Tensor], means: Sequence[Tensor], graph: bool
    ) -> list[Tensor]:
        with torch.enable_grad() if graph else torch.no_grad():
            return [
                own + 2 * self.weight * (weight - mean)
                for own, weight, mean in zip(gradient, weights, means, strict=True)
            ]
