r"""An emulator from a game: a conditional generator that a critic of pairs (theta, x) cannot tell from the simulator.

The critic sees simulations beside the parameters that they were made with, and draws of the generator beside the same
parameters; any trained comparison of the package can be the game. The Cramér distance of learned features is the one
that local surrogates were published with.

References:
    | The Cramer Distance as a Solution to Biased Wasserstein Gradients (Bellemare et al., 2017)
    | https://arxiv.org/abs/1705.10743
    | Black-Box Optimization with Local Generative Surrogates (Shirobokov et al., 2020)
    | https://arxiv.org/abs/2002.04632
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from implicit_estimators.comparisons import Comparison
from implicit_estimators.comparisons import comparison as comparison_of
from implicit_estimators.critics.conditional import ConditionalCritic
from implicit_infer.fitting.emulators.emulation import Emulation, Rows, complaints
from implicit_infer.fitting.emulators.network import PassingGenerator
from implicit_infer.games import Play, Training
from implicit_infer.games import game as game_of
from implicit_infer.generators.duels import make_duel
from implicit_infer.generators.networks.base import Generator
from implicit_infer.generators.sight import Sight
from implicit_simulators import Stream


@dataclass(frozen=True)
class AdversarialEmulation(Emulation):
    """A conditional generator against a critic, by the Cramer distance of its features or any trained comparison.

    Args:
        training: Steps, step sizes and averaging.
        comparison: A name in ``ii.comparisons()`` that trains a critic, or such a comparison.
        hidden: Widths of the generator's and the critic's hidden layers.
        latent: Width of the noise; two more than the entries of x if None.
        penalise_every: Critic steps between two penalties, whose weight is multiplied accordingly.

    Others as of :class:`Emulation`.
    """

    training: Training = field(default_factory=lambda: Training(2000, 8e-4, 8e-4, betas=(0.5, 0.999), average=0.99))
    comparison: str | Comparison = "cramer"
    hidden: tuple[int, ...] = (64, 64)
    latent: int | None = None
    penalise_every: int = 1

    name = "gan"

    def __post_init__(self) -> None:
        super().__post_init__()
        chosen = comparison_of(self.comparison)
        if not chosen.trained:
            raise ValueError(
                f"comparison: expected one that trains a critic; {chosen.name!r} trains none, and method='energy' is "
                "the way to emulate without"
            )

    def network(self, width: int, conditions: int, seed: int) -> Generator:
        """A generator that starts by passing its noise."""
        return PassingGenerator(
            width, width + 2 if self.latent is None else self.latent, conditions, self.hidden, seed=seed
        )

    def train(
        self, network: Generator, rows: Rows, *, seed: int, progress: bool = False
    ) -> tuple[nn.Module, dict[str, Any]]:
        """Play the game; the generator that is kept is the average of its iterates."""
        chosen = comparison_of(self.comparison)
        draw, random = self.batches(network, rows, seed)
        critic = ConditionalCritic(
            rows.v.shape[1],
            rows.c.shape[1],
            self.hidden,
            outputs=chosen.outputs,
            spectral_norm=chosen.spectral_norm,
            seed=seed,
            device=rows.v.device,
        )
        zero, one = torch.zeros((), device=rows.v.device), torch.ones((), device=rows.v.device)
        private = Stream.of(seed, 1, "train").torch(rows.v.device)
        duel = make_duel(network, critic, chosen, draw, Sight(zero, one), private, self.penalise_every)
        streams = {"train": random, "private": private}
        game = game_of("alternating", critic_steps=chosen.critic_steps)
        play = Play(duel, game, self.training, streams=streams, remembers={"comparison": chosen})
        history = play.run(name="emulating", progress=progress)
        return play.averaged, {"steps": play.step, "critic_loss": history.critic[-1], "warnings": complaints(history)}
