r"""Model choice by random forests: one forest chooses, another says how probably it is right.

A classification forest is grown on simulations of all models, of their summaries and the axes of a linear discriminant
analysis of these; the model with most votes at the observation is chosen. The shares of the votes are no
probabilities. That of the chosen model is estimated by a second forest, a regression of whether the first one errs:
with :math:`\hat m_{\text{oob}}(s_i)` the vote of the trees that did not see simulation i,

.. math:: P(m = \hat m(s_o) \mid s_o) = 1 - \mathbb{E}\left[ 1\{\hat m(s) \ne m\} \mid s = s_o \right] \approx
    1 - \hat\rho(s_o), \qquad \hat\rho \text{ fitted to } 1\{\hat m_{\text{oob}}(s_i) \ne m_i\}.

What is left is shared among the other models in proportion to their votes, of which the paper says nothing: only the
chosen model's probability is an estimate of it.

References:
    | Reliable ABC model choice via random forests (Pudlo, Marin, Estoup, Cornuet, Gautier & Robert, 2016)
    | https://arxiv.org/abs/1406.6288
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch

from implicit_infer.abc.distances import PNorm, inverse, robust_scale
from implicit_infer.abc.forest_trees import Growth, Trees
from implicit_infer.abc.model_choice.base import ChoiceMethod, ModelChoice, ModelQuestion
from implicit_infer.progress import track
from implicit_simulators import Stream


@dataclass(frozen=True)
class ForestChoice(ChoiceMethod):
    """Random forests for the choice and for the probability that it is right.

    Args:
        trees: Trees of each forest.
        discriminants: Whether the axes of a linear discriminant analysis are added to the summaries.
        errors: Growth of the second forest's trees. None takes ``trees`` of them with leaves of half the square root of
            the number of simulations, but at least the paper's 5: the mean of a few errors, each yes or no, is noise.

    Raises:
        ValueError: If ``trees`` is below 20, with which some simulations are seen by all of them.
    """

    name: ClassVar[str] = "forest"

    trees: int = 500
    discriminants: bool = True
    errors: Growth | None = field(default=None)

    def __post_init__(self) -> None:
        if self.trees < 20:
            raise ValueError(f"trees: expected an int of at least 20; got {self.trees}")

    def choose(self, question: ModelQuestion) -> ModelChoice:
        """Simulate all models from their priors and grow both forests.

        Raises:
            ValueError: If hardly any simulation of some model is finite.
        """
        model, _, features = question.bank(question.budget, PNorm())
        observed = question.observed_features(PNorm())
        fine = torch.isfinite(features).all(1)
        counts = torch.bincount(model[fine], minlength=len(question.names)).tolist()
        for name, count in zip(question.names, counts, strict=True):
            if count < 10:
                raise ValueError(f"budget: expected at least 10 simulations of {name} that did not fail; got {count}")
        y, rows = model[fine].numpy(), features[fine]
        centre, factor = rows.double().median(0).values, inverse(robust_scale(rows.double()))
        columns = ((rows.double() - centre) * factor).numpy()
        at = ((observed.double() - centre) * factor)[None].numpy()
        if self.discriminants:
            columns, at = _with_discriminants(columns, y, at)
        seed = Stream.of(question.seed, 0, "train").key % 2**31
        votes, votes_at = _vote(columns, y, at, self.trees, seed)
        said = votes.argmax(1)
        some = votes.sum(1) > 0
        wrong = torch.as_tensor(said != y, dtype=torch.float64)[torch.as_tensor(some)]
        growth = self.errors or Growth(trees=self.trees, leaf=max(5, round(0.5 * len(wrong) ** 0.5)))
        with track("growing the forest of errors", total=growth.trees, show=question.progress) as bar:
            regression = Trees.grow(torch.as_tensor(columns[some]), lambda _: wrong[:, None], growth, seed + 1, bar)
        error = float(regression.weights(torch.as_tensor(at[0])) @ wrong)
        chosen = int(votes_at.argmax())
        rest = torch.as_tensor(np.delete(votes_at, chosen), dtype=torch.float64)
        rest = rest / rest.sum() if float(rest.sum()) > 0 else torch.full_like(rest, 1 / len(rest))
        weights = torch.zeros(len(question.names), dtype=torch.float64)
        weights[chosen] = 1 - error
        weights[[m for m in range(len(weights)) if m != chosen]] = error * rest
        warnings = []
        if 1 - error < votes_at.max() - 0.2:
            warnings.append(
                f"{votes_at.max():.0%} of the trees vote for {question.names[chosen]}, which is right with probability "
                f"{1 - error:.2f} only: votes are no probabilities"
            )
        figures = {
            "votes": dict(zip(question.names, votes_at.tolist(), strict=True)),
            "prior_error_rate": float(wrong.mean()),
            "failed": int((~fine).sum()),
        }
        return self.answer(question, weights, question.budget, figures, warnings)


def _with_discriminants(columns: np.ndarray, y: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Summaries and the observation's, with the discriminant axes beside them."""
    import warnings

    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    # axes of extreme values would follow those alone
    bounded, bounded_at = columns.clip(-20, 20), at.clip(-20, 20)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Variables are collinear")
        analysis = LinearDiscriminantAnalysis().fit(bounded, y)
    axes, axes_at = analysis.transform(bounded), analysis.transform(bounded_at)
    return np.hstack((columns, axes)), np.hstack((at, axes_at))


def _vote(columns: np.ndarray, y: np.ndarray, at: np.ndarray, trees: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Out-of-bag votes of every row, with shape (n, models), and shares of all trees' votes at the observation."""
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(trees, bootstrap=True, random_state=seed).fit(columns, y)
    votes = np.zeros((len(y), len(forest.classes_)))
    votes_at = np.zeros(len(forest.classes_))
    for tree, seen in zip(forest.estimators_, forest.estimators_samples_, strict=True):
        unseen = np.ones(len(y), dtype=bool)
        unseen[seen] = False
        found = tree.predict(columns[unseen].astype(np.float32)).astype(int)
        votes[np.flatnonzero(unseen), found] += 1
        votes_at[int(tree.predict(at.astype(np.float32))[0])] += 1
    return votes, votes_at / trees
