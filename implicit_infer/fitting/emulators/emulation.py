"""How an emulator is learned: what every way of it offers to whoever has simulations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from implicit_infer.games import Batch, Duel, Play, Training
from implicit_infer.games import game as game_of
from implicit_infer.games.history import GameHistory
from implicit_infer.generators.networks.base import Generator
from implicit_simulators import Stream


@dataclass(frozen=True)
class Rows:
    """Simulations in an emulator's units: what is learned from, and what is set aside to choose by.

    Attributes:
        v: With shape (n, k).
        c: With shape (n, d).
        held_v: The same of those set aside; may be empty.
        held_c: The same.
    """

    v: Tensor
    c: Tensor
    held_v: Tensor
    held_c: Tensor


@dataclass(frozen=True)
class Emulation:
    """A child is a frozen dataclass of its settings, with ``name``, ``network`` and ``train``.

    To add one, copy :class:`~implicit_infer.fitting.emulators.scored.ScoredEmulation`, and add it to ``EMULATIONS``.

    Args:
        training: Steps, step sizes and averaging.
        batch_size: Simulations in a step.

    Attributes:
        name: The name in ``EMULATIONS``.
        has_density: Whether the network has ``log_prob``.
    """

    training: Training = field(default_factory=lambda: Training(2000, 1e-3, 1e-3, betas=(0.9, 0.999), average=0.99))
    batch_size: int = 256

    name: ClassVar[str]
    has_density: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise ValueError(f"batch_size: expected an int of 2 or more; got {self.batch_size}")

    def network(self, width: int, conditions: int, seed: int) -> Generator:
        """A network that has not learned: noise and c of shape (n, conditions) to v of shape (n, width)."""
        raise NotImplementedError(f"{type(self).__name__} must write network(width, conditions, seed)")

    def train(
        self, network: Generator, rows: Rows, *, seed: int, progress: bool = False
    ) -> tuple[nn.Module, dict[str, Any]]:
        """Teach a network, from where it is.

        Args:
            network: What :meth:`network` made, on the device of the rows; changed in place.
            rows: Simulations.
            seed: Seed of batches and noise.
            progress: Whether to show progress.

        Returns:
            The network that is kept, and figures: JSON-able, "warnings" among them.
        """
        raise NotImplementedError(f"{type(self).__name__} must write train(network, rows, seed=...)")

    def batches(self, network: Generator, rows: Rows, seed: int) -> tuple[Any, torch.Generator]:
        """A function that gives a fresh batch of rows with noise, and the generator that it draws from."""
        random = Stream.of(seed, role="train").torch(rows.v.device)
        n, shape = len(rows.v), network.latent_shape

        def draw() -> Batch:
            chosen = torch.randint(n, (self.batch_size,), generator=random, device=rows.v.device)
            z = torch.randn((self.batch_size, *shape), generator=random, device=rows.v.device, dtype=rows.v.dtype)
            return Batch(rows.v[chosen], z, rows.c[chosen])

        return draw, random


def played(
    duel: Duel, training: Training, random: torch.Generator, *, name: str, progress: bool, watch: Any = None
) -> tuple[Play, GameHistory]:
    """Play a duel to its end, taking turns."""
    play = Play(duel, game_of("alternating"), training, streams={"train": random})
    return play, play.run(name=name, progress=progress, watch=watch)


def complaints(history: GameHistory) -> list[str]:
    """What a user should know of how training ended."""
    return [] if history.stopped == "end" else [f"training {history.stopped} before its end"]
