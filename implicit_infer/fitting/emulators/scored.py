r"""An emulator from a proper score: a conditional generator that is compared with one simulation at a time.

.. math:: \min_g \; \mathbb{E}_{\theta, x} \left[ \mathbb{E}_z \|x - g(z, \theta)\|^\beta
    - \tfrac12 \mathbb{E}_{z, z'} \|g(z, \theta) - g(z', \theta)\|^\beta \right], \quad 0 < \beta < 2

This is the energy score of the generator's law given theta, averaged over theta, and it is strictly proper: it is least
when that law is the simulator's at (almost) every theta. Each term is unbiased from two draws for each simulation, so
there is no critic, no game, and nothing to balance. An energy distance (or maximum mean discrepancy) between samples of
the pairs (theta, x) has the same minimum, but sees a difference between laws at one theta only as far as its distance
tells that theta from others; the score looks at each by itself.

References:
    | Engression: extrapolation through the lens of distributional regression (Shen and Meinshausen, 2024)
    | https://arxiv.org/abs/2307.00835
    | Strictly proper scoring rules, prediction, and estimation (Gneiting and Raftery, 2007)
    | https://doi.org/10.1198/016214506000001437
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from implicit_infer.fitting.emulators.emulation import Emulation, Rows, complaints, played
from implicit_infer.fitting.emulators.network import PassingGenerator
from implicit_infer.games import Batch, Duel
from implicit_infer.generators.networks.base import Generator
from implicit_simulators import Stream


@dataclass(frozen=True)
class ScoredEmulation(Emulation):
    """A conditional generator by the energy score: the quickest to learn, without a density.

    Args:
        hidden: Widths of the hidden layers.
        latent: Width of the noise; two more than the entries of x if None.
        beta: The power of the distance, between 0 and 2.

    Others as of :class:`Emulation`.
    """

    hidden: tuple[int, ...] = (64, 64)
    latent: int | None = None
    beta: float = 1.0

    name = "energy"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.beta < 2:
            raise ValueError(f"beta: expected a power between 0 and 2; got {self.beta}")

    def network(self, width: int, conditions: int, seed: int) -> Generator:
        """A generator that starts by passing its noise."""
        return PassingGenerator(
            width, width + 2 if self.latent is None else self.latent, conditions, self.hidden, seed=seed
        )

    def train(
        self, network: Generator, rows: Rows, *, seed: int, progress: bool = False
    ) -> tuple[nn.Module, dict[str, Any]]:
        """Minimise the mean score over the rows, and tell that of the rows set aside."""
        draw, random = self.batches(network, rows, seed)

        def loss(generator: Any, _: Any, batch: Batch) -> Tensor:
            assert batch.latent is not None
            assert batch.condition is not None
            other = torch.randn(
                batch.latent.shape, generator=random, device=batch.latent.device, dtype=batch.latent.dtype
            )
            both = generator(torch.cat((batch.latent, other)), torch.cat((batch.condition, batch.condition)))
            half = len(batch.real)
            return energy_score(batch.real, both[:half], both[half:], self.beta).mean()

        duel = Duel(generator=network, critic=None, generator_loss=loss, critic_loss=None, draw=draw)
        play, history = played(duel, self.training, random, name="emulating", progress=progress)
        figures: dict[str, Any] = {"steps": play.step, "warnings": complaints(history)}
        if len(rows.held_v):
            with torch.no_grad():
                noise = Stream.of(seed, role="split").torch(rows.v.device)
                shape = (2 * len(rows.held_v), *network.latent_shape)
                z = torch.randn(shape, generator=noise, device=rows.v.device, dtype=rows.v.dtype)
                draws, half = play.averaged(z, torch.cat((rows.held_c, rows.held_c))), len(rows.held_v)
                scores = energy_score(rows.held_v, draws[:half], draws[half:], self.beta)
                figures["held_out_loss"] = float(scores.mean())
        return play.averaged, figures


def energy_score(x: Tensor, first: Tensor, second: Tensor, beta: float = 1.0) -> Tensor:
    r"""An unbiased estimate of the energy score from two draws, for each row.

    .. math:: \tfrac12 \left(\|x - y\|^\beta + \|x - y'\|^\beta - \|y - y'\|^\beta\right)

    Args:
        x: What came to pass, with shape (n, k).
        first: Draws y, with shape (n, k).
        second: Draws y', independent of the others.
        beta: The power, between 0 and 2.

    Returns:
        Scores with shape (n,); lower is better.
    """

    def distance(a: Tensor, b: Tensor) -> Tensor:
        # the gradient of a root is infinite at 0
        return ((a - b).square().sum(1) + math.ulp(1.0) ** 2).pow(beta / 2)

    return 0.5 * (distance(x, first) + distance(x, second) - distance(first, second))
