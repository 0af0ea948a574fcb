r"""A density ratio by any classifier of scikit-learn: scores from cross-fitting, calibrated, corrected for the prior.

A classifier fitted to the other folds scores each row, and a map from scores to log-odds is fitted to those scores: the
classifier's own log-odds are too large where it has learned its rows by heart. The map is that of beta calibration,

.. math:: \text{log-odds}(s) = c - a \operatorname{softplus}(-s) + b \operatorname{softplus}(s), \quad a, b \ge 0,

which for logits s of a probability D is :math:`c + a \log D - b \log(1 - D)`: with a = b, Platt's sigmoid. Unlike
isotonic regression it is never infinite and never flat. The fitted ratio is the mean of the folds' log-odds.

References:
    | Beta calibration: a well-founded and easily implemented improvement (Kull, Silva Filho and Flach, 2017)
    | https://proceedings.mlr.press/v54/kull17a.html
    | Probabilistic outputs for support vector machines (Platt, 1999), for the targets that keep it finite
    | Approximating Likelihood Ratios with Calibrated Discriminative Classifiers (Cranmer, Pavez and Louppe, 2015)
    | https://arxiv.org/abs/1506.02169
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from implicit_estimators.networks.standardise import Standardiser
from implicit_estimators.networks.train import Progress
from implicit_estimators.ratio.base import RatioEstimator
from implicit_estimators.seeds import stream

CALIBRATIONS = ("beta", "sigmoid", "none")


class ClassifierRatio(RatioEstimator):
    r"""The calibrated log-odds of a classifier as the log-ratio.

    Trees, the default, ask nothing of the columns and give a ratio in steps; :meth:`log_ratio` has no gradient.

    Args:
        classifier: A classifier with ``predict_proba`` or ``decision_function``, which is copied and left as it is;
            gradient-boosted trees if None. Its ``random_state`` is set from the seed.
        calibration: "beta", "sigmoid", or "none" for the classifier's own probabilities.
        folds: Fits, each to all rows but those of one fold.

    Raises:
        TypeError: If the classifier has no ``fit``, or cannot score.
        ValueError: If there is no such calibration, or ``folds`` is below 2.

    Example:
        >>> from sklearn.linear_model import LogisticRegression
        >>> p = torch.randn(2000, 1, generator=torch.Generator().manual_seed(0))
        >>> q = 1 + torch.randn(2000, 1, generator=torch.Generator().manual_seed(1))
        >>> ratio = ClassifierRatio(LogisticRegression()).fit(p, q, seed=0)
        >>> ratio.log_ratio([0.5]).abs() < 0.1  # where the densities cross
        tensor([True])
    """

    name = "classifier"

    def __init__(self, classifier: Any = None, *, calibration: str = "beta", folds: int = 5) -> None:
        if classifier is not None and not (
            hasattr(classifier, "fit")
            and (hasattr(classifier, "predict_proba") or hasattr(classifier, "decision_function"))
        ):
            raise TypeError(
                "classifier: expected fit, and predict_proba or decision_function, as of scikit-learn; "
                f"got {type(classifier).__name__}"
            )
        if calibration not in CALIBRATIONS:
            raise ValueError(f"calibration: expected one of {', '.join(CALIBRATIONS)}; got {calibration!r}")
        if calibration == "none" and classifier is not None and not hasattr(classifier, "predict_proba"):
            raise TypeError(f"calibration: without one, {type(classifier).__name__} needs predict_proba")
        if folds < 2:
            raise ValueError(f"folds: expected at least 2; got {folds}")
        self.classifier = classifier
        self.calibration = calibration
        self.folds = folds

    def _fit(self, p: Tensor, q: Tensor, seed: int, device: torch.device, progress: Progress | None) -> None:
        self._standardiser = Standardiser.fit(p, q).cpu()
        self._scores: list[_Score] = []
        draw = stream(seed, "initialise")

        def fit(p: Tensor, q: Tensor) -> Callable[[Tensor], Tensor]:
            state = int(torch.randint(2**31 - 1, (), generator=draw))
            rows = self._rows(p), self._rows(q)
            score = _Score(self._copy(state, len(p) + len(q)), *rows, probabilities=self.calibration == "none")
            self._scores.append(score)
            if progress is not None:
                progress(len(self._scores), {})
            return lambda x: score(self._rows(x)).to(x.device)

        self._cross_fit(p, q, seed, fit, self.folds)
        assert self.held_out_log_ratio is not None
        score_p, score_q = (side.double() for side in self.held_out_log_ratio)
        self._map = _Calibration(score_p, score_q, self.calibration)
        # what a row's own label did to the map is taken off by fitting it to the other half
        judged_p, judged_q = torch.zeros_like(score_p), torch.zeros_like(score_q)
        for half in (slice(0, None, 2), slice(1, None, 2)):
            other = slice(1 - half.start, None, 2)
            own = _Calibration(score_p[other], score_q[other], self.calibration)
            judged_p[half], judged_q[half] = own(score_p[half]), own(score_q[half])
        self.held_out_log_ratio = (judged_p.float(), judged_q.float())

    def _copy(self, state: int, rows: int) -> Any:
        from sklearn.base import clone

        if self.classifier is None:
            from sklearn.ensemble import HistGradientBoostingClassifier

            enough = rows >= 200  # to hold a tenth out and learn from it
            return HistGradientBoostingClassifier(
                learning_rate=0.05, max_iter=1000 if enough else 50, early_stopping=enough, random_state=state
            )
        copy = clone(self.classifier)
        names = [name for name in copy.get_params() if name == "random_state" or name.endswith("__random_state")]
        return copy.set_params(**dict.fromkeys(names, state))

    def _rows(self, x: Tensor) -> np.ndarray:
        return np.ascontiguousarray(self._standardiser(x.detach().cpu().double()).numpy())

    def _log_ratio(self, x: Tensor) -> Tensor:
        if not len(x):
            return x.new_zeros(0, dtype=torch.float32)
        rows = self._rows(x)
        values = torch.stack([self._map(score(rows)) for score in self._scores]).mean(0)
        return values.float().to(x.device)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Refuse: what scikit-learn fits has no form but pickle.

        Raises:
            RuntimeError: If it has not been fitted.
            TypeError: If it has.
        """
        self._check_fitted()
        raise TypeError("ClassifierRatio cannot be saved: scikit-learn's classifiers have no file format but pickle")


class _Score:
    """Scores of rows by one classifier, less the prior log-odds of the samples that it was fitted to."""

    def __init__(self, classifier: Any, p: np.ndarray, q: np.ndarray, probabilities: bool) -> None:
        labels = np.concatenate([np.ones(len(p), dtype=int), np.zeros(len(q), dtype=int)])
        rows = np.concatenate([p, q])
        self.classifier = classifier.fit(rows, labels)
        self.margin = hasattr(self.classifier, "decision_function") and not probabilities
        self.prior = math.log(len(p) / len(q))
        self.floor = 1 / (len(rows) + 2)
        if not self.margin:
            seen = self.classifier.predict_proba(rows)
            # what is not even seen once has a probability below all that are
            self.floor = min(self.floor, 0.5 * float(np.min(seen[seen > 0])))

    def __call__(self, rows: np.ndarray) -> Tensor:
        if self.margin:
            score = torch.as_tensor(np.asarray(self.classifier.decision_function(rows), dtype=float))
        else:
            odds = torch.as_tensor(np.asarray(self.classifier.predict_proba(rows), dtype=float)).clamp(min=self.floor)
            score = odds[:, 1].log() - odds[:, 0].log()
        return score - self.prior


class _Calibration:
    """The map from scores to log-ratios, fitted by maximum likelihood with even weights of p and q."""

    def __init__(self, p: Tensor, q: Tensor, kind: str) -> None:
        self.unit, self.offset, self.kind = 1.0, 0.0, kind
        if kind == "none":
            return
        both = torch.cat([p, q])
        # margins have any unit: in that of their spread the knee of softplus lies where the scores are
        spread = float(both.std(correction=0))
        self.unit = max(1.0, spread / 4) if spread > 0 else 1.0
        targets = ((len(p) + 1) / (len(p) + 2), 1 / (len(q) + 2))
        self.weights = _maximum(self._features(p), self._features(q), targets)

    def _features(self, score: Tensor) -> Tensor:
        s = score / self.unit
        ones = torch.ones_like(s)
        if self.kind == "sigmoid":
            return torch.stack([s, ones], -1)
        return torch.stack([-softplus(-s), softplus(s), ones], -1)

    def __call__(self, score: Tensor) -> Tensor:
        return score if self.kind == "none" else self._features(score) @ self.weights


def _maximum(p: Tensor, q: Tensor, targets: tuple[float, float]) -> Tensor:
    """Weights of the features, all but the last not negative, that minimise the log loss."""
    from scipy.optimize import minimize

    sides = [(p.numpy(), targets[0]), (q.numpy(), targets[1])]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = 0.0, np.zeros_like(weights)
        for features, target in sides:
            logits = features @ weights
            value += float(np.mean(np.logaddexp(0, logits) - target * logits))
            slope += features.T @ (0.5 * (1 + np.tanh(0.5 * logits)) - target) / len(features)
        return value, slope

    start = np.append(np.ones(p.shape[1] - 1), 0.0)
    bounds = [(0, None)] * (len(start) - 1) + [(None, None)]
    return torch.as_tensor(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x)
