r"""A normal law fitted to a mixture under each f-divergence: where theory puts it, and where the game ends.

Data: :math:`0.33 \, N(-1, 0.255^2) + 0.67 \, N(2, 2)` (the second number a variance). The optimum of each divergence is
found by quadrature; the game of the same name has a critic with two hidden layers of 64 and learns mean and standard
deviation. Published figures are those of the f-GAN paper's table for its own game.

References:
    | f-GAN: Training Generative Neural Samplers using Variational Divergence Minimization (Nowozin et al., 2016)
    | https://arxiv.org/abs/1606.00709
"""

from __future__ import annotations

import math
import statistics
import time
from typing import Any

import torch
from torch import Tensor, nn

from implicit_estimators.divergences import DIVERGENCES, Divergence

NAME = "f-gan"
TITLE = "A normal law fitted to a mixture under each f-divergence"
ABOUT = """\
Data: 0.33 N(-1, .255²) + 0.67 N(2, 2), a variance in second place; the model is N(mean, sd²). The nearest normal
law under each divergence is found by quadrature. The game of the same name (4,000 steps, batches of 1,024, a critic
with two hidden layers of 64 tanh) learns both numbers from draws; "off by" is the distance of (mean, sd) from the
optimum, as a median over seeds. Published are the figures of the f-GAN paper (Nowozin et al., 2016) for its own
game."""
KEYS = ("divergence", "seed")

PUBLISHED = {
    "kl": ((1.0100, 1.8308), (1.0335, 1.8236)),
    "reverse-kl": ((1.5782, 1.6319), (1.5624, 1.6403)),
    "js": ((1.3070, 1.7542), (1.2854, 1.7659)),
    "jeffreys": ((1.3218, 1.7034), (1.2295, 1.8087)),
    "pearson": ((0.5737, 1.9274), (0.6157, 1.9031)),
}
"""Mean and standard deviation of the published optimum, and of the published game."""

WEIGHTS, MEANS, DEVIATIONS = (0.33, 0.67), (-1.0, 2.0), (0.255, math.sqrt(2.0))
GRID = torch.linspace(-25, 30, 40_001, dtype=torch.float64)


def sample(rows: int, seed: int) -> Tensor:
    """Draws of the mixture, with shape (rows, 1)."""
    random = torch.Generator().manual_seed(seed)
    second = (torch.rand(rows, generator=random) < WEIGHTS[1]).long()
    noise = torch.randn(rows, generator=random)
    return (torch.tensor(MEANS)[second] + torch.tensor(DEVIATIONS)[second] * noise)[:, None]


def log_normal(x: Tensor, mean: float, deviation: float) -> Tensor:
    """Log density of a normal law."""
    return -0.5 * ((x - mean) / deviation).square() - math.log(deviation) - 0.5 * math.log(2 * math.pi)


def divergence_at(divergence: Divergence, mean: float, deviation: float) -> float:
    """The divergence of the mixture from a normal law, by quadrature."""
    parts = [math.log(w) + log_normal(GRID, m, s) for w, m, s in zip(WEIGHTS, MEANS, DEVIATIONS, strict=True)]
    log_p, log_q = torch.logaddexp(*parts), log_normal(GRID, mean, deviation)
    value = log_q.exp() * divergence.f(log_p - log_q)
    return float(value.sum() * (GRID[1] - GRID[0]))


def optimum(name: str) -> tuple[float, float, float]:
    """Mean and standard deviation of the nearest normal law, and its divergence."""
    from scipy.optimize import minimize

    divergence = DIVERGENCES[name]

    def at(point: Any) -> float:
        return divergence_at(divergence, float(point[0]), math.exp(float(point[1])))

    found = min(
        (
            minimize(
                at,
                [start, 0.55],
                method="Nelder-Mead",
                options={"xatol": 1e-7, "fatol": 1e-12},
            )
            for start in (0.6, 1.3, 1.9)
        ),
        key=lambda result: result.fun,
    )
    return float(found.x[0]), math.exp(float(found.x[1])), float(found.fun)


class LocationScale(nn.Module):
    """x = mean + deviation * z: the normal laws, from the standard one on."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(1))
        self.log_deviation = nn.Parameter(torch.zeros(1))

    def forward(self, z: Tensor) -> Tensor:
        """Draws from noise z of shape (n, 1)."""
        return self.mean + self.log_deviation.exp() * z


def wanted(seeds: list[int]) -> list[dict[str, Any]]:
    """The published divergences with every seed, then the others with the first three."""
    others = [name for name in DIVERGENCES if name not in PUBLISHED]
    runs = [(name, seed) for seed in seeds for name in PUBLISHED] + [
        (name, seed) for seed in seeds[:3] for name in others
    ]
    return [{"divergence": name, "seed": seed} for name, seed in runs]


def run(divergence: str, seed: int) -> dict[str, Any]:
    """One game; mean and standard deviation that it ends at."""
    import implicit_infer as ii
    from implicit_estimators.networks import MLP

    began = time.process_time()
    learned = ii.learn(
        LocationScale(),
        sample(1_000_000, seed),
        comparison=divergence,
        latent=1,
        critic=MLP(1, 1, (64, 64), activation="tanh", seed=seed),
        steps=4000,
        batch_size=1024,
        learning_rate=1e-2,
        critic_learning_rate=1e-2,
        average=0.998,
        seed=seed,
        progress=False,
    )
    module: Any = learned.module
    return {
        "mean": float(module.mean.detach()),
        "deviation": float(module.log_deviation.detach().exp()),
        "seconds": time.process_time() - began,
    }


def tables(rows: list[dict[str, Any]]) -> str:
    """Optimum, median of the games, and their distances beside the published ones."""
    lines = [
        "| divergence | optimum: mean, sd | published optimum | learned: mean, sd (median of seeds) | off by "
        "| published learned | off by | seeds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in DIVERGENCES:
        games = [row for row in rows if row["divergence"] == name]
        if not games:
            continue
        best = optimum(name)[:2]
        learned = [statistics.median(row[figure] for row in games) for figure in ("mean", "deviation")]
        off = statistics.median(math.dist((row["mean"], row["deviation"]), best) for row in games)
        theirs = PUBLISHED.get(name)
        lines.append(
            f"| {name} | {best[0]:.4f}, {best[1]:.4f} "
            f"| {f'{theirs[0][0]:.4f}, {theirs[0][1]:.4f}' if theirs else ''} "
            f"| {learned[0]:.4f}, {learned[1]:.4f} | {off:.4f} "
            f"| {f'{theirs[1][0]:.4f}, {theirs[1][1]:.4f}' if theirs else ''} "
            f"| {f'{math.dist(*theirs):.4f}' if theirs else ''} | {len(games)} |"
        )
    return "\n".join(lines)
