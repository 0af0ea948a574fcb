"""What data are compared by: summaries, whole data sets and learned statistics, against exact posteriors."""

from __future__ import annotations

import functools
import math
import statistics
import time
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent, Uniform

from benchmarks.abc.exact import moments
from implicit_infer.abc import RejectionABC
from implicit_infer.abc.discrepancies import (
    AmortisedClassifier,
    Classifier,
    CramerVonMises,
    Energy,
    Hilbert,
    KernelMMD,
    NearestNeighbourKL,
    Wasserstein,
)
from implicit_infer.abc.distances import Mahalanobis, PNorm
from implicit_infer.abc.summaries import SemiAutomatic
from implicit_infer.posteriors.method import Question
from implicit_infer.runs import Runs
from implicit_infer.simulate import simulate
from implicit_simulators import GAndK, MovingAverage, Simulator

NAME = "discrepancies"
TITLE = "What to compare data by"
ABOUT = """\
Rejection ABC of 20,000 simulations from the prior (of g-and-k: a box about the posterior), the same for all methods:
the 100 nearest, or, where kept parameters are adjusted, the 400 nearest. The true theta is fixed, the data and the
simulations change with the seed. Bias: the distance of the posterior's mean from the exact one, in standard deviations
of the exact posterior, mean over parameters. Width: its standard deviation in those units. Medians over seeds, with the
quartiles."""
KEYS = ("method", "problem", "seed")

BUDGET, KEEP, KEEP_ADJUSTED = 20_000, 100, 400


class NearGAndK(GAndK):
    """The g-and-k law with a prior that is a box about the posterior, such as a sequential method would reach."""

    def __init__(self) -> None:
        super().__init__(n_obs=250)
        low, high = torch.tensor([[2.0, 0.0, 0.0, 0.0], [4.0, 3.0, 6.0, 2.0]])
        self.prior = Independent(Uniform(low, high, validate_args=False), 1)


PROBLEMS: dict[str, tuple[Simulator, tuple[float, ...]]] = {
    "g-and-k, n = 250": (NearGAndK(), (3.0, 1.0, 2.0, 0.5)),
    "MA(2), n = 100": (MovingAverage(n_obs=100), (0.6, 0.2)),
}
METHODS = (
    "summaries, Euclidean",
    "summaries, Mahalanobis",
    "Cramer-von Mises",
    "Wasserstein",
    "Hilbert",
    "energy",
    "MMD, 100 random features",
    "KL by nearest neighbours",
    "classifier, accuracy",
    "classifier, log-ratio",
    "classifier, amortised",
    "semi-automatic, linear",
    "semi-automatic, neural",
    "summaries, linear adjustment",
    "summaries, neural adjustment",
    "semi-automatic, neural, with linear adjustment",
)


def method_of(name: str, problem: str) -> RejectionABC:
    """A method for a problem: points of the series have the two values before them, too."""
    lags = (1, 2) if problem.startswith("MA") else None
    adjusted = "adjustment" in name
    distances = {
        "summaries, Mahalanobis": lambda: Mahalanobis(),
        # the law of several columns has no distribution function that sorting gives
        "Cramer-von Mises": lambda: CramerVonMises(lags=lags),
        "Wasserstein": lambda: Wasserstein(lags=lags),
        "Hilbert": lambda: Hilbert(lags=lags),
        "energy": lambda: Energy(lags=lags),
        "MMD, 100 random features": lambda: KernelMMD(random_features=100, lags=lags),
        "KL by nearest neighbours": lambda: NearestNeighbourKL(lags=lags),
        "classifier, accuracy": lambda: Classifier(score="accuracy", lags=lags),
        "classifier, log-ratio": lambda: Classifier(score="log-ratio", lags=lags),
        "classifier, amortised": lambda: AmortisedClassifier(lags=lags),
        "semi-automatic, linear": lambda: SemiAutomatic(kind="linear"),
        "semi-automatic, neural": lambda: SemiAutomatic(kind="neural"),
        "semi-automatic, neural, with linear adjustment": lambda: SemiAutomatic(kind="neural"),
    }
    distance = distances.get(name, PNorm)()
    adjust = "neural" if "neural adjustment" in name else "linear" if adjusted else "none"
    return RejectionABC(keep=KEEP_ADJUSTED if adjusted else KEEP, distance=distance, adjust=adjust)


def wanted(seeds: list[int]) -> list[dict[str, Any]]:
    """Every discrepancy on both problems; those that a problem's points do not admit are left out."""
    return [
        {"method": method, "problem": problem, "seed": seed}
        for seed in seeds
        for problem in PROBLEMS
        for method in METHODS
        if not (problem.startswith("MA") and method == "Cramer-von Mises")
    ]


def run(method: str, problem: str, seed: int) -> dict[str, Any]:
    """One posterior, held against the exact moments."""
    simulator, observed, bank, mean, sd = asked(problem, seed)
    begun = time.process_time()
    posterior = method_of(method, problem).infer(Question(simulator, observed, BUDGET, seed, progress=False, bank=bank))
    found = posterior.particles()
    weight, theta = found.weights, found.theta.double()
    centre = weight @ theta
    spread = (weight @ (theta - centre).square()).sqrt()
    return {
        "bias": float(((centre - mean) / sd).abs().mean()),
        "width": float((spread / sd).mean()),
        "seconds": time.process_time() - begun,
    }


@functools.lru_cache(maxsize=2)
def asked(problem: str, seed: int) -> tuple[Simulator, Tensor, Runs, Tensor, Tensor]:
    """The simulator, the data, the simulations that all methods share, and the exact mean and standard deviation."""
    simulator, truth = PROBLEMS[problem]
    theta = torch.tensor(truth)
    observed = simulator.simulate(theta[None], seed=1_000_000 + seed)[0]
    mean, sd, worth = moments(simulator, observed, theta, seed)
    if worth < 100:
        raise RuntimeError(f"{problem}, seed {seed}: the exact moments rest on {worth:.0f} draws only")
    return simulator, observed, simulate(simulator, BUDGET, seed=seed, progress=False), mean, sd


def tables(rows: list[dict[str, Any]]) -> str:
    """Discrepancies down, bias and width of both problems across, and what a simulation costs."""
    head = [column for problem in PROBLEMS for column in (f"{problem}: bias", "width", "us per simulation")]
    lines = ["| | " + " | ".join(head) + " |", "| --- |" + " --- |" * len(head)]
    for method in METHODS:
        cells = []
        for problem in PROBLEMS:
            found = [row for row in rows if (row["method"], row["problem"]) == (method, problem)]
            cells += [_quartiles([row[key] for row in found]) for key in ("bias", "width")]
            seconds = [row["seconds"] for row in found]
            cells.append(f"{1e6 * statistics.median(seconds) / BUDGET:.0f}" if seconds else "-")
        lines.append(f"| {method} | {' | '.join(cells)} |")
    seeds = len({row["seed"] for row in rows})
    return "\n".join([*lines, "", f"{seeds} seeds."])


def _quartiles(values: list[float]) -> str:
    if not values:
        return "-"
    middle = statistics.median(values)
    if len(values) < 4 or not all(map(math.isfinite, values)):
        return f"{middle:.2f}"
    low, _, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"
