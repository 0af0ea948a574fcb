"""Makes a duel of a generator network, data and a comparison: what both players look at, and what each minimises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from implicit_estimators.comparisons import Comparison
from implicit_infer.games.duel import Batch, Duel, Player


@dataclass
class Sight:
    """What the comparison sees of a sample: standardised, with instance noise, packed.

    Attributes:
        centre: Taken off the samples, with their event shape or ().
        scale: What they are then divided by.
        packing: Samples that the critic sees at a time (PacGAN), side by side along the first event axis.
        noise: Standard deviation of the instance noise now, in standardised units: the loop lowers it.
        random: Source of the noise.
    """

    centre: Tensor
    scale: Tensor
    packing: int = 1
    noise: float = 0.0
    random: torch.Generator | None = None

    def __call__(self, samples: Tensor) -> Tensor:
        """The samples as the critic gets them, with shape (n / packing, packing * first, ...)."""
        seen = (samples - self.centre) / self.scale
        if self.noise:
            seen = seen + self.noise * torch.randn(
                seen.shape, generator=self.random, device=seen.device, dtype=seen.dtype
            )
        return self.packed(seen)

    def packed(self, rows: Tensor) -> Tensor:
        """Rows side by side, ``packing`` at a time; what is left over is dropped."""
        if self.packing == 1:
            return rows
        whole = len(rows) // self.packing
        return rows[: whole * self.packing].reshape(whole, self.packing * rows.shape[1], *rows.shape[2:])


def make_duel(
    generator: nn.Module,
    critic: nn.Module | None,
    comparison: Comparison,
    draw: Callable[[], Batch],
    sight: Sight,
    random: torch.Generator,
    penalise_every: int = 1,
) -> Duel:
    """The duel of a generator and a critic under a comparison.

    Args:
        generator: Called with the latent, and the condition where there is one.
        critic: Called with what ``sight`` gives, and the condition; None where the comparison trains none.
        comparison: The losses.
        draw: Fresh batches.
        sight: What is done to samples before they are compared.
        random: Source of what penalties draw.
        penalise_every: Critic steps between two penalties.

    Returns:
        The duel.
    """

    def make(player: Player, batch: Batch) -> Tensor:
        return player(batch.latent) if batch.condition is None else player(batch.latent, batch.condition)

    def see(critic: Player, samples: Tensor, batch: Batch) -> Tensor:
        return critic(samples) if batch.condition is None else critic(samples, sight.packed(batch.condition))

    def critic_loss(generator: Player, critic: Player, batch: Batch) -> Tensor:
        fake = sight(make(generator, batch))
        return comparison.critic_objective(see(critic, sight(batch.real), batch), see(critic, fake, batch))

    def generator_loss(generator: Player, critic: Player | None, batch: Batch) -> Tensor:
        fake, real = sight(make(generator, batch)), sight(batch.real)
        if critic is None:
            return comparison.generator_objective(_joined(real, batch), _joined(fake, batch))
        return comparison.generator_objective(see(critic, real, batch), see(critic, fake, batch))

    def penalty(generator: Player, critic: Player, batch: Batch) -> Tensor:
        assert comparison.regulariser is not None
        fake = sight(make(generator, batch))
        condition = None if batch.condition is None else sight.packed(batch.condition)
        return comparison.regulariser.penalty(critic, sight(batch.real), fake, random, condition)

    duel: dict[str, Any] = {"generator": generator, "generator_loss": generator_loss, "draw": draw}
    if not comparison.trained:
        return Duel(critic=None, critic_loss=None, **duel)
    return Duel(
        critic=critic,
        critic_loss=critic_loss,
        penalty=None if comparison.regulariser is None else penalty,
        penalise_every=penalise_every,
        clip=comparison.clip,
        **duel,
    )


def _joined(samples: Tensor, batch: Batch) -> Tensor:
    """Samples beside what they were made given, as rows: the joint law is what an untrained comparison compares."""
    rows = samples.flatten(1)
    return rows if batch.condition is None else torch.cat([rows, batch.condition.flatten(1)], 1)
