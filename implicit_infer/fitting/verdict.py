r"""Whether the data could have come from the fitted simulator: a test against fresh draws, and a warning if not.

A fit ends somewhere whether or not the simulator can make such data. So a share of the budget is set aside
(:func:`reserved`), spent at the fitted parameters, and tested against the data (:func:`judge`):

- with ``FEW`` observations or more, a classifier two-sample test: it learns to tell half of the observations from half
  of the draws, and the other halves tell, by permutation, whether it has learned anything;
- with fewer, the observations' place among the simulator's own draws: the Mahalanobis distance of their mean summary
  from that of all draws, ranked among those of as many draws at a time.

Both p-values are exact for parameters chosen without the data. Fitted ones are closer to the data than the true ones,
so that the test is conservative: it warns less often than it might, not more.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from implicit_infer.fitting.question import FitQuestion
from implicit_simulators import Stream

FEW = 40
"""Observations from which on a classifier is worth its while."""

WIDE = 32
"""Numbers in one x beyond which the test looks at summaries."""

MOST = 2000
"""Rows of each side that the test looks at."""

LEVEL = 0.01
"""A p-value below this is worth a warning."""


def reserved(question: FitQuestion, share: float = 0.1) -> int:
    """Simulations to set aside for :func:`judge`: a share of the budget, and no more than the test can use.

    Args:
        question: The question, before anything is spent.
        share: The share, in [0, 1).

    Raises:
        ValueError: If the share is out of its range.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share: expected a share in [0, 1); got {share}")
    return min(int(share * question.budget), max(MOST, 100 * min(len(question.data), FEW)))


def judge(question: FitQuestion, theta: Tensor, count: int) -> tuple[dict[str, Any], list[str]]:
    """Test the data against fresh draws at the fitted parameters.

    Args:
        question: The question; ``count`` simulations of its budget are spent.
        theta: The fitted parameters, with shape (d,).
        count: Simulations.

    Returns:
        Figures (``p_value``, ``test``, ``statistic``; none where there was nothing to test with), and warnings.
    """
    count = min(count, question.left)
    if count < 8:
        return {}, ["the fit was not tested against the data: too few simulations were left for it"]
    x = question.simulate(theta.reshape(1, -1).expand(count, -1))
    finite = torch.isfinite(x.flatten(1)).all(1)
    x, failed = x[finite], int((~finite).sum())
    warnings = [f"{failed} of {count} simulations failed at the fitted parameters"] if failed else []
    if len(x) < 8:
        return {}, [*warnings, "the fit was not tested against the data: hardly any simulation succeeded"]
    look = question.simulator.summarize if question.simulator.event_shape.numel() > WIDE else _flat
    data, made = look(question.data).double(), look(x).double()
    random = Stream.of(question.seed, role="split").torch()
    if len(data) >= FEW and len(made) >= FEW:
        figures = _classified(_some(data, random), _some(made, random), question)
    else:
        figures = _ranked(data, made)
    if figures and figures["p_value"] < LEVEL:
        warnings.append(
            f"the comparison still sees a difference between data and draws at the fitted parameters ({figures['test']}"
            f", p = {figures['p_value']:.2g}): the simulator may be unable to make such data, or the budget too small"
        )
    elif not figures:
        warnings.append("the fit was not tested against the data: too few simulations for so many observations")
    return figures, warnings


def _classified(data: Tensor, made: Tensor, question: FitQuestion) -> dict[str, Any]:
    from implicit_estimators.ratio.classifiers.logistic import LogisticRatio
    from implicit_estimators.ratio.two_sample import two_sample_test

    estimator = LogisticRatio(hidden=(32, 32), epochs=30)
    test = two_sample_test(data.float(), made.float(), estimator, permutations=999, seed=question.seed)
    return {"test": "classifier two-sample test", "p_value": test.p_value, "statistic": test.statistic}


def _ranked(data: Tensor, made: Tensor) -> dict[str, Any]:
    """The rank of the data's distance among those of groups of as many draws."""
    m = len(data)
    groups = len(made) // m
    if groups < 1 / LEVEL:  # the least p-value must be able to warn
        return {}
    means = torch.cat([data.mean(0, keepdim=True), made[: groups * m].reshape(groups, m, -1).mean(1)])
    # all of them, the data's among them: under equality the places are exchangeable
    centred = means - means.mean(0)
    scale = centred.std(0).clamp_min(1e-30)
    centred = centred / scale
    precision = torch.linalg.pinv(centred.T @ centred / len(centred), rtol=1e-8, hermitian=True)
    distance = ((centred @ precision) * centred).sum(1)
    rank = int((distance >= distance[0]).sum())
    return {
        "test": "rank of the summaries' distance",
        "p_value": rank / len(distance),
        "statistic": float(distance[0].sqrt()),
    }


def _flat(x: Tensor) -> Tensor:
    return x.flatten(1)


def _some(rows: Tensor, random: torch.Generator) -> Tensor:
    return rows if len(rows) <= MOST else rows[torch.randperm(len(rows), generator=random)[:MOST]]
