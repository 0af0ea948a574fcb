r"""What is looked at while a generator is learned, and what is said of it: ratios, who wins, how varied the draws are.

*Diversity* is how varied the draws are beside data, by how often two of them fall together:

.. math:: \frac{\frac{1}{n^2} \sum_{ij} k(x_i, x_j)}{\frac{1}{n^2} \sum_{ij} k(y_i, y_j)}, \quad
    x_i \sim p, \; y_i \sim q, \quad k(a, b) = \exp(-\|a - b\|^2 / 2 h^2)

with h a fifth of the median distance of data. It is 1 where q = p, 1/8 where draws cover one of eight clusters, and
1/n where all of n draws are one (the inverse of the collision probability, Simpson's index, blurred by a kernel:
Leinster and Cobbold, 2012).

References:
    | Measuring diversity: the importance of species similarity (Leinster and Cobbold, 2012)
    | https://doi.org/10.1890/10-2402.1
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from implicit_estimators.comparisons import Comparison
from implicit_estimators.seeds import stream
from implicit_infer.games import Batch, GameHistory, Play
from implicit_infer.generators.duels import Calls
from implicit_infer.generators.sight import Sight

LOOK = 256
"""Samples of each side that are looked at."""

SURE = 0.99
"""Share of both sides that a critic tells right when it has won."""

POOR = 0.6
"""Diversity below which draws have collapsed."""

NARROW = 0.25
"""Share of data's variance below which they have."""


def concentration(rows: Tensor, width: float) -> Tensor:
    """How often two rows fall together: the mean of the kernel over all pairs, with shape ()."""
    return torch.exp(-0.5 * (torch.cdist(rows, rows) / width).square()).mean()


def diversity(data: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """How varied draws are beside data, and their total variance beside that of data: 1 and 1 where they are alike.

    Args:
        data: Rows with shape (n, d).
        draws: The same of the model.

    Returns:
        Two scalars.
    """
    width = max(0.2 * float(torch.pdist(data[:LOOK]).median()), torch.finfo(data.dtype).tiny)
    total = data.var(0).sum().clamp(min=torch.finfo(data.dtype).tiny)
    return concentration(data, width) / concentration(draws, width), draws.var(0).sum() / total


@dataclass(frozen=True)
class Watching:
    """Looks at both players at each mark of a game, at the same data every time the same game is played.

    Attributes:
        comparison: What is played.
        sight: What the critic sees of samples.
        call: How players are called.
        draw: A batch of so many rows, from a generator that chooses data and one that makes noise.
        seed: Root of what is drawn here; the game's own streams are left alone.
        device: Of the noise.
        rows: Of the data.
    """

    comparison: Comparison
    sight: Sight
    call: Calls
    draw: Callable[[int, torch.Generator, torch.Generator], Batch]
    seed: int
    device: torch.device
    rows: torch.device

    def batch(self, step: int) -> Batch:
        """What is looked at after so many steps."""
        chosen = stream(self.seed, "validate", self.rows, step, 0)
        noise = stream(self.seed, "validate", self.device, step, 1)
        return self.draw(LOOK - LOOK % self.sight.packing, chosen, noise)

    @torch.no_grad()
    def __call__(self, play: Play) -> dict[str, float]:
        """The figures of a mark: of the players as they are, not of the averaged generator."""
        batch = self.batch(play.step)
        assert batch.latent is not None
        draws = self.call(play.duel.generator, batch.latent, batch.condition)
        sight = replace(self.sight, noise=0.0)
        plain = replace(sight, packing=1)
        names = ["diversity", "spread"]
        values = list(diversity(plain(batch.real).flatten(1), plain(draws).flatten(1)))
        if play.duel.critic is not None:
            given = sight.given(batch.condition)
            outputs = [self.call(play.duel.critic, sight(side), given) for side in (batch.real, draws)]
            figures = self._of_critic(*outputs)
            names += figures
            values += figures.values()
        return dict(zip(names, torch.stack(values).tolist(), strict=True))

    def _of_critic(self, at_data: Tensor, at_model: Tensor) -> dict[str, Tensor]:
        ratio_p, ratio_q = self.comparison.log_ratio(at_data), self.comparison.log_ratio(at_model)
        if ratio_p is not None and ratio_q is not None:
            return {
                "log_ratio_data": ratio_p.mean(),
                "log_ratio_model": ratio_q.mean(),
                "told_data": (ratio_p > 0).to(ratio_p.dtype).mean(),
                "told_model": (ratio_q < 0).to(ratio_q.dtype).mean(),
            }
        if at_data.ndim == 1:
            middle = torch.cat([at_data, at_model]).median()
            return {
                "critic_gap": at_data.mean() - at_model.mean(),
                "told_data": (at_data > middle).to(at_data.dtype).mean(),
                "told_model": (at_model <= middle).to(at_model.dtype).mean(),
            }
        return {"critic_gap": (at_data.mean(0) - at_model.mean(0)).norm()}

    @torch.no_grad()
    def final(self, module: torch.nn.Module, step: int) -> dict[str, float]:
        """Diversity and spread of the network that is kept."""
        batch = self.batch(step)
        assert batch.latent is not None
        draws = self.call(module, batch.latent, batch.condition)
        plain = replace(self.sight, noise=0.0, packing=1)
        both = torch.stack(diversity(plain(batch.real).flatten(1), plain(draws).flatten(1)))
        return dict(zip(("diversity", "spread"), both.tolist(), strict=True))


def warnings_of(history: GameHistory, final: dict[str, float], step: int, steps: int, resumes: bool) -> list[str]:
    """What went wrong, in sentences.

    Args:
        history: What the game looked like.
        final: What :meth:`Watching.final` said of the network that is kept.
        step: Steps of the game that are in the network.
        steps: Steps that there were to be.
        resumes: Whether the same call goes on from a checkpoint.
    """
    said = []
    rest = "; the same call does the rest" if resumes else ""
    if history.stopped == "diverged":
        said.append(
            f"diverged: losses or weights were no longer finite at step {history.steps[-1]:,}; "
            f"the network is that of step {step:,}"
        )
    elif history.stopped in ("interrupted", "time"):
        why = "stopped" if history.stopped == "interrupted" else "out of time"
        said.append(f"{why}: after {step:,} of {steps:,} steps{rest}")
    told = list(zip(history.figures.get("told_data", []), history.figures.get("told_model", []), strict=True))
    last = told[-max(5, len(told) // 5) :]
    if "log_ratio_data" in history.figures and len(last) >= 5 and min(map(min, last)) >= SURE:
        said.append(
            f"the critic has won: in the last {len(last)} marks it told {100 * min(map(min, last)):.0f} % or more of "
            "data and draws apart, where a generator has little to follow: a penalty or instance noise holds it back"
        )
    if not (final["diversity"] > POOR and final["spread"] > NARROW):
        said.append(
            f"collapsed: draws are {final['diversity']:.2g} times as varied as data and have {final['spread']:.2g} "
            "times their variance: packing, another penalty or a comparison that covers data (kl) may help"
        )
    return said
