r"""Model choice by rejection: the share of each model among the simulations nearest the observation.

.. math:: \hat P(m \mid s_o) \propto \sum_{i:\, d_i \le \delta} \frac{P(m)}{n_m / n}\, 1\{m_i = m\}

Simulations are allotted to models in proportion to their prior probabilities, which leaves the weights one but for
rounding and costs less noise than drawing the model each time. As for parameters, shares at a tolerance can be
corrected to the observation itself by a local regression, here a multinomial logistic one on the summaries with
Epanechnikov weights (Fagundes et al., 2007; Beaumont, 2008).

References:
    | Inferring coalescence times from DNA sequence data, of models in approximate Bayesian computation (Pritchard et
    | al., 1999)
    | https://doi.org/10.1093/oxfordjournals.molbev.a026091
    | Statistical evaluation of alternative models of human evolution (Fagundes et al., 2007)
    | https://doi.org/10.1073/pnas.0708280104
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from implicit_infer.abc.distances import Distance, PNorm, inverse, robust_scale
from implicit_infer.abc.model_choice.base import ChoiceMethod, ModelChoice, ModelQuestion


@dataclass(frozen=True)
class RejectionChoice(ChoiceMethod):
    """Shares of the models among the nearest simulations, corrected by logistic regression if asked for.

    Args:
        keep: How many of the nearest to keep; None takes 1 % of the budget, but at least 200.
        tolerance: Keep all within this distance instead.
        distance: How simulations are compared with the observation.
        adjust: "logistic" corrects the shares by a local regression on the summaries.

    Raises:
        ValueError: If a setting is out of its range, or both rules are given.
    """

    name: ClassVar[str] = "rejection"

    keep: int | None = None
    tolerance: float | None = None
    distance: Distance = field(default_factory=PNorm)
    adjust: Literal["none", "logistic"] = "none"

    def __post_init__(self) -> None:
        if self.keep is not None and self.tolerance is not None:
            raise ValueError(f"keep, tolerance: expected at most one; got {self.keep} and {self.tolerance}")
        if self.keep is not None and self.keep < 1:
            raise ValueError(f"keep: expected a positive int or None; got {self.keep}")
        if self.tolerance is not None and not self.tolerance >= 0:
            raise ValueError(f"tolerance: expected a non-negative number or None; got {self.tolerance}")
        if self.adjust not in ("none", "logistic"):
            raise ValueError(f"adjust: expected 'none' or 'logistic'; got {self.adjust!r}")

    def choose(self, question: ModelQuestion) -> ModelChoice:
        """Simulate all models from their priors and rank.

        Raises:
            ValueError: If nothing is accepted.
        """
        model, theta, features = question.bank(question.budget, self.distance)
        observed = question.observed_features(self.distance)
        distances = self.distance.fit(features)(features, observed)
        if self.tolerance is None:
            kept = min(self.keep or max(200, math.ceil(question.budget / 100)), question.budget)
            rows = distances.topk(kept, largest=False).indices
            rows = rows[torch.isfinite(distances[rows])]
        else:
            rows = (distances <= self.tolerance).nonzero()[:, 0]
        if not len(rows):
            raise ValueError(
                f"tolerance: none of {question.budget} simulations is within {self.tolerance} of the observation; "
                f"the nearest is at {float(distances.min()):.4g}"
            )
        counts = torch.tensor([len(part) for part in theta])
        corrections = torch.tensor(question.prior, dtype=torch.float64) / counts * question.budget
        weights = torch.zeros(len(counts), dtype=torch.float64).index_add_(0, model[rows], corrections[model[rows]])
        figures = {
            "accepted": len(rows),
            "accepted_of_each": torch.bincount(model[rows], minlength=len(counts)).tolist(),
            "tolerance": float(distances[rows].max()),
            "failed": int((~torch.isfinite(features).all(1)).sum()),
        }
        share = weights / weights.sum()
        figures["standard_errors"] = (share * (1 - share) / len(rows)).sqrt().tolist()
        warnings = []
        if len(rows) < 100:
            warnings.append(f"only {len(rows)} simulations are near enough: shares are uncertain by several per cent")
        if self.adjust == "logistic":
            weights, said = _logistic(model[rows], features[rows], observed, distances[rows], corrections)
            warnings.extend(said)
        return self.answer(question, weights, question.budget, figures, warnings)


def _logistic(
    model: Tensor, features: Tensor, observed: Tensor, distances: Tensor, corrections: Tensor
) -> tuple[Tensor, list[str]]:
    """Probabilities (models,) by local multinomial logistic regression at the observation, and what to say of it."""
    from sklearn.linear_model import LogisticRegression

    weights = torch.zeros_like(corrections)
    present = model.unique()
    if len(present) == 1:
        weights[present] = 1.0
        return weights, ["only one model is among the accepted simulations: there is nothing to regress"]
    factor = inverse(robust_scale(features))
    offset = ((features - observed) * factor)[:, factor > 0].double()
    largest = float(distances.max())
    near = 1 - (distances.double() / largest) ** 2 if largest > 0 else torch.ones_like(distances.double())
    used = near > 0
    if len(model[used].unique()) < 2:
        used, near = torch.ones_like(used), torch.ones_like(near)
    # a penalty that a hundred simulations outweigh: where models are told apart perfectly, plain maximum likelihood is
    # at infinity
    regression = LogisticRegression(C=1.0, max_iter=1000)
    regression.fit(offset[used].numpy(), model[used].numpy(), sample_weight=(near * corrections[model])[used].numpy())
    found = regression.predict_proba(np.zeros((1, offset.shape[1])))[0]
    weights[torch.as_tensor(regression.classes_)] = torch.as_tensor(found, dtype=torch.float64)
    said = []
    if len(model) < 5 * offset.shape[1] * len(present):
        said.append(f"{len(model)} accepted simulations are few for a regression on {offset.shape[1]} summaries")
    return weights, said
