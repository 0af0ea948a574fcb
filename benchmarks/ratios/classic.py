"""Peers that are libraries or one-liners: densratio, scikit-learn, sbi, and the plug-in of two normals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.ratios.methods import LogRatio
from implicit_estimators.problems import Problem

FLOOR = 1e-6
"""Kernel ratios are exactly zero far from their centres, or below; their logarithm needs a floor."""


def _arrays(p: Tensor, q: Tensor) -> tuple[np.ndarray, np.ndarray]:
    return p.double().numpy(), q.double().numpy()


def plug_in(problem: Problem, p: Tensor, q: Tensor, seed: int) -> LogRatio:
    """Means and covariances of both sides, and the ratio of those normals: an oracle where both are normal."""
    moments = []
    for side in _arrays(p, q):
        mean, covariance = side.mean(0), np.atleast_2d(np.cov(side.T))
        moments.append((mean, np.linalg.pinv(covariance, hermitian=True), np.linalg.slogdet(covariance)[1]))

    def log_density(x: np.ndarray, mean: np.ndarray, precision: np.ndarray, logs: float) -> np.ndarray:
        z = x - mean
        return -0.5 * (((z @ precision) * z).sum(1) + logs)

    return lambda x: log_density(x.double().numpy(), *moments[0]) - log_density(x.double().numpy(), *moments[1])


def densratio(method: str, alpha: float = 0.0, *, grid: str = "default", rows: int | None = None) -> Callable[..., Any]:
    """The package densratio 0.4.0, on its own grid of widths or on one around the median distance."""

    def fit(problem: Problem, p: Tensor, q: Tensor, seed: int) -> LogRatio:
        from densratio import KLIEP
        from densratio import densratio as estimate

        np.random.seed(seed)  # noqa: NPY002  densratio takes no seed and draws its centres from NumPy's global state
        first, second = (side[:rows] for side in _arrays(p, q))
        if method == "KLIEP":
            found = KLIEP(first, second, verbose=False)
        else:
            settings: dict[str, Any] = {"alpha": alpha, "verbose": False}
            if grid == "median":
                width = _median_distance(first[:500])
                settings["sigma_range"] = [width * factor for factor in (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)]
                settings["lambda_range"] = [10.0**power for power in range(-4, 1)]
            found = estimate(first, second, method=method, **settings)

        def log_ratio(x: Tensor) -> np.ndarray:
            r = np.asarray(found.compute_density_ratio(x.double().numpy()), float).ravel()
            if alpha:  # what is learned is r / (alpha r + 1 - alpha)
                r = (1 - alpha) * r / np.maximum(1 - alpha * r, FLOOR)
            return np.log(np.maximum(r, FLOOR))

        return log_ratio

    return fit


def _median_distance(x: np.ndarray) -> float:
    squares = ((x[:, None] - x[None]) ** 2).sum(-1)
    return float(np.median(np.sqrt(squares[np.triu_indices(len(x), 1)])))


def classifier(kind: str) -> Callable[..., Any]:
    """A classifier of scikit-learn, on standardised columns: the log-odds less those of the class sizes."""

    def fit(problem: Problem, p: Tensor, q: Tensor, seed: int) -> LogRatio:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        first, second = _arrays(p, q)
        features = _products if kind == "quadratic" else _same
        model = make_pipeline(StandardScaler(), _model(kind, seed))
        model.fit(features(np.vstack([first, second])), np.r_[np.ones(len(first)), np.zeros(len(second))])
        prior = np.log(len(second) / len(first))

        def log_ratio(x: Tensor) -> np.ndarray:
            points = features(x.double().numpy())
            if hasattr(model, "decision_function"):
                return model.decision_function(points) + prior
            share = np.clip(model.predict_proba(points)[:, 1], 1e-12, 1 - 1e-12)
            return np.log(share / (1 - share)) + prior

        return log_ratio

    return fit


def _same(x: np.ndarray) -> np.ndarray:
    return x


def _products(x: np.ndarray) -> np.ndarray:
    i, j = np.triu_indices(x.shape[1])
    return np.hstack([x, x[:, i] * x[:, j]])


def _model(kind: str, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    if kind == "quadratic":
        return LogisticRegression(max_iter=1000)
    if kind == "boosting":
        return HistGradientBoostingClassifier(early_stopping=True, max_iter=1000, learning_rate=0.05, random_state=seed)
    return MLPClassifier((128, 128), early_stopping=True, random_state=seed)


def sbi(kind: str) -> Callable[..., Any]:
    """Neural ratio estimation by sbi with its defaults, of one variable given the other: it sees p alone."""

    def fit(problem: Problem, p: Tensor, q: Tensor, seed: int) -> LogRatio:
        import torch
        from sbi.inference import NRE_A, NRE_C

        split = problem.split
        torch.manual_seed(seed)
        trainer = {"NRE-A": NRE_A, "NRE-C": NRE_C}[kind](show_progress_bars=False)
        network = trainer.append_simulations(p[:, :split].float(), p[:, split:].float()).train()

        def log_ratio(x: Tensor) -> Tensor:
            with torch.no_grad():
                return network.unnormalized_log_ratio(x[:, :split].float(), x[:, split:].float())

        return log_ratio

    return fit
