"""Whether ``check()`` is right about ratios that are known to be right or wrong.

Run ``python benchmarks/bench_ratio_check.py`` (minutes; ``--seeds 1`` for a look). Six ratios are held against fresh
samples: the truth, r = 1 everywhere, the truth with a factor, the truth too sure of itself, and what scikit-learn's
boosted trees and perceptron learn from 10,000 samples of each side. For each it prints the figures of the check,
averaged over seeds, and in how many of the seeds the verdict was the right one.

Problems: *b*, five correlated pairs (rho = 1/2) against ten independent normals, where the truth shall be trusted and
everything else be off; *c*, twenty pairs with ten nats between p and q, where samples cannot tell whether the truth or
a stretched one has the right means, and "uninformative" is the right verdict on both.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # CPU time means little when threads spin

import numpy as np
import torch

from implicit_estimators.ratio import RatioCheck, check_ratio

LogRatio = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Pairs:
    """p: pairs of normals with correlation rho; q: independent normals."""

    pairs: int
    rho: float

    def samples(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw n rows of each."""
        q, z = rng.standard_normal((2, n, 2 * self.pairs))
        p = z.copy()
        p[:, 1::2] = self.rho * z[:, ::2] + math.sqrt(1 - self.rho**2) * z[:, 1::2]
        return p, q

    def log_ratio(self, x: np.ndarray) -> np.ndarray:
        """Log p(x)/q(x), with shape (n,)."""
        a, b, rest = x[:, ::2], x[:, 1::2], 1 - self.rho**2
        return -0.5 * (((b - self.rho * a) ** 2 / rest - b**2) + math.log(rest)).sum(1)


PROBLEMS = {"b": Pairs(5, 0.5), "c": Pairs(20, math.sqrt(1 - math.exp(-1)))}


def impostors(problem: Pairs, seed: int) -> dict[str, LogRatio]:
    """The six ratios by name, two of them learned from 10,000 samples of each side."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = np.concatenate(problem.samples(10_000, np.random.default_rng([seed, 0])))
    label = np.repeat([1, 0], 10_000)
    boosted = HistGradientBoostingClassifier(random_state=seed).fit(x, label)
    network = make_pipeline(StandardScaler(), MLPClassifier((128, 128), early_stopping=True, random_state=seed))
    network.fit(x, label)

    def logit(classifier: Any) -> LogRatio:
        def log_ratio(x: np.ndarray) -> np.ndarray:
            share = classifier.predict_proba(x)[:, 1].clip(1e-15, 1 - 1e-15)
            return np.log(share / (1 - share))

        return log_ratio

    return {
        "truth": problem.log_ratio,
        "r = 1": lambda x: np.zeros(len(x)),
        "log r + 0.5": lambda x: problem.log_ratio(x) + 0.5,
        "1.3 log r": lambda x: 1.3 * problem.log_ratio(x),
        "HistGB": logit(boosted),
        "MLP": logit(network),
    }


def right(problem: str, name: str, verdict: str) -> bool:
    """Whether the verdict is the one that the samples support."""
    if problem == "b":
        return verdict == "trusted" if name == "truth" else verdict.startswith("off: ")
    if name in ("truth", "1.3 log r"):
        return verdict.startswith("uninformative")
    return verdict != "trusted"


def checked(p: np.ndarray, q: np.ndarray, log_ratio: LogRatio, seed: int) -> tuple[RatioCheck, float]:
    """The check at fresh samples, and its CPU seconds."""
    sides = [torch.from_numpy(np.ascontiguousarray(x)) for x in (p, q)]
    values = [torch.from_numpy(log_ratio(x)) for x in (p, q)]
    start = time.process_time()
    found = check_ratio(values[0], values[1], sides[0], sides[1], seed)
    return found, time.process_time() - start


FIGURES = {
    "E_q r": lambda c: c.mean_ratio,
    "E_p 1/r": lambda c: c.mean_inverse,
    "log loss": lambda c: c.log_loss,
    "ECE": lambda c: c.calibration_error,
    "slope": lambda c: c.slope,
    "AUC": lambda c: c.weighted_auc,
    "ESS q": lambda c: c.effective_q,
    "ESS p": lambda c: c.effective_p,
}


def main() -> None:
    """Print a table for each problem."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--rows", type=int, nargs="+", default=[2000, 10_000], help="fresh samples of each side")
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS))
    parser.add_argument("--verdicts", action="store_true", help="print every verdict")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for title in options.problems:
        problem = PROBLEMS[title]
        found: dict[tuple[int, str], list[tuple[RatioCheck, float]]] = {}
        for seed in range(options.first, options.first + options.seeds):
            ratios = impostors(problem, seed)
            for rows in options.rows:
                p, q = problem.samples(rows, np.random.default_rng([seed, rows]))
                for name, log_ratio in ratios.items():
                    found.setdefault((rows, name), []).append(checked(p, q, log_ratio, seed))
                    if options.verdicts:
                        print(f"  {title} {seed} {rows:,} {name}: {found[rows, name][-1][0].verdict}")
        for rows in options.rows:
            print(f"\nproblem {title}, {rows:,} fresh samples of each side, {options.seeds} seeds")
            print("| ratio | " + " | ".join(FIGURES) + " | CPU s | verdicts | right |")
            print("| --- |" + " --- |" * (len(FIGURES) + 3))
            for name in ("truth", "r = 1", "log r + 0.5", "1.3 log r", "HistGB", "MLP"):
                checks = found[rows, name]
                means = [np.mean([float(figure(check)) for check, _ in checks]) for figure in FIGURES.values()]
                words = [check.verdict.split(":")[0] for check, _ in checks]
                said = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
                share = sum(right(title, name, check.verdict) for check, _ in checks)
                seconds = np.mean([seconds for _, seconds in checks])
                numbers = " | ".join(f"{mean:.3g}" for mean in means)
                print(f"| {name} | {numbers} | {seconds:.2f} | {said} | {share} of {len(checks)} |")


if __name__ == "__main__":
    main()
