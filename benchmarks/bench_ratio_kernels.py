"""How well, and how fast, kernel ratios are learned, beside the package densratio, which must be installed.

Run ``python benchmarks/bench_ratio_kernels.py`` (minutes; ``--seeds 1 --skip-speed`` for a look).
For each problem and method it prints, averaged over seeds and over 10,000 fresh samples of each side: the mean absolute
and root mean square error of log r on samples of p and of q, the estimate of KL(p || q) from samples of p beside the
truth, and the CPU time of the fit. The package's ratios are floored at 1e-6, for some are 0; ours need no floor.

Then it prints the CPU time and the peak memory of the package's uLSIF and of ours, for the same centres, bandwidths,
ridges and choice among them, at 10,000 samples of each, and ours by default at 100,000.

Problems: *a*, a standard normal in the plane against a shifted, correlated one, where E_q r^2 is infinite; *a_rev*,
the same exchanged; *b*, five correlated pairs (rho = 1/2) against ten independent normals; *peaked*, N(0, 1e-6) against
N(0, 1) on the line, variances: its log-ratios at samples of q are about -500,000, and errors there are large numbers.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")  # CPU time means little when threads spin

import numpy as np
import torch

from implicit_estimators.ratio import RatioEstimator
from implicit_estimators.ratio.kernels.kliep import KLIEPRatio
from implicit_estimators.ratio.kernels.logistic import KernelLogisticRatio
from implicit_estimators.ratio.kernels.rulsif import RuLSIFRatio
from implicit_estimators.ratio.kernels.ulsif import ULSIFRatio

LogRatio = Callable[[np.ndarray], np.ndarray]
FLOOR = 1e-6


@dataclass(frozen=True)
class Gaussians:
    """Two normal distributions."""

    mean_p: np.ndarray
    covariance_p: np.ndarray
    mean_q: np.ndarray
    covariance_q: np.ndarray

    def samples(self, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw n rows of each."""
        rng = np.random.default_rng(seed)
        p = rng.multivariate_normal(self.mean_p, self.covariance_p, n)
        return p, rng.multivariate_normal(self.mean_q, self.covariance_q, n)

    def log_ratio(self, x: np.ndarray) -> np.ndarray:
        """Log p(x)/q(x), with shape (n,)."""
        return _log_density(x, self.mean_p, self.covariance_p) - _log_density(x, self.mean_q, self.covariance_q)

    def kl(self) -> float:
        """KL(p || q)."""
        precision, shift = np.linalg.inv(self.covariance_q), self.mean_q - self.mean_p
        logs = np.linalg.slogdet(self.covariance_q)[1] - np.linalg.slogdet(self.covariance_p)[1]
        return float(0.5 * (np.trace(precision @ self.covariance_p) + shift @ precision @ shift - len(shift) + logs))


def _log_density(x: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    z = x - mean
    quadratic = np.einsum("ni,ij,nj->n", z, np.linalg.inv(covariance), z, optimize=True)
    return -0.5 * (quadratic + np.linalg.slogdet(covariance)[1])


SHIFTED = (np.array([1.0, 0.0]), np.array([[1.0, 0.5], [0.5, 1.0]]))
STANDARD = (np.zeros(2), np.eye(2))
PAIRS = (np.zeros(10), np.kron(np.eye(5), np.array([[1.0, 0.5], [0.5, 1.0]])))
PROBLEMS = {
    "a": Gaussians(*STANDARD, *SHIFTED),
    "a_rev": Gaussians(*SHIFTED, *STANDARD),
    "b": Gaussians(*PAIRS, np.zeros(10), np.eye(10)),
    "peaked": Gaussians(np.zeros(1), np.full((1, 1), 1e-6), np.zeros(1), np.eye(1)),
}


def ours(make: Callable[[], RatioEstimator]) -> Callable[[np.ndarray, np.ndarray, int], LogRatio]:
    """One of our estimators, with its defaults."""

    def fit(p: np.ndarray, q: np.ndarray, seed: int) -> LogRatio:
        ratio = make().fit(p, q, seed=seed)
        return lambda x: ratio.log_ratio(x).double().numpy()

    return fit


def package(method: str) -> Callable[[np.ndarray, np.ndarray, int], LogRatio]:
    """One of densratio's, with its defaults."""

    def fit(p: np.ndarray, q: np.ndarray, seed: int) -> LogRatio:
        from densratio import densratio

        np.random.seed(seed)  # noqa: NPY002  the package draws its centres from the global generator
        found = densratio(p, q, method=method, alpha=0.1, verbose=False)

        def log_ratio(x: np.ndarray) -> np.ndarray:
            values = np.asarray(found.compute_density_ratio(x), float).ravel()
            if method == "RuLSIF":
                values = 0.9 * values / np.maximum(1 - 0.1 * values, FLOOR)
            return np.log(np.maximum(values, FLOOR))

        return log_ratio

    return fit


OURS = {
    "ulsif (ours)": ours(ULSIFRatio),
    "rulsif (ours)": ours(RuLSIFRatio),
    "kliep (ours)": ours(KLIEPRatio),
    "kernel-logistic (ours)": ours(KernelLogisticRatio),
}
PACKAGE = {f"{method} (densratio)": package(method) for method in ("uLSIF", "RuLSIF", "KLIEP")}


def measure(
    problem: Gaussians, fit: Callable[[np.ndarray, np.ndarray, int], LogRatio], n: int, seed: int
) -> list[float]:
    """One row of the table."""
    p, q = problem.samples(n, seed)
    torch.set_num_threads(1)  # importing densratio, whose kernels numba compiles, changes it
    start = time.process_time()
    log_ratio = fit(p, q, seed)
    spent = time.process_time() - start
    fresh = problem.samples(10_000, 10**6 + seed)
    estimates = [log_ratio(side) for side in fresh]
    errors = [estimate - problem.log_ratio(side) for estimate, side in zip(estimates, fresh, strict=True)]
    mae, rmse = [np.abs(e).mean() for e in errors], [np.sqrt((e**2).mean()) for e in errors]
    return [*mae, *rmse, estimates[0].mean(), spent]


def speed(which: str) -> None:
    """Print CPU seconds and peak memory of one fit; run in a process of its own, for the peak is the process's."""
    n = 100_000 if which == "large" else 10_000
    p, q = PROBLEMS["a"].samples(n, 0)
    grid = 10 ** np.linspace(-3, 1, 9)  # the package's default
    np.random.seed(0)  # noqa: NPY002  the package draws its centres from the global generator
    if which == "package":
        from densratio import uLSIF

        uLSIF(p[:200], q[:200], sigma=1.0, lambda_=1.0, verbose=False)  # its kernels are compiled on first use
        np.random.seed(0)  # noqa: NPY002  the package's generator, for the same draw as below
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    if which == "package":
        found = uLSIF(p, q, verbose=False)
        bandwidth, ridge, ratios = found.kernel_info.sigma, found.lambda_, found.compute_density_ratio(q[:1000])
    else:
        ratio = ULSIFRatio()
        if which == "ours":
            centres = p[np.random.choice(n, size=100, replace=False)]  # noqa: NPY002  the package's draw
            ratio = ULSIFRatio(centres, bandwidths=grid, ridges=grid, criterion="densratio", standardise=False, rows=n)
        ratio.fit(p, q, seed=0)
        bandwidth, ridge, ratios = ratio.bandwidth, ratio.ridge, ratio.ratio(q[:1000]).numpy()
    spent = time.process_time() - start
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{spent:.3f} {grown / 1024:.0f} {bandwidth:.4g} {ridge:.4g} {ratios.mean():.6f}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--methods", nargs="+", choices=[*OURS, *PACKAGE], default=[*OURS, *PACKAGE])
    parser.add_argument("--skip-speed", action="store_true")
    parser.add_argument("--speed", choices=("package", "ours", "large"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.speed:
        speed(options.speed)
        return
    for name in options.problems:
        for n in options.rows:
            print(f"\n{name}, {n} samples of each, {options.seeds} seeds, true KL {PROBLEMS[name].kl():.3f}")
            print(f"{'':24}{'MAE p':>9}{'MAE q':>9}{'RMSE p':>9}{'RMSE q':>9}{'KL':>9}{'CPU s':>9}")
            for method, fit in (OURS | PACKAGE).items():
                if method not in options.methods or (method in PACKAGE and n > 2000):  # minutes for each fit
                    continue
                seeds = range(options.first_seed, options.first_seed + options.seeds)
                rows = [measure(PROBLEMS[name], fit, n, seed) for seed in seeds]
                print(f"{method:24}" + "".join(f"{value:9.3g}" for value in np.mean(rows, 0)), flush=True)
    if options.skip_speed:
        return
    print(f"\n{'uLSIF on a':34}{'CPU s':>10}{'MB more':>10}{'sigma':>10}{'lambda':>10}{'mean r':>10}")
    spent = {}
    for which, title in (
        ("package", "densratio, 10,000 of each"),
        ("ours", "ours, 10,000, the same grid"),
        ("large", "ours by default, 100,000"),
    ):
        command = [sys.executable, __file__, "--speed", which]
        figures = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        spent[which] = float(figures[0])
        print(f"{title:34}" + "".join(f"{figure:>10}" for figure in figures), flush=True)
    print(f"ours is {spent['package'] / spent['ours']:.0f} times as fast")


if __name__ == "__main__":
    main()
