"""How well a density ratio is learned, beside the usual peers, where the truth is known.

Run ``python benchmarks/bench_ratios.py`` (minutes; ``--seeds 1`` for a look). For each problem and method it prints,
averaged over seeds and over 10,000 fresh samples of each side: the mean absolute and root mean square error of log r
on samples of p and of q, the estimate of KL(p || q) from samples of p beside the truth, and the CPU time of the fit.

Problems: *a*, a standard normal in the plane against a shifted, correlated one, where E_q r^2 is infinite; *a_rev*,
    the same exchanged;
*b*, five correlated pairs (rho = 1/2) against ten independent normals. Peers: scikit-learn's ``MLPClassifier`` and
logistic regression on all products of two columns, which contains the truth of these problems (and of no others).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")  # CPU time means little when threads spin

import numpy as np
import torch

from implicit_estimators.ratio import LogisticRatio


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
}

LogRatio = Callable[[np.ndarray], np.ndarray]


def logistic(loss: str) -> Callable[[np.ndarray, np.ndarray, int], LogRatio]:
    """Ours, with one of its losses."""

    def fit(p: np.ndarray, q: np.ndarray, seed: int) -> LogRatio:
        ratio = LogisticRatio(loss=loss).fit(p, q, seed=seed)
        return lambda x: ratio.log_ratio(x).double().numpy()

    return fit


def mlp_classifier(p: np.ndarray, q: np.ndarray, seed: int) -> LogRatio:
    """scikit-learn's network, as large as is common and stopped early."""
    from sklearn.neural_network import MLPClassifier

    return _classifier(MLPClassifier((128, 128), early_stopping=True, random_state=seed), p, q, lambda x: x)


def quadratic_regression(p: np.ndarray, q: np.ndarray, seed: int) -> LogRatio:
    """Logistic regression on columns and their products."""
    from sklearn.linear_model import LogisticRegression

    def features(x: np.ndarray) -> np.ndarray:
        i, j = np.triu_indices(x.shape[1])
        return np.hstack([x, x[:, i] * x[:, j]])

    return _classifier(LogisticRegression(max_iter=1000), p, q, features)


def _classifier(model: object, p: np.ndarray, q: np.ndarray, features: LogRatio) -> LogRatio:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fitted = make_pipeline(StandardScaler(), model).fit(
        features(np.vstack([p, q])), np.r_[np.ones(len(p)), np.zeros(len(q))]
    )

    def log_ratio(x: np.ndarray) -> np.ndarray:
        share = np.clip(fitted.predict_proba(features(x))[:, 1], 1e-12, 1 - 1e-12)
        return np.log(share / (1 - share)) + np.log(len(q) / len(p))

    return log_ratio


METHODS = {
    "logistic (ours)": logistic("log"),
    "brier (ours)": logistic("brier"),
    "hellinger (ours)": logistic("hellinger"),
    "kl bound (ours)": logistic("kl"),
    "MLPClassifier": mlp_classifier,
    "quadratic regression": quadratic_regression,
}


def measure(
    problem: Gaussians, fit: Callable[[np.ndarray, np.ndarray, int], LogRatio], n: int, seed: int
) -> list[float]:
    """One row of the table."""
    p, q = problem.samples(n, seed)
    start = time.process_time()
    log_ratio = fit(p, q, seed)
    spent = time.process_time() - start
    fresh = problem.samples(10_000, 10**6 + seed)
    estimates = [log_ratio(side) for side in fresh]
    errors = [estimate - problem.log_ratio(side) for estimate, side in zip(estimates, fresh, strict=True)]
    mae, rmse = [np.abs(e).mean() for e in errors], [np.sqrt((e**2).mean()) for e in errors]
    return [*mae, *rmse, estimates[0].mean(), spent]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000])
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.problems:
        for n in options.rows:
            print(f"\n{name}, {n} samples of each, {options.seeds} seeds, true KL {PROBLEMS[name].kl():.3f}")
            print(f"{'':22}{'MAE p':>8}{'MAE q':>8}{'RMSE p':>8}{'RMSE q':>8}{'KL':>8}{'CPU s':>8}")
            for method, fit in METHODS.items():
                rows = [measure(PROBLEMS[name], fit, n, seed) for seed in range(options.seeds)]
                print(f"{method:22}" + "".join(f"{value:8.3f}" for value in np.mean(rows, 0)), flush=True)


if __name__ == "__main__":
    main()
