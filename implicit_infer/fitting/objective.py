"""What a search through a surrogate lowers, as a function of draws: an expected loss, or the distance from data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_estimators.comparisons import Comparison, comparison
from implicit_estimators.networks.standardise import Standardiser
from implicit_infer.fitting.question import FitQuestion
from implicit_infer.fitting.view import View
from implicit_simulators import Simulator

Loss = Callable[[Tensor], Tensor]
"""From draws of shape (n, *event_shape) to a loss for each, with shape (n,); differentiable."""

ROWS = 1000
"""Most rows of the data, and of draws, that a comparison looks at."""

PILOT = 200
"""Most simulations from the prior that tell the spread of summaries, where there is one observation."""


class Objective:
    """A number for a set of draws at one theta, differentiable in the draws."""

    def __call__(self, x: Tensor) -> Tensor:
        r"""The objective, with shape (), from draws with shape (n, \*event_shape)."""
        raise NotImplementedError(f"{type(self).__name__} must write __call__(x)")

    def spread(self, x: Tensor) -> float:
        """Standard deviation of what one draw adds to the objective: with n draws, its error is this over root n."""
        raise NotImplementedError(f"{type(self).__name__} must write spread(x)")


@dataclass(frozen=True)
class ExpectedLoss(Objective):
    r"""The mean of a loss over draws, :math:`E[R(x) \mid \theta]`.

    Args:
        loss: R.
    """

    loss: Loss

    def __call__(self, x: Tensor) -> Tensor:
        """The mean loss.

        Raises:
            ValueError: If the loss gives another shape than one number for each draw.
        """
        return self._each(x).mean()

    def spread(self, x: Tensor) -> float:
        """Standard deviation of the loss."""
        return float(self._each(x).std())

    def _each(self, x: Tensor) -> Tensor:
        each = self.loss(x)
        if each.shape != (len(x),):
            raise ValueError(
                f"objective: expected a loss for each draw, with shape ({len(x)},); got {tuple(each.shape)}"
            )
        return each


@dataclass(frozen=True)
class DataDistance(Objective):
    """How an untrained comparison finds draws to differ from data.

    Args:
        rows: The data as rows, in units of their own, with shape (m, width).
        view: From draws to such rows.
        compared: The comparison.
    """

    rows: Tensor
    view: Callable[[Tensor], Tensor]
    compared: Comparison

    def __call__(self, x: Tensor) -> Tensor:
        """The comparison's objective between the data and the draws."""
        made = self.view(x)
        made = made if len(made) <= ROWS else made[:: -(-len(made) // ROWS)]
        return self.compared.generator_objective(self.rows.to(made), made)

    def spread(self, x: Tensor) -> float:
        """From the objective's spread over tenths of the draws."""
        parts = x.chunk(10)
        values = torch.stack([self(part) for part in parts])
        return float(values.std()) * math.sqrt(len(parts[0]))


def held_against(
    question: FitQuestion, given: str | Comparison | type[Comparison], *, window: int | None, summaries: bool
) -> DataDistance:
    """The objective of a fit to data.

    One observation alone is held against its simulator by its summary statistics, in units of their spread among
    simulations from the prior: the energy distance from one point is a proper score, and so has its minimum where the
    simulator makes such data.

    Args:
        question: The question; up to 200 of its simulations are spent if there is one observation.
        given: A comparison with nothing to train.
        window: Length of the stretches of a series that are compared; None for whole observations.
        summaries: Whether summary statistics are compared.

    Raises:
        ValueError: If the comparison has a critic to train.
    """
    chosen = comparison(given)
    if chosen.trained:
        raise ValueError(
            f"comparison: expected one with nothing to train, such as 'energy' or 'mmd'; got {chosen.name!r}"
        )
    simulator = question.simulator
    if len(question.data) == 1 and window is None and simulator.points == 1:
        units = pilot_units(question)

        def summarised(x: Tensor) -> Tensor:
            return units.to(x.device)(simulator.summarize(x))

        # one row twice is the same law; unbiased statistics leave out each row's pair with itself, and so want two
        return DataDistance(summarised(question.data).detach().repeat(2, 1), summarised, chosen)
    view = View.of(simulator, question.data, window=window, summaries=summaries)
    rows = view(question.data).flatten(0, 1)
    rows = rows if len(rows) <= ROWS else rows[:: -(-len(rows) // ROWS)]
    return DataDistance(rows, lambda x: view(x).flatten(0, 1), chosen)


def pilot_units(question: FitQuestion) -> Standardiser:
    """Units of summary statistics, from a few simulations of the prior (a twentieth of the budget, 200 at most).

    Raises:
        ValueError: If the budget is too small, or nearly all of them failed.
    """
    simulator: Simulator = question.simulator
    count = min(PILOT, question.budget // 20)
    summaries = simulator.summarize(question.simulate(simulator.sample_prior(count, question.seed, 1)))
    summaries = summaries[torch.isfinite(summaries).all(1)]
    if len(summaries) < 4:
        raise ValueError(f"budget: {count} simulations from the prior gave {len(summaries)} that did not fail: too few")
    return Standardiser.fit(summaries, robust=True)
