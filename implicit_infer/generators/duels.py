"""Makes a duel of a generator network, data and a comparison: what both players look at, and what each minimises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from implicit_estimators.comparisons import Comparison
from implicit_estimators.penalties import check_rows
from implicit_infer.games.duel import Batch, Duel, Player
from implicit_infer.generators.likelihood import MaximumLikelihood
from implicit_infer.generators.sight import Sight


@dataclass(frozen=True)
class Calls:
    """How players are called: with the condition where there is one, and in which precision.

    Attributes:
        low: Whether matrix products are in bfloat16 (autocast); what comes out is in the samples' precision again, so
            that losses, standardisation and weights are never low.
    """

    low: bool = False

    def __call__(self, player: Player, samples: Tensor, condition: Tensor | None) -> Tensor:
        """What a player says."""
        inputs = (samples,) if condition is None else (samples, condition)
        if not self.low:
            return player(*inputs)
        # one context for each call: a cache of low weights must not outlive the mode that it was made in
        with torch.autocast(samples.device.type, dtype=torch.bfloat16):
            out = player(*inputs)
        return out.to(samples.dtype)


def make_duel(
    generator: nn.Module,
    critic: nn.Module | None,
    comparison: Comparison,
    draw: Callable[[], Batch],
    sight: Sight,
    random: torch.Generator,
    penalise_every: int = 1,
    call: Calls | None = None,
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
        call: How players are called; as they are if None.

    Returns:
        The duel.

    Raises:
        ValueError: If the comparison has a penalty, and the critic's output at a sample depends on the others.
    """
    call = Calls() if call is None else call

    def make(player: Player, batch: Batch) -> Tensor:
        assert batch.latent is not None
        return call(player, batch.latent, batch.condition)

    def see(critic: Player, samples: Tensor, batch: Batch) -> Tensor:
        return call(critic, samples, sight.given(batch.condition))

    def critic_loss(generator: Player, critic: Player, batch: Batch) -> Tensor:
        fake = sight(make(generator, batch))
        return comparison.critic_objective(see(critic, sight(batch.real), batch), see(critic, fake, batch))

    def generator_loss(generator: Player, critic: Player | None, batch: Batch) -> Tensor:
        if isinstance(comparison, MaximumLikelihood):
            return comparison.density_objective(generator, batch, random)
        fake = sight(make(generator, batch))
        if critic is None:
            given = sight.given(batch.condition)
            return comparison.generator_objective(_joined(sight(batch.real), given), _joined(fake, given))
        at_model = see(critic, fake, batch)
        # most losses do not look at the data, and the critic's pass over them is a sixth of a step
        at_data = see(critic, sight(batch.real), batch) if comparison.needs_data else at_model
        return comparison.generator_objective(at_data, at_model)

    def penalty(generator: Player, critic: Player, batch: Batch) -> Tensor:
        assert comparison.regulariser is not None

        def seen(samples: Tensor, condition: Tensor | None = None) -> Tensor:
            return call(critic, samples, condition)

        real = sight(batch.real)
        fake = sight(make(generator, batch)) if comparison.regulariser.needs_draws else real
        return comparison.regulariser.penalty(seen, real, fake, random, sight.given(batch.condition))

    if comparison.regulariser is not None and critic is not None:
        check_rows(critic)
    if not comparison.trained:
        return Duel(generator, None, generator_loss, None, draw)
    return Duel(
        generator,
        critic,
        generator_loss,
        critic_loss,
        draw,
        None if comparison.regulariser is None else penalty,
        penalise_every,
        comparison.clip,
    )


def _joined(samples: Tensor, given: Tensor | None) -> Tensor:
    """Samples beside what they were made given, as rows: the joint law is what an untrained comparison compares."""
    rows = samples.flatten(1)
    return rows if given is None else torch.cat([rows, given.flatten(1)], 1)
