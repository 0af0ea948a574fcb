r"""The same Real NVP by maximum likelihood and by a Wasserstein game: draws, likelihoods and codes.

Two sets of data: a ring of eight normal clusters in the plane, and scikit-learn's 8x8 digits with uniform noise on
their 17 grey values. By the game, draws come near the data while the likelihood of test data falls behind that of the
uniform law, and their codes are far from normal (Danihelka et al., 2017, saw it on 32x32 faces).

``python -m benchmarks.gans.likelihood`` measures what is missing of seeds 0 to 2, prints the tables and draws the
picture; networks are kept in runs/gans/likelihood, the figures in the results file of the benchmark.

References:
    | Comparison of Maximum Likelihood and GAN-based training of Real NVPs (Danihelka et al., 2017)
    | https://arxiv.org/abs/1705.05263
"""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.comparisons import Comparison, comparison
from implicit_infer.games import Training
from implicit_infer.generators.learners import LearnerComparison, compare_learners

NAME = "likelihood"
TITLE = "One flow by maximum likelihood and by a Wasserstein game"
ABOUT = """\
The same Real NVP on a ring of eight normal clusters (sd .05, radius 1) and on scikit-learn's 8x8 digits (17 grey
values, dequantised), by maximum likelihood and by WGAN-GP (weight 10) with two critic steps, and scored on the same
test data: bits for each dimension (those of the uniform law over the range beside them), the distance that an
independent critic finds, the mean Kolmogorov-Smirnov distance of the codes of test data from N(0, 1) beside what as
many normal codes have by chance, and their mean log standard deviation. Medians over seeds 3 to 5 (the settings
were chosen after a look at 0 to 2)."""
KEYS = ("data", "learner", "seed")

DATA = ("ring", "digits")
LEARNERS = ("mle", "wgan-gp")
FOLDER = Path("runs/gans/likelihood")
PICTURE = Path("docs/images/likelihood-and-game.png")
SEEDS = (3, 4, 5)
"""Of this part: the settings were chosen after a look at seeds 0 to 2."""

NETWORKS: dict[str, dict[str, Any]] = {
    "ring": {"transforms": 6, "hidden": [64]},
    "digits": {"transforms": 4, "hidden": [128], "shuffle": True},
}
GAME: dict[str, Any] = {"learning_rate": 1e-3, "critic_learning_rate": 4e-3, "betas": (0.0, 0.9), "average": 0.98}
LIKELIHOOD: dict[str, Any] = {"betas": (0.9, 0.99), "average": 0.99, "marks": 20}
TRAININGS: dict[str, dict[str, Training]] = {
    "ring": {
        "mle": Training(steps=1500, learning_rate=3e-3, **LIKELIHOOD),
        "wgan-gp": Training(steps=1000, marks=4, **GAME),
    },
    "digits": {
        "mle": Training(steps=700, learning_rate=1e-3, **LIKELIHOOD),
        "wgan-gp": Training(steps=700, marks=4, **GAME),
    },
}
CRITIC_STEPS = 2
"""Of the game for each of the flow: fewer than the paper's five, at a critic's step size four times the flow's."""


def sample(data: str, seed: int) -> tuple[Tensor, float | None]:
    """The data, and the width of their bins if they are discrete."""
    if data == "digits":
        from sklearn.datasets import load_digits

        return torch.as_tensor(load_digits().data, dtype=torch.float32), 1.0
    random = torch.Generator().manual_seed(seed)
    angle = 2 * math.pi * torch.randint(8, (5000,), generator=random) / 8
    centres = torch.stack([angle.cos(), angle.sin()], 1)
    return centres + 0.05 * torch.randn(5000, 2, generator=random), None


def compare(data: str, learners: tuple[str, ...], seed: int) -> LearnerComparison:
    """Learners on one set of data with one seed; networks that there are already are read."""
    rows, bin_width = sample(data, seed)
    return compare_learners(
        "flow",
        rows,
        {name: _learner(name) for name in learners},
        [seed],
        settings=NETWORKS[data],
        training_of=TRAININGS[data],
        batch_size=128,
        bin_width=bin_width,
        critic_steps=300,
        out=FOLDER / f"{data}-{seed}",
        progress=False,
    )


def _learner(name: str) -> str | Comparison:
    return name if name == "mle" else comparison(name, penalty="wgan-gp", critic_steps=CRITIC_STEPS)


def wanted(seeds: list[int]) -> list[dict[str, Any]]:
    """Both learners on both sets of data, for three seeds of this part's own: they differ by orders of magnitude."""
    return [{"data": d, "learner": name, "seed": s} for s in SEEDS for d in DATA for name in LEARNERS]


def run(data: str, learner: str, seed: int) -> dict[str, Any]:
    """One learner on one set of data."""
    torch.set_num_threads(1)
    made = compare(data, (learner,), seed)
    (row,) = made.rows
    return {name: value for name, value in row.items() if name not in KEYS} | made.baselines


def tables(rows: list[dict[str, Any]]) -> str:
    """The table, as markdown."""
    lines = [
        "| data | learner | bits/dim, learned from | bits/dim, test | uniform | independent critic | "
        "codes: KS | by chance | codes: log sd | CPU s | seeds |",
        "|" + "---|" * 11,
    ]
    for data in DATA:
        for learner in LEARNERS:
            some = [r for r in rows if (r["data"], r["learner"]) == (data, learner) and r["seed"] in SEEDS]
            if not some:
                continue
            figures = {
                key: statistics.median(row[key] for row in some)
                for key in ("bits_train", "bits_test", "uniform", "wasserstein", "kolmogorov", "by_chance")
            }
            spread, seconds = (statistics.median(row[key] for row in some) for key in ("log_spread", "seconds"))
            cells = [data, learner, *(_short(value) for value in figures.values()), f"{spread:.1f}", f"{seconds:.0f}"]
            lines.append("| " + " | ".join([*cells, str(len(some))]) + " |")
    return "\n".join(lines)


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 1e4 else f"{value:.1e}"


def picture(seed: int = SEEDS[0]) -> None:
    """Draws and codes of both learners on both sets of data, side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from implicit_infer.generators.learners_picture import draw

    figure = Figure(figsize=(10.8, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    for part, data in zip(figure.subfigures(1, len(DATA)), DATA, strict=True):
        made = compare(data, LEARNERS, seed)
        modules = {learner: module for (learner, _), module in made.modules.items()}
        bits = {row["learner"]: row["bits_test"] for row in made.rows}
        draw(part, modules, made.test, bits, made.baselines["uniform"])
    figure.savefig(PICTURE, dpi=120)


def main() -> None:
    """Measure what is missing, print the table, draw the picture."""
    from benchmarks.parts import results_of

    torch.set_num_threads(1)  # CPU time means little when threads spin
    results = results_of("benchmarks.gans", NAME)
    for keys in results.missing(wanted(list(SEEDS))):
        results.add(keys | run(**keys))
        print(keys, flush=True)
    print(tables(results.rows()))
    picture()


if __name__ == "__main__":
    main()
