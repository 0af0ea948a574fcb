"""Fits: the parameters of a simulator that make its draws look like data."""

from implicit_infer.fitting.auto import Auto
from implicit_infer.fitting.avo import AVO
from implicit_infer.fitting.base import Fit, FitMethod, Trace
from implicit_infer.fitting.pathwise import Pathwise
from implicit_infer.fitting.question import BudgetSpent, FitQuestion

__all__ = ["AVO", "Auto", "BudgetSpent", "Fit", "FitMethod", "FitQuestion", "Pathwise", "Trace"]
