r"""Mixtures with narrow modes: the ring of 8 and the grid of 25 of VEEGAN and PacGAN, in minutes on one core.

Runs of its own, too: ``python -m benchmarks.gans.ring_grid run | summary | picture``.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # CPU time means little when threads spin

NAME = "ring_grid"
TITLE = "Ring of 8 and grid of 25"
ABOUT = """\
Eight normals (sigma .01) on the unit circle, and 25 (sigma .05) at the pairs of -4, -2, 0, 2, 4; 100,000 samples to
learn from, 2-d normal noise, an MLP of 3 x 128. Of 2,500 draws: modes with at least one draw within three sigma, the
share of draws within three sigma of a mode (98.89 % for the truth itself), and the reverse KL divergence of the modes'
shares among those draws. `default` is `ii.learn("mlp", data, latent=2)` and nothing else, the same for both;
`plain GAN` is the log loss with the non-saturating one, without penalty and without averaging, for as many steps with
the same critic and step sizes, which fall to 0 over the second half; `constant steps` leaves that away, too. A seed
passes with all modes, at least 95 % (ring) or 90 % (grid) of high quality, and a divergence below PacGAN's best.
Mean and standard error over seeds; PacGAN's rows are its table 1 (10 trials, 400 epochs of 100,000 samples in batches
of 100, networks of up to 4 x 400)."""
KEYS = ("problem", "method", "seed")

METHODS = ("plain GAN, constant steps", "plain GAN", "default")
SIGMA = {"ring": 0.01, "grid": 0.05}
ROWS, JUDGED = 100_000, 2500
WANTED = {"ring": (8, 0.95, 0.07), "grid": (25, 0.90, 0.04)}
"""Modes and share of high quality that a seed needs at least, and the reverse KL that it needs to be below."""

PACGAN = {
    "GAN": {"ring": ("6.3 ± .5", "98.2 ± .2", ".45 ± .09"), "grid": ("17.3 ± .8", "94.8 ± .7", ".70 ± .07")},
    "ALI": {"ring": ("6.6 ± .3", "97.6 ± .4", ".36 ± .04"), "grid": ("24.1 ± .4", "95.7 ± .6", ".14 ± .03")},
    "PacGAN2": {"ring": ("7.9 ± .1", "95.6 ± 2.0", ".07 ± .03"), "grid": ("23.8 ± .7", "91.3 ± .8", ".13 ± .04")},
    "PacGAN3": {"ring": ("7.8 ± .1", "97.7 ± .3", ".10 ± .02"), "grid": ("24.6 ± .4", "94.2 ± .4", ".06 ± .02")},
    "PacGAN4": {"ring": ("7.8 ± .1", "95.9 ± 1.4", ".07 ± .02"), "grid": ("24.8 ± .2", "93.6 ± .6", ".04 ± .01")},
}
"""Modes, share of high quality in per cent, reverse KL, as published."""

SAMPLES = Path("runs/gans/ring_grid")
"""Where the draws that were judged are kept, for the picture."""

PICTURE = Path("docs/images/ring-grid.png")


def modes(problem: str) -> Any:
    """The means, with shape (8, 2) or (25, 2)."""
    import torch

    if problem == "grid":
        side = torch.arange(-4.0, 5.0, 2.0)
        return torch.cartesian_prod(side, side)
    angle = 2 * math.pi * torch.arange(8) / 8  # not linspace to 2 pi, which has one mode twice
    return torch.stack([angle.cos(), angle.sin()], 1)


def truth(problem: str, n: int, seed: int) -> Any:
    """Draws of the mixture, with shape (n, 2)."""
    import torch

    random, means = torch.Generator().manual_seed(seed), modes(problem)
    chosen = torch.randint(len(means), (n,), generator=random)
    return means[chosen] + SIGMA[problem] * torch.randn(n, 2, generator=random)


def wanted(seeds: list[int]) -> list[dict[str, Any]]:
    """Every method on both problems, seed by seed, so that a benchmark that is stopped has some of all."""
    return [
        {"problem": problem, "method": method, "seed": seed}
        for seed in seeds
        for problem in SIGMA
        for method in reversed(METHODS)
    ]


def learned(problem: str, method: str, seed: int) -> Any:
    """The generator that a method learns; "mlp" has three layers of 128."""
    import implicit_infer as ii
    from implicit_infer.games import Training

    data = truth(problem, ROWS, 2 * seed)
    if method == "default":
        return ii.learn("mlp", data, latent=2, seed=seed, progress=False)
    plain = Training(average=0, schedule="constant" if "constant" in method else "cosine-tail")
    return ii.learn("mlp", data, "gan", latent=2, training=plain, seed=seed, progress=False)


def drawn(problem: str, method: str, seed: int) -> Path:
    """Where the draws of a run are."""
    return SAMPLES / f"{problem}-{method.replace(',', '').replace(' ', '-')}-{seed}.npy"


def run(problem: str, method: str, seed: int) -> dict[str, Any]:
    """Learn and judge once."""
    import numpy as np

    from implicit_infer.diagnose import mode_coverage

    began = time.process_time()
    model = learned(problem, method, seed)
    seconds = time.process_time() - began
    samples = model.sample((JUDGED,), seed=2 * seed + 1)
    SAMPLES.mkdir(parents=True, exist_ok=True)
    np.save(drawn(problem, method, seed), samples.numpy(), allow_pickle=False)
    found = mode_coverage(samples, modes(problem), 3 * SIGMA[problem])
    return {
        "modes": found.covered,
        "high_quality": found.high_quality,
        "reverse_kl": found.reverse_kl,
        "steps": model.history.steps[-1],
        "seconds": seconds,
    }


def passes(row: dict[str, Any]) -> bool:
    """Whether a run reached what was asked of the defaults."""
    least, share, below = WANTED[row["problem"]]
    return bool(row["modes"] >= least and row["high_quality"] >= share and row["reverse_kl"] < below)


def tables(rows: list[dict[str, Any]]) -> str:
    """One table for each problem, with the published rows below the measured ones."""
    return "\n\n".join(f"{problem.capitalize()}:\n\n{table(rows, problem)}" for problem in SIGMA)


def table(rows: list[dict[str, Any]], problem: str) -> str:
    """Mean and standard error of each figure, for each method."""
    lines = [
        f"| | modes of {WANTED[problem][0]} | high quality (%) | reverse KL | steps | CPU s | seeds that pass |",
        "|---|---|---|---|---|---|---|",
    ]
    for method in METHODS:
        those = [row for row in rows if (row["problem"], row["method"]) == (problem, method)]
        if those:
            figures = [
                around([row["modes"] for row in those], 1),
                around([100 * row["high_quality"] for row in those], 1),
                around([row["reverse_kl"] for row in those if math.isfinite(row["reverse_kl"])], 3),
                str(max(row["steps"] for row in those)),
                around([row["seconds"] for row in those], 0),
                f"{sum(map(passes, those))} of {len(those)}",
            ]
            lines.append(f"| {method} | {' | '.join(figures)} |")
    lines += [f"| {name} (published) | {' | '.join(of[problem])} | 400000 | | |" for name, of in PACGAN.items()]
    return "\n".join(lines)


def around(values: list[float], digits: int) -> str:
    """Mean and standard error."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    error = statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.fmean(values):.{digits}f} ± {error:.{digits}f}"


def picture(path: Path = PICTURE, seed: int = 0) -> Path:
    """The truth and what each method made of it on both problems, as one seed left them."""
    import matplotlib as mpl

    mpl.use("Agg")
    import numpy as np
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 4, figsize=(12, 6.2), constrained_layout=True)
    for across, problem in zip(axes, SIGMA, strict=True):
        for axis, method in zip(across, ("truth", *METHODS), strict=True):
            if method == "truth":
                samples = truth(problem, JUDGED, 2 * seed + 1).numpy()
            else:
                samples = np.load(drawn(problem, method, seed), allow_pickle=False)
            reach = 1.4 if problem == "ring" else 5.2
            axis.plot(samples[:, 0], samples[:, 1], ".", markersize=2, alpha=0.35, color="#20639b")
            axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=f"{problem}: {method}")
            axis.tick_params(labelsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


def main(arguments: list[str]) -> None:
    """The command: ``run`` goes on where it was stopped."""
    from benchmarks.parts import results_of

    top = argparse.ArgumentParser(prog="python -m benchmarks.gans.ring_grid", description=__doc__)
    top.add_argument("command", choices=("run", "summary", "picture"))
    top.add_argument("--seeds", nargs="+", type=int, default=list(range(10)), help="default: 0 to 9")
    top.add_argument("--problems", nargs="+", choices=tuple(SIGMA), default=list(SIGMA), help="default: both")
    top.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="default: both")
    options = top.parse_args(arguments)
    results = results_of("benchmarks.gans", NAME)
    if options.command == "picture":
        print(picture(seed=options.seeds[0]))
        return
    if options.command == "run":
        import torch

        torch.set_num_threads(1)
        chosen = [
            k for k in wanted(options.seeds) if k["problem"] in options.problems and k["method"] in options.methods
        ]
        for keys in results.missing(chosen):
            row = {**keys, **run(**keys)}
            results.add(row)
            print(
                ", ".join(
                    f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
                ),
                flush=True,
            )
    print(tables(results.rows()))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit("stopped; what was measured is kept, and the same command goes on from there")
