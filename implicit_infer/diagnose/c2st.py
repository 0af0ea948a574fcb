r"""Classifier two-sample test: how well a classifier tells two sets of draws apart.

A classifier is trained to tell draws of p from draws of q and scored on draws it has not seen. Equal laws leave it at
chance, 1/2; draws that never overlap give 1. No classifier is better than the optimal one,

.. math:: \text{accuracy} \le \tfrac12 + \tfrac12 \mathrm{TV}(p, q),

so the score is, up to noise, a lower bound of a true distance (the total variation) and not that distance itself.

**Duplicates.** The test needs *distinct, independent* draws. A draw that occurs in the training folds and again in the
test fold is recognised, not classified: 100 distinct draws of the exact posterior, repeated to 10,000, score close to
1 in ten dimensions. Sets with repeated rows are therefore reported as such.

References:
    | Revisiting classifier two-sample tests (Lopez-Paz & Oquab, 2017)
    | https://arxiv.org/abs/1610.06545
    | Benchmarking simulation-based inference (Lueckmann et al., 2021)
    | https://arxiv.org/abs/2101.04653
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_simulators.base import as_tensor

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class C2ST:
    """The score of a classifier two-sample test.

    Attributes:
        score: Accuracy on held-out draws: 0.5 for equal laws, 1 for laws that never overlap.
        standard_error: Of the score, from the number of held-out draws; it leaves out how much another training of
            the classifier would differ.
        distinct: How many distinct rows each of the two sets has.
        n: Rows in each set.
        warning: A sentence to show beside the score, empty when there is nothing to say.
    """

    score: float
    standard_error: float
    distinct: tuple[int, int]
    n: int
    warning: str = ""

    def __float__(self) -> float:
        return self.score


def c2st(p_samples: Any, q_samples: Any, *, seed: int = 1, folds: int = 5, z_score: bool = True) -> C2ST:
    r"""Score how well two sets of draws can be told apart, as the SBI benchmark does it.

    A perceptron with two hidden layers of 10 d ReLU units, trained by Adam for at most 10,000 epochs: scikit-learn's,
    step by step, compiled (:mod:`implicit_infer.diagnose.c2st_perceptron`); accuracy by cross-validation over shuffled
    folds. The benchmark's published ``C2ST`` column leaves the draws as they are (``z_score=False``); its ``C2ST_Z`` is
    this default.

    .. math:: \text{standard error} = \sqrt{s (1 - s) / (2 n)}

    Args:
        p_samples: Draws with shape (n, d): the reference, whose mean and standard deviation scale both sets.
        q_samples: As many draws to be compared with it, with shape (n, d).
        seed: Seed of the folds and of the classifier.
        folds: Number of folds.
        z_score: Whether to scale both sets. Columns of the reference that do not vary are only centred.

    Returns:
        The score, its standard error, and a warning when rows repeat.

    Raises:
        ValueError: If the shapes differ, values are not finite, or there are fewer rows than folds.
    """
    p, q = _checked(p_samples, "p_samples"), _checked(q_samples, "q_samples")
    if p.shape != q.shape:
        raise ValueError(
            f"q_samples: expected as many rows and columns as p_samples, {tuple(p.shape)}, so that chance is 1/2; "
            f"got {tuple(q.shape)}"
        )
    n, d = p.shape
    if not 2 <= folds <= 2 * n:
        raise ValueError(f"folds: expected between 2 and the number of draws, {2 * n}; got {folds}")
    distinct = (len(p.unique(dim=0)), len(q.unique(dim=0)))
    if z_score:
        centre, scale = p.mean(0), p.std(0)
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        p, q = (p - centre) / scale, (q - centre) / scale

    from sklearn.model_selection import KFold

    from implicit_infer.diagnose.c2st_perceptron import predictions

    rows, labels = torch.cat([p, q]).float().numpy(), torch.cat([torch.zeros(n), torch.ones(n)]).numpy()
    accuracies = [
        float((predictions(rows[seen], labels[seen], rows[held_out], 10 * d, seed) == labels[held_out]).mean())
        for seen, held_out in KFold(n_splits=folds, shuffle=True, random_state=seed).split(rows)
    ]
    score = sum(accuracies) / folds
    return C2ST(score, math.sqrt(score * (1 - score) / (2 * n)), distinct, n, _warning(distinct, n))


def _checked(samples: Any, name: str) -> Tensor:
    samples = as_tensor(samples, name).detach().cpu()
    if samples.ndim != 2:
        raise ValueError(f"{name}: expected shape (n, d); got {tuple(samples.shape)}")
    if not torch.isfinite(samples).all():
        bad = int((~torch.isfinite(samples)).any(1).sum())
        raise ValueError(f"{name}: expected finite draws; {bad} of {len(samples)} rows hold NaN or infinity")
    return samples


def _warning(distinct: tuple[int, int], n: int) -> str:
    if min(distinct) == n:
        return ""
    sets = " and ".join(
        f"{name} has {count} distinct rows of {n}"
        for name, count in zip(("p_samples", "q_samples"), distinct, strict=True)
        if count < n
    )
    warning = f"{sets}: repeated draws alone raise the score, whatever their law; compare at most as many as differ"
    logger.warning("c2st: %s", warning)
    return warning
