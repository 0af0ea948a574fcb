"""The verb ``learn``: fits a network to data by any comparison."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from implicit_estimators.comparisons import Adversarial, Comparison
from implicit_estimators.critics import ConditionalCritic
from implicit_estimators.inputs import as_samples
from implicit_estimators.seeds import Seed, resolve_seed, stream
from implicit_infer.games import Alternating, Batch, Game, Play, Training
from implicit_infer.generators.duels import Sight, make_duel
from implicit_infer.generators.learned import Learned


def learn(
    generator: nn.Module,
    data: Any,
    comparison: Comparison | None = None,
    *,
    latent: int | tuple[int, ...],
    critic: nn.Module | None = None,
    game: Game | None = None,
    training: Training | None = None,
    batch_size: int = 256,
    instance_noise: float = 0.0,
    packing: int = 1,
    standardise: bool = True,
    penalise_every: int = 1,
    seed: Seed = 0,
    device: str = "cpu",
    progress: bool = True,
) -> Learned:
    """Fit a generator network to data (core of it; see the module)."""
    comparison = Adversarial() if comparison is None else comparison
    rows = as_samples(data, "data", rows=2).to(device, torch.get_default_dtype())
    root = resolve_seed(seed)
    shape = (latent,) if isinstance(latent, int) else tuple(latent)
    batches, draws = stream(root, "batches", device), stream(root, "draws", device)
    centre = rows.mean(0) if standardise else torch.zeros((), device=rows.device)
    scale = rows.std(0).clamp(min=1e-30) if standardise else torch.ones((), device=rows.device)
    sight = Sight(centre, scale, packing, instance_noise, draws)
    if comparison.trained and critic is None:
        critic = ConditionalCritic(
            packing * rows.shape[1], 0, (128, 128), spectral_norm=comparison.spectral_norm, seed=root, device=device
        )

    def draw() -> Batch:
        chosen = torch.randint(len(rows), (batch_size,), generator=batches, device=rows.device)
        z: Tensor = torch.randn((batch_size, *shape), generator=draws, device=rows.device, dtype=rows.dtype)
        return Batch(rows[chosen], z)

    duel = make_duel(generator.to(device), critic, comparison, draw, sight, draws, penalise_every)
    game = Alternating(comparison.critic_steps) if game is None else game
    play = Play(duel, game, Training() if training is None else training)
    history = play.run(name="learning", progress=progress)
    return Learned(play.averaged.eval(), critic, shape, history)
