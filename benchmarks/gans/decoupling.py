r"""Every ratio loss with every generator loss on one problem: data N(0, 1), model N(theta, 1), a critic that is a line.

The log-ratio is :math:`\theta^2 / 2 - \theta x`, so the critic contains the truth, and at the true ratio a generator
loss G moves theta by :math:`\theta \, \mathbb{E}_q[G'(\log r)]`: towards 0 for every decreasing G. What is left to fail

- from afar (theta = 10) a generator loss whose slope is that of r or of D (saturating, KL, ...): it has no force where
  the critic is sure. ``force`` gives its size at the true ratio for a batch;
- a critic loss that does not tell a ratio, or whose outputs have no bound (total variation, Wasserstein without a
  constraint), with a generator loss that reads them as one.
"""

from __future__ import annotations

import math
import statistics
import time
from typing import Any

import torch
from torch import Tensor, nn

NAME = "decoupling"
TITLE = "Every critic loss with every generator loss"
ABOUT = """\
Data N(0, 1), model N(theta, 1), a critic that is a line and so contains every true log-ratio, where it starts; 300
steps of Adam, no penalty. Shown is the median KL divergence that the averaged model ends at; bold where it is above
.02, that is, where the game did not arrive. The first line is the size of the generator's force at the start, at
the *true* ratio, in a batch of 256: where it is below 1e-6, theory says that the model cannot move."""
KEYS = ("ratio", "moved", "start", "seed")

STARTS = (1.0, 10.0)
ARRIVED = 0.02
"""KL below which a game has arrived: |theta| < 0.2, about four standard errors of a batch."""


class Location(nn.Module):
    """x = theta + z."""

    def __init__(self, theta: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([theta]))

    def forward(self, z: Tensor) -> Tensor:
        """Draws from noise z of shape (n, 1)."""
        return z + self.theta


class Line(nn.Module):
    """A critic a + b x that starts at the true log-ratio."""

    def __init__(self, theta: float) -> None:
        super().__init__()
        self.line = nn.Linear(1, 1)
        nn.init.constant_(self.line.weight, -theta)
        nn.init.constant_(self.line.bias, theta**2 / 2)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs with shape (n,)."""
        return self.line(x)[:, 0]


def cells() -> list[tuple[str, str]]:
    """Every pair of a ratio or critic loss and a generator loss."""
    from implicit_estimators.generator_losses import GENERATOR_LOSSES
    from implicit_estimators.ratio_losses import ALIASES, CRITIC_LOSSES, RATIO_LOSSES

    known = [loss for loss in (*RATIO_LOSSES, *CRITIC_LOSSES) if loss not in ALIASES]
    return [(ratio, moved) for ratio in known for moved in GENERATOR_LOSSES]


def wanted(seeds: list[int]) -> list[dict[str, Any]]:
    """Every cell from both starts, with the first three seeds."""
    return [
        {"ratio": ratio, "moved": moved, "start": start, "seed": seed}
        for seed in seeds[:3]
        for start in STARTS
        for ratio, moved in cells()
    ]


def run(ratio: str, moved: str, start: float, seed: int) -> dict[str, Any]:
    """One game; the KL divergence that its averaged model ends at."""
    from implicit_estimators.comparisons import Adversarial
    from implicit_infer.games import Alternating, Batch, Duel, Play, Training

    began = time.process_time()
    random = torch.Generator().manual_seed(seed)
    comparison = Adversarial(ratio, moved)
    generator, critic = Location(start), Line(start)

    def draw() -> Batch:
        real, z = torch.randn(2, 256, 1, generator=random)
        return Batch(real, z)

    def critic_loss(generator: Any, critic: Any, batch: Batch) -> Tensor:
        return comparison.critic_objective(critic(batch.real), critic(generator(batch.latent).detach()))

    def generator_loss(generator: Any, critic: Any, batch: Batch) -> Tensor:
        return comparison.generator_objective(critic(batch.real), critic(generator(batch.latent)))

    duel = Duel(generator, critic, generator_loss, critic_loss, draw)
    training = Training(steps=300, learning_rate=0.1, critic_learning_rate=0.3, betas=(0.5, 0.9), average=0.9)
    play = Play(duel, Alternating(), training)
    history = play.run(progress=False)
    averaged: Any = play.averaged
    theta = float(averaged.theta)
    return {
        "kl": theta**2 / 2 if history.finite and math.isfinite(theta) else math.inf,
        "seconds": time.process_time() - began,
    }


def force(moved: str, theta: float) -> float:
    """Size of the generator's gradient in theta at the true ratio, over a batch of 256."""
    from implicit_estimators.generator_losses import generator_loss

    random = torch.Generator().manual_seed(0)
    at = torch.tensor(theta, requires_grad=True)
    x = at + torch.randn(256, generator=random)
    y = torch.randn(256, generator=random)
    log_r, log_r_data = (theta**2 / 2 - theta * points for points in (x, y))
    (slope,) = torch.autograd.grad(generator_loss(moved).loss(log_r, log_r_data), at)
    return abs(float(slope))


def tables(rows: list[dict[str, Any]]) -> str:
    """A table for each start."""
    return "\n\n".join(f"From theta = {start:g}:\n\n{table(rows, start)}" for start in STARTS)


def table(rows: list[dict[str, Any]], start: float) -> str:
    """Median final KL of each cell, generator losses as columns; bold where the game did not arrive."""
    pairs = cells()
    columns = list(dict.fromkeys(moved for _, moved in pairs))
    lines = ["| critic loss | " + " | ".join(columns) + " |", "| --- " * (len(columns) + 1) + "|"]
    lines.append("| *force at the start* | " + " | ".join(f"{force(moved, start):.1g}" for moved in columns) + " |")
    for ratio in dict.fromkeys(ratio for ratio, _ in pairs):
        shown = []
        for moved in columns:
            found = [r["kl"] for r in rows if (r["ratio"], r["moved"], r["start"]) == (ratio, moved, start)]
            middle = statistics.median(found) if found else math.nan
            text = "" if not found else "diverged" if math.isinf(middle) else f"{middle:.2g}"
            shown.append(f"**{text}**" if middle > ARRIVED else text)
        lines.append(f"| {ratio} | " + " | ".join(shown) + " |")
    return "\n".join(lines)
