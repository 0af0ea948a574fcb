"""The choice of a method where the user makes none: one function, so that a better method has one line to change."""

from __future__ import annotations

from dataclasses import dataclass

from implicit_estimators.comparisons import Comparison
from implicit_infer.fitting.base import Fit, FitMethod
from implicit_infer.fitting.question import FitQuestion


@dataclass(frozen=True)
class Auto(FitMethod):
    """Gradients through the simulator where it has them, adversarial variational optimisation where not.

    Args:
        comparison: What tells draws from data: a name of ``ii.comparisons()``, or a comparison with its settings.
    """

    comparison: str | Comparison | type[Comparison] = "js"

    name = "auto"
    compares = True

    def chosen(self, question: FitQuestion) -> FitMethod:
        """The method that answers this question."""
        from implicit_infer.fitting.avo import AVO
        from implicit_infer.fitting.pathwise import Pathwise

        summaries = len(question.data) * max(question.simulator.points, 1) < FEW_ROWS
        if question.simulator.differentiable:
            return Pathwise(self.comparison, summaries=summaries)
        return AVO(self.comparison, summaries=summaries)

    def fit(self, question: FitQuestion) -> Fit:
        """Answer by the method that is chosen; the fit bears its name."""
        return self.chosen(question).fit(question)


FEW_ROWS = 2
"""Rows of data below which no comparison of samples is possible as they are."""
