"""What the loop costs: a step of a small GAN by the library, and the same forward and backward passes written by hand.

Both step the same networks with the same losses, the same number of batches drawn from the same rows, and fused Adam;
the library's step also lowers the rates, follows the weights with an average, sums losses and gradient norms, and can
be stopped, put back and written down. Rounds of both alternate, so that a machine that slows down slows both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

NAME = "overhead"
TITLE = "What the loop costs"
ABOUT = """\
CPU milliseconds of a step of a GAN with two networks of 2 x 64, batch 256, by the library's loop (which also lowers the
rates, averages the weights, sums losses and gradient norms, and can be resumed) and written by hand; medians over
alternating rounds."""
KEYS = ("rounds",)

ROWS, BATCH, WIDTH = 50_000, 256, 64


def networks() -> tuple[nn.Module, nn.Module]:
    """A generator and a critic with two hidden layers of 64."""
    from implicit_estimators.networks import MLP

    return MLP(2, 2, (WIDTH, WIDTH), activation="relu", seed=0), MLP(2, 1, (WIDTH, WIDTH), activation="relu", seed=1)


def by_hand(rows: Tensor) -> Callable[[int], None]:
    """Alternating steps of the non-saturating GAN, as a careful user would write them."""
    from torch.nn.functional import softplus

    generator, critic = networks()
    random = torch.Generator().manual_seed(0)
    ours = torch.optim.Adam(generator.parameters(), lr=5e-4, betas=(0.0, 0.99), fused=True)
    theirs = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.0, 0.99), fused=True)

    def draw() -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(rows), (BATCH,), generator=random)
        return rows[chosen], torch.randn(BATCH, 2, generator=random)

    def steps(n: int) -> None:
        for _ in range(n):
            real, z = draw()
            with torch.no_grad():
                fake = generator(z)
            loss = softplus(-critic(real)).mean() + softplus(critic(fake)).mean()
            theirs.zero_grad(set_to_none=True)
            loss.backward()
            theirs.step()
            _, z = draw()
            critic.requires_grad_(False)
            loss = softplus(-critic(generator(z))).mean()
            critic.requires_grad_(True)
            ours.zero_grad(set_to_none=True)
            loss.backward()
            ours.step()

    return steps


def by_library(rows: Tensor) -> Callable[[int], None]:
    """The same with a duel and the loop."""
    from torch.nn.functional import softplus

    from implicit_infer.games import Alternating, Batch, Duel, Play, Training

    generator, critic = networks()
    random = torch.Generator().manual_seed(0)

    def draw() -> Batch:
        chosen = torch.randint(len(rows), (BATCH,), generator=random)
        return Batch(rows[chosen], torch.randn(BATCH, 2, generator=random))

    def generator_loss(generator: Any, critic: Any, batch: Batch) -> Tensor:
        return softplus(-critic(generator(batch.latent))).mean()

    def critic_loss(generator: Any, critic: Any, batch: Batch) -> Tensor:
        return softplus(-critic(batch.real)).mean() + softplus(critic(generator(batch.latent))).mean()

    duel = Duel(generator, critic, generator_loss, critic_loss, draw)
    play = Play(duel, Alternating(), Training(steps=10**9, marks=10**7))

    def steps(n: int) -> None:
        for _ in range(n):
            play._step()

    return steps


def wanted(seeds: list[int]) -> list[dict[str, Any]]:
    """One measurement."""
    return [{"rounds": 40}]


def run(rounds: int) -> dict[str, Any]:
    """Measure once."""
    return dict(measure(rounds))


def tables(rows: list[dict[str, Any]]) -> str:
    """The figures of the measurement that is kept."""
    return written(rows[-1])


def by_learn(rows: Tensor) -> Callable[[int], None]:
    """The same with the duel that ``ii.learn`` makes, which also standardises what the critic sees."""
    from implicit_estimators.comparisons import Adversarial
    from implicit_infer.games import Alternating, Batch, Play, Training
    from implicit_infer.generators.duels import make_duel
    from implicit_infer.generators.sight import Sight

    generator, critic = networks()
    random = torch.Generator().manual_seed(0)

    def draw() -> Batch:
        chosen = torch.randint(len(rows), (BATCH,), generator=random)
        return Batch(rows[chosen], torch.randn(BATCH, 2, generator=random))

    duel = make_duel(generator, critic, Adversarial(), draw, Sight.of(rows, None), random)
    play = Play(duel, Alternating(), Training(steps=10**9, marks=10**7))

    def steps(n: int) -> None:
        for _ in range(n):
            play._step()

    return steps


def measure(rounds: int = 40, steps: int = 50) -> dict[str, float]:
    """Median CPU milliseconds of a step of each, and the medians of their ratios to the one by hand."""
    rows = torch.randn(ROWS, 2, generator=torch.Generator().manual_seed(1))
    kinds = {"by hand": by_hand(rows), "loop": by_library(rows), "learn": by_learn(rows)}
    spent: dict[str, list[float]] = {name: [] for name in kinds}
    for one in kinds.values():
        one(steps)
    for _ in range(rounds):
        for name, one in kinds.items():
            began = time.process_time()
            one(steps)
            spent[name].append((time.process_time() - began) / steps * 1e3)
    found = {name: statistics.median(times) for name, times in spent.items()}
    for name in ("loop", "learn"):
        ratios = [mine / bare for mine, bare in zip(spent[name], spent["by hand"], strict=True)]
        found[f"{name} ratio"] = statistics.median(ratios)
    return found


def table(rounds: int = 40) -> str:
    """Measured figures, in Markdown."""
    return written(measure(rounds))


def written(found: dict[str, Any]) -> str:
    """The figures, in Markdown."""
    return "\n".join(
        [
            "| step of a GAN, networks 2 x 64, batch 256 | ms | ratio |",
            "| --- | --- | --- |",
            f"| forward, backward and Adam by hand | {found['by hand']:.2f} | 1 |",
            f"| the loop, losses by hand | {found['loop']:.2f} | {found['loop ratio']:.3f} |",
            f"| the loop, the losses of `ii.learn` | {found['learn']:.2f} | {found['learn ratio']:.3f} |",
        ]
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(table())
