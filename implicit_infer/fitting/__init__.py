"""Fits: the parameters of a simulator that make its draws look like data."""

from implicit_infer.fitting.base import Fit, FitMethod, Trace
from implicit_infer.fitting.question import BudgetSpent, FitQuestion

__all__ = ["BudgetSpent", "Fit", "FitMethod", "FitQuestion", "Trace"]
