"""Fits: the parameters of a simulator that make its draws look like data."""

from implicit_infer.fitting.auto import Auto
from implicit_infer.fitting.avo import AVO
from implicit_infer.fitting.base import Fit, FitMethod, Trace
from implicit_infer.fitting.emulated import EmulatedFit
from implicit_infer.fitting.emulators import (
    AdversarialEmulation,
    Emulator,
    FlowEmulation,
    ScoredEmulation,
)
from implicit_infer.fitting.likelihood_fit import ConfidenceRegion, LikelihoodFit
from implicit_infer.fitting.local_surrogate import LocalSurrogate
from implicit_infer.fitting.pathwise import Pathwise
from implicit_infer.fitting.question import BudgetSpent, FitQuestion
from implicit_infer.fitting.ratio_likelihood import RatioLikelihood
from implicit_infer.fitting.search import CMAES, NelderMead
from implicit_infer.fitting.synthetic_likelihood import SyntheticLikelihood

__all__ = [
    "AVO",
    "CMAES",
    "AdversarialEmulation",
    "Auto",
    "BudgetSpent",
    "ConfidenceRegion",
    "EmulatedFit",
    "Emulator",
    "Fit",
    "FitMethod",
    "FitQuestion",
    "FlowEmulation",
    "LikelihoodFit",
    "LocalSurrogate",
    "NelderMead",
    "Pathwise",
    "RatioLikelihood",
    "ScoredEmulation",
    "SyntheticLikelihood",
    "Trace",
]
