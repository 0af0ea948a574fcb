"""What learning by comparison gives: a network that draws, with what is known of how it was learned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from implicit_estimators.seeds import Seed, generator
from implicit_infer.games import GameHistory


@dataclass
class Learned:
    """A learned generator.

    Attributes:
        module: The network, averaged over the game's iterates, in evaluation mode.
        critic: What told its draws from data at the end of the game; None where nothing was trained.
        latent: Shape of the noise of one draw.
        history: What the game looked like on the way.
        warnings: What went wrong, in sentences.
        figures: What else is known of it.
    """

    module: nn.Module
    critic: nn.Module | None
    latent: tuple[int, ...]
    history: GameHistory
    warnings: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    @torch.no_grad()
    def sample(self, shape: tuple[int, ...] = (1,), condition: Any = None, *, seed: Seed = None) -> Tensor:
        """Draws of the generator.

        Args:
            shape: How many, as a shape.
            condition: One row for each draw, or one row for all, where the generator is conditional.
            seed: An int, a ``torch.Generator`` or None for fresh entropy.

        Returns:
            Draws with shape (*shape, *event_shape).
        """
        parameter = next(self.module.parameters())
        n = torch.Size(shape).numel()
        z = torch.randn(
            (n, *self.latent),
            generator=generator(seed, parameter.device),
            device=parameter.device,
            dtype=parameter.dtype,
        )
        draws = self.module(z) if condition is None else self.module(z, condition)
        return draws.reshape(*shape, *draws.shape[1:])
