"""The choice of a method where the user makes none: one function, so that a better method has one line to change."""

from __future__ import annotations

from dataclasses import dataclass

from implicit_estimators.comparisons import Comparison
from implicit_infer.fitting.base import Fit, FitMethod
from implicit_infer.fitting.question import FitQuestion

FEW = 20
"""Rows of data below which two samples tell little, and summaries of whole observations are compared in their place."""


@dataclass(frozen=True)
class Auto(FitMethod):
    """Gradients through the simulator where it has them, AVO where not, synthetic likelihood for few observations.

    Args:
        comparison: What tells draws from data: a name of ``ii.comparisons()``, or a comparison with its settings.
            Few observations are not compared by it.
    """

    comparison: str | Comparison | type[Comparison] = "js"

    name = "auto"
    compares = True

    def chosen(self, question: FitQuestion) -> FitMethod:
        """The method that answers this question."""
        from implicit_infer.fitting.avo import AVO
        from implicit_infer.fitting.pathwise import Pathwise
        from implicit_infer.fitting.synthetic_likelihood import SyntheticLikelihood

        if len(question.data) * max(question.simulator.points, 1) < FEW:
            return SyntheticLikelihood()
        return (Pathwise if question.simulator.differentiable else AVO)(self.comparison)

    def fit(self, question: FitQuestion) -> Fit:
        """Answer by the method that is chosen; the fit bears its name."""
        return self.chosen(question).fit(question)
