r"""Two parallel lines: a game whose divergences are flat, and which methods bring the model to the data all the same.

Data :math:`(0, u)` and model :math:`(\theta, u)` with u uniform on [0, 1]. For every :math:`\theta \neq 0` the two do
not overlap, so that the Jensen-Shannon divergence is log 2 (and KL and its reverse are infinite): no divergence of
ratios has a slope in :math:`\theta`, while the Wasserstein distance is :math:`|\theta|`. What moves the model is the
slope of a critic that is *not* at its optimum, and whether the generator's loss passes it on.

References:
    | Many Paths to Equilibrium: GANs Do Not Need to Decrease a Divergence at Every Step (Fedus et al., 2018)
    | https://arxiv.org/abs/1710.08446
    | Wasserstein Generative Adversarial Networks (Arjovsky, Chintala and Bottou, 2017), example 1
    | https://arxiv.org/abs/1701.07875
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from implicit_estimators.penalties import Dragan, WassersteinPenalty

NAME = "parallel_lines"
TITLE = "Parallel lines"
ABOUT = """\
Data on the line x = 0, a model on the parallel line x = theta, which starts at 1; wherever theta is not 0, the
Jensen-Shannon divergence of the two is log 2. An MLP as the critic, three of its steps for each of the generator's, 250
of those, all settings the same but those that the row names. A run arrives if the averaged generator ends within 0.1 of
the data; beside it, the median distance and its range over the seeds."""
KEYS = ("method", "seed")

START = 1.0
ARRIVED = 0.1
"""Distance from the data, a tenth of the start, below which a model has arrived."""
BATCH = 64
STEPS = 250
CRITIC_STEPS = 3


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        title: What it is called.
        comparison: A name in ``implicit_estimators.comparisons.COMPARISONS``.
        settings: Of the comparison.
        noise: Standard deviation of the instance noise at the start, which is gone after half of the game.
    """

    title: str
    comparison: str
    settings: dict[str, Any] = field(default_factory=dict)
    noise: float = 0.0


SOFT, SOFT_DRAGAN = WassersteinPenalty(0.1), Dragan(0.1)
"""Slope 1 with the weight that the authors of WGAN-GP took in the plane, instead of the 10 for images."""

METHODS: dict[str, Method] = {
    "minimax": Method("minimax GAN", "minimax"),
    "minimax+noise": Method("minimax GAN, instance noise 0.5", "minimax", noise=0.5),
    "minimax+wgan-gp": Method("minimax GAN, slope 1 between", "minimax", {"penalty": "wgan-gp"}),
    "minimax+wgan-gp-0.1": Method("the same, weight 0.1", "minimax", {"penalty": SOFT}),
    "minimax+dragan": Method("minimax GAN, slope 1 near the data", "minimax", {"penalty": "dragan"}),
    "minimax+dragan-0.1": Method("the same, weight 0.1", "minimax", {"penalty": SOFT_DRAGAN}),
    "minimax+r1": Method("minimax GAN, R1", "minimax", {"penalty": "r1"}),
    "minimax+zero-centred": Method("minimax GAN, slope 0 between", "minimax", {"penalty": "zero-centred"}),
    "minimax+sn": Method("minimax GAN, spectral norm", "minimax", {"spectral_norm": True}),
    "gan": Method("non-saturating GAN", "gan"),
    "gan+noise": Method("non-saturating GAN, instance noise 0.5", "gan", noise=0.5),
    "gan+wgan-gp": Method("non-saturating GAN, slope 1 between (GAN-GP)", "gan", {"penalty": "wgan-gp"}),
    "gan+wgan-gp-0.1": Method("the same, weight 0.1", "gan", {"penalty": SOFT}),
    "gan+dragan": Method("non-saturating GAN, slope 1 near the data (DRAGAN-NS)", "gan", {"penalty": "dragan"}),
    "gan+dragan-0.1": Method("the same, weight 0.1", "gan", {"penalty": SOFT_DRAGAN}),
    "gan+r1": Method("non-saturating GAN, R1", "gan", {"penalty": "r1"}),
    "gan+r1+r2": Method("non-saturating GAN, R1 and R2", "gan", {"penalty": "r1+r2"}),
    "gan+zero-centred": Method("non-saturating GAN, slope 0 between", "gan", {"penalty": "zero-centred"}),
    "gan+sn": Method("non-saturating GAN, spectral norm", "gan", {"spectral_norm": True}),
    "ml-gan": Method("GAN by maximum likelihood", "ml-gan"),
    "lsgan": Method("LSGAN", "lsgan"),
    "brier": Method("Brier score, non-saturating", "brier"),
    "hinge": Method("hinge GAN", "hinge"),
    "kl": Method("f-GAN, KL", "kl"),
    "reverse-kl": Method("f-GAN, reverse KL", "reverse-kl"),
    "js": Method("f-GAN, Jensen-Shannon", "js"),
    "pearson": Method("f-GAN, Pearson", "pearson"),
    "neyman": Method("f-GAN, Neyman", "neyman"),
    "hellinger": Method("f-GAN, squared Hellinger", "hellinger"),
    "jeffreys": Method("f-GAN, Jeffreys", "jeffreys"),
    "tv": Method("f-GAN, total variation", "tv"),
    "js+r1": Method("f-GAN, Jensen-Shannon, R1", "js", {"penalty": "r1"}),
    "kl+r1": Method("f-GAN, KL, R1", "kl", {"penalty": "r1"}),
    "relativistic": Method("relativistic GAN", "relativistic"),
    "wgan-clip": Method("WGAN, weights clipped at 0.1", "wgan-clip", {"clip": 0.1}),
    "wgan-gp": Method("WGAN-GP, weight 10", "wgan-gp", {"penalty": "wgan-gp"}),
    "wgan-gp-0.1": Method("WGAN-GP, weight 0.1", "wgan-gp", {"penalty": SOFT}),
    "wgan-lp": Method("WGAN-GP, one-sided", "wgan-gp", {"one_sided": True}),
    "wgan-sn": Method("WGAN, spectral norm", "wgan-sn"),
    "fisher": Method("Fisher GAN", "fisher"),
}
"""The rows, in their order."""

RUNS = tuple(METHODS)
"""Names of what can be run."""


class Line(nn.Module):
    """The generator: puts noise on the line x = theta."""

    def __init__(self, theta: float = START) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta))

    def forward(self, u: Tensor) -> Tensor:
        """Points with shape (n, 2) from u with shape (n, 1)."""
        return torch.cat([self.theta.expand(len(u), 1), u], 1)


def wanted(seeds: list[int]) -> list[dict[str, Any]]:
    """Every method with every seed."""
    return [{"method": method, "seed": seed} for seed in seeds for method in METHODS]


def run(method: str, seed: int) -> dict[str, Any]:
    """One game.

    Args:
        method: A name in ``METHODS``.
        seed: Of the critic's weights and of all draws.

    Returns:
        Where the averaged generator ended and the last one, whether the first is at the data, whether all losses were
        finite, the last critic loss (a sure classifier's is 0; log 4 = 1.386 that of one that cannot tell), and CPU
        seconds.
    """
    from implicit_estimators.comparisons import comparison
    from implicit_estimators.critics import make_critic
    from implicit_infer.games import Alternating, AnnealedNoise, Batch, Play, Training
    from implicit_infer.generators.duels import Sight, make_duel

    began = time.process_time()
    chosen = METHODS[method]
    compared = comparison(chosen.comparison, **chosen.settings)
    random = torch.Generator().manual_seed(seed)
    critic = make_critic((2,), 0, compared, hidden=(32, 32), seed=seed)
    sight = Sight(torch.zeros(()), torch.ones(()), random=random)

    def draw() -> Batch:
        data, latent = torch.rand(2, BATCH, 1, generator=random)
        return Batch(torch.cat([torch.zeros_like(data), data], 1), latent)

    duel = make_duel(Line(), critic, compared, draw, sight, random)
    training = Training(
        steps=STEPS, learning_rate=7e-3, critic_learning_rate=1e-2, betas=(0.0, 0.9), average=0.95, marks=5
    )
    play = Play(duel, Alternating(CRITIC_STEPS), training)
    history = play.run(progress=False, before=AnnealedNoise(chosen.noise).on(sight))
    players: tuple[Any, Any] = (play.averaged, duel.generator)
    ended, last = (float(player.theta.detach()) for player in players)
    finite = history.stopped == "end" and math.isfinite(ended)
    return {
        "theta": ended if finite else math.nan,
        "last": last if finite else math.nan,
        "arrived": finite and abs(ended) < ARRIVED,
        "finite": finite,
        "critic_loss": history.critic[-1],
        "seconds": time.process_time() - began,
    }


def rows(results: list[dict[str, Any]]) -> list[list[str]]:
    """The cells of the table's lines: a method, runs that arrived, distances, what the critic's loss ended at.

    Args:
        results: What :func:`run` gave, with the method and the seed of each.
    """
    lines = []
    for name, method in METHODS.items():
        mine = [result for result in results if result["method"] == name]
        if not mine:
            continue
        distances = sorted(abs(result["theta"]) for result in mine if result["finite"])
        lost = len(mine) - len(distances)
        spread = f"{statistics.median(distances):.3f} ({distances[0]:.3f} to {distances[-1]:.3f})" if distances else ""
        arrived = sum(result["arrived"] for result in mine)
        told = f"{arrived} of {len(mine)}" + (f", {lost} diverged" if lost else "")
        loss = statistics.median(result["critic_loss"] for result in mine)
        seconds = statistics.median(result["seconds"] for result in mine)
        lines.append([method.title, told, spread, f"{loss:.2g}", f"{seconds:.1f}"])
    return lines


def tables(results: list[dict[str, Any]]) -> str:
    """The table, in Markdown."""
    heads = ["method", "arrived", "distance at the end (range)", "critic loss", "CPU s"]
    lines = [heads, ["---"] * len(heads), *rows(results)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    import argparse
    import sys

    parser = argparse.ArgumentParser(prog="python -m benchmarks.gans.parallel_lines", description=TITLE)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(10)), help="default: 0 to 9")
    parser.add_argument("--methods", nargs="+", choices=RUNS, default=list(RUNS), help="default: all")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cells = [cell for cell in wanted(options.seeds) if cell["method"] in options.methods]
    found = []
    for cell in cells:
        found.append({**cell, **run(**cell)})
        print(found[-1], file=sys.stderr, flush=True)
    print(tables(found))
