"""The other side of a fit: holds rows of the model against rows of data, and trains the critic where there is one."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from implicit_estimators.comparisons import Adversarial, Comparison, EnergyMatching, MMDMatching
from implicit_estimators.comparisons import comparison as comparison_of
from implicit_estimators.critics import make_critic
from implicit_estimators.penalties import Penalty
from implicit_estimators.seeds import stream
from implicit_infer.fitting.row_losses import draw_losses, kernel_of
from implicit_infer.games.base import apply, clip
from implicit_infer.games.duel import Batch
from implicit_infer.generators.duels import make_duel
from implicit_infer.generators.sight import Sight

LAZY = 4
"""Critic steps between two evaluations of its penalty, which cost as much as a step each (Karras et al., 2020)."""

FUSED = ("cpu", "cuda")
"""Devices with an Adam of one kernel."""


def held_comparison(comparison: Any, penalty: str | Penalty | None) -> Comparison:
    """The comparison that is named or given, with the penalty that fits play it with.

    Args:
        comparison: A name, a class or a comparison.
        penalty: "default" leaves a comparison its own, and gives R1 to a trained critic that nothing else keeps smooth
            (no penalty, clipping or spectral norm): the critic of a fit has little data, and without one its slope
            grows without end. A name, a penalty or None puts that in its place.

    Raises:
        ValueError: If there is no such comparison, or it has no penalty that could be exchanged.
        TypeError: If it is none.
    """
    made = comparison_of(comparison)
    # what a comparison remembers of its batches is not to be shared by two fits
    made = replace(made)
    if isinstance(made, Adversarial):
        free = made.regulariser is None and made.clip is None and not made.spectral_norm
        if penalty == "default":
            return replace(made, penalty="r1") if free else made
        return replace(made, penalty=penalty)
    if penalty not in ("default", None):
        raise ValueError(f"penalty: {made.name!r} has none that could be exchanged; got {penalty!r}")
    return made


class Opponent:
    """What a fit is played against.

    Args:
        comparison: The comparison.
        data: Rows of data in the units of a ``View``, with shape (rows, width).
        hidden: Widths of the critic's hidden layers.
        learning_rate: Adam's step size of the critic.
        batch: Rows of each side in one step of the critic, and rows of data that a loss looks at.
        seed: Source of the critic's weights and of all that is drawn.
        device: Where it plays.
    """

    def __init__(
        self,
        comparison: Comparison,
        data: Tensor,
        *,
        hidden: tuple[int, ...] = (64, 64),
        learning_rate: float = 2e-3,
        batch: int = 256,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.comparison, self.batch = comparison, batch
        self.data = data.to(device)
        self._rows = stream(seed, "batches", device)
        self.critic: nn.Module | None = None
        if not comparison.trained:
            return
        self.critic = make_critic((data.shape[1],), 0, comparison, hidden=hidden, seed=seed, device=device)
        sight = Sight(torch.zeros((), device=device), torch.ones((), device=device))
        # the draws that the critic sees have been made before: the duel's generator hands them on
        self.duel = make_duel(
            nn.Identity(), self.critic, comparison, self._never, sight, stream(seed, "draws", device), LAZY
        )
        self.optimiser = torch.optim.Adam(
            self.duel.critic_parameters(), lr=learning_rate, betas=(0.0, 0.99), fused=self.data.device.type in FUSED
        )

    @staticmethod
    def _never() -> Batch:
        raise AssertionError("batches are made by the fit")

    @property
    def trained(self) -> bool:
        """Whether there is a critic."""
        return self.critic is not None

    def learn(self, rows: Tensor, steps: int) -> Tensor:
        """Steps of the critic on batches of data and of the model's rows, with shape (n, width); the mean loss."""
        if self.critic is None or not len(rows):
            return torch.zeros((), device=self.data.device)
        rows, total = rows.detach(), torch.zeros((), device=self.data.device)
        for _ in range(steps):
            real, fake = self._pick(self.data), self._pick(rows)
            same = min(len(real), len(fake))
            loss, direction = self.duel.critic_gradient(Batch(real[:same], fake[:same]))
            apply(self.optimiser, self.duel.critic_parameters(), direction)
            self.duel.critic_steps_made += 1
            clip(self.duel, self.duel.critic_parameters())
            total += loss
        return total / max(steps, 1)

    def rate(self, factor: float, learning_rate: float) -> None:
        """Set the critic's step size to a part of ``learning_rate``."""
        for group in self.optimiser.param_groups if self.trained else ():
            group["lr"] = factor * learning_rate

    def loss(self, rows: Tensor, data: Tensor | None = None) -> Tensor:
        """What the model descends, differentiable in its rows, with shape (n, width).

        Args:
            rows: Rows of the model.
            data: Rows of data; a batch of them if None.
        """
        real = self._pick(self.data) if data is None else data
        return self.comparison.generator_objective(self.seen(real).detach(), self.seen(rows))

    def draw_losses(self, rows: Tensor) -> Tensor:
        """What each draw adds to the loss, with shape (n,), for rows with shape (n, each, width)."""
        with torch.no_grad():
            return draw_losses(self.comparison, self.seen(self._pick(self.data)), self.seen(rows))

    def features(self, rows: Tensor) -> Tensor:
        """The mean of the critic's last hidden layer over the rows of each simulation.

        Args:
            rows: With shape (n, each, width).

        Returns:
            With shape (n, k), on the CPU.
        """
        critic: Any = self.critic
        with torch.no_grad():
            found: Tensor = critic.features(rows).mean(1)
        return found.cpu()

    @property
    def has_kernel(self) -> bool:
        """Whether the comparison is a squared MMD of the rows themselves."""
        return isinstance(self.comparison, (MMDMatching, EnergyMatching))

    def kernel_means(self, x: Tensor, y: Tensor) -> Tensor:
        """The mean of that kernel over the rows of each pair of simulations.

        Args:
            x: Rows with shape (n, each, width).
            y: The same, with shape (m, each, width).

        Returns:
            With shape (n, m), on the CPU.
        """
        with torch.no_grad():
            parts = []
            for part in x:  # one simulation's rows against all, for all pairs may be more than fit in memory
                found = kernel_of(self.comparison, y.flatten(0, 1), part)
                assert found is not None
                parts.append(found.reshape(len(part), len(y), -1).mean((0, 2)).cpu())
            return torch.stack(parts)

    def seen(self, rows: Tensor) -> Tensor:
        r"""Rows as the losses take them: what the critic says of them, or they themselves."""
        return rows if self.critic is None else self.critic(rows)

    def _pick(self, rows: Tensor) -> Tensor:
        if len(rows) <= self.batch:
            return rows
        return rows[torch.randint(len(rows), (self.batch,), generator=self._rows, device=rows.device)]


def late(share: float) -> float:
    """The factor on step sizes: 1 until the middle of a fit, then down on a cosine, to 0.3: iterates are averaged.

    An average needs iterates that still move around what they approach; steps that end at 0 leave it where the last
    noise has put them.
    """
    return 1.0 if share < 0.5 else 0.3 + 0.35 * (1 + math.cos(math.pi * (2 * share - 1)))
