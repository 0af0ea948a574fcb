r"""One number for how far draws at theta are from the data, with nothing to train: what a plain search minimises.

Either an untrained :class:`Comparison` of the rows that a :class:`View` makes of draws and data, or the squared
Euclidean distance of mean summaries,

.. math:: D = \sum_k \left( \frac{\bar s_k(x) - \bar s_k(x_{\text{data}})}{\sigma_k} \right)^2,

with :math:`\sigma_k` the spread of summary k among simulations from the prior, which a single observation can be held
against as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from implicit_estimators.comparisons import COMPARISONS, Comparison, comparison
from implicit_infer.fitting.question import FitQuestion
from implicit_infer.fitting.view import View
from implicit_simulators import Stream

SUMMARIES = "summaries"
"""Name of the distance of summaries, beside those of the untrained comparisons."""

ROWS = 1000
"""Most rows of the data that one evaluation looks at; fresh ones each time, where there are more."""

PILOT = 200
"""Simulations from the prior that tell the spread of summaries: at most this many, and a tenth of the budget."""

Discrepancy = Callable[[Tensor], float]
"""From draws with shape (n, *event_shape), of which some may have failed, to a number; infinite if most failed."""


def untrained() -> tuple[str, ...]:
    """Names of the comparisons that a search can minimise.

    Example:
        >>> untrained()
        ('mmd', 'energy', 'sliced-wasserstein', 'sinkhorn', 'moments')
    """
    return tuple(name for name, kind in COMPARISONS.items() if not kind.trained)


def check_untrained(given: str | Comparison | type[Comparison] | None) -> None:
    """Refuse a comparison that has a critic to train.

    Raises:
        ValueError: If it has one, or there is none of that name.
    """
    if given is None or given == SUMMARIES:
        return
    if comparison(given).trained:
        name = given if isinstance(given, str) else comparison(given).name
        expected = ", ".join((*untrained(), SUMMARIES))
        raise ValueError(f"comparison: expected one with nothing to train ({expected}); got {name!r}")


def discrepancy(
    question: FitQuestion, given: str | Comparison | type[Comparison] | None, window: int | None = None
) -> Discrepancy:
    """What to minimise for a question.

    Args:
        question: The question; the distance of summaries spends up to 200 of its simulations.
        given: An untrained comparison, or "summaries"; None takes the energy distance where the data give several rows,
            and the distance of summaries where they are one.
        window: Length of the stretches of a series that are compared, or None for whole observations.

    Returns:
        The discrepancy.

    Raises:
        ValueError: If the comparison has a critic to train, or the data are too few rows for it.
    """
    check_untrained(given)
    if given is None:
        alone = len(question.data) == 1 and window is None and question.simulator.points == 1
        given = SUMMARIES if alone else "energy"
    if given == SUMMARIES:
        return _of_summaries(question)
    return _of_rows(question, View.of(question.simulator, question.data, window=window), comparison(given))


def _of_rows(question: FitQuestion, view: View, compared: Comparison) -> Discrepancy:
    data = view(question.data).flatten(0, 1)
    random = Stream.of(question.seed, 1, "split").torch()

    def value(x: Tensor) -> float:
        fine = torch.isfinite(x.flatten(1)).all(1)
        if int(fine.sum()) < max(2, len(x) // 2):
            return math.inf
        some = data if len(data) <= ROWS else data[torch.randint(len(data), (ROWS,), generator=random)]
        return float(compared.generator_objective(some, view(x[fine].to(data)).flatten(0, 1)))

    return value


def _of_summaries(question: FitQuestion) -> Discrepancy:
    simulator = question.simulator
    count = min(PILOT, question.budget // 10)
    observed = simulator.summarize(question.data).double().mean(0)
    scale = torch.ones_like(observed)
    if count > 1:
        pilot = simulator.summarize(question.simulate(simulator.sample_prior(count, question.seed, 1))).double().cpu()
        pilot = pilot[torch.isfinite(pilot).all(1)]
        if len(pilot) > 1:
            low, high = pilot.quantile(torch.tensor([0.25, 0.75], dtype=torch.float64), 0)
            spread = torch.where(high > low, (high - low) / 1.349, pilot.std(0))
            scale = torch.where(spread > 0, spread, 1.0)

    def value(x: Tensor) -> float:
        summaries = simulator.summarize(x).double().cpu()
        fine = torch.isfinite(summaries).all(1)
        if int(fine.sum()) < max(1, len(summaries) // 2):
            return math.inf
        return float(((summaries[fine].mean(0) - observed) / scale).square().sum())

    return value
