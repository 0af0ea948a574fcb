"""Is the answer right: classifier two-sample tests and predictive checks."""

from implicit_infer.diagnose.c2st import C2ST, c2st
from implicit_infer.diagnose.independent_critic import CriticScore, independent_critic
from implicit_infer.diagnose.marginals import marginal_wasserstein
from implicit_infer.diagnose.modes import ModeCoverage, mode_coverage
from implicit_infer.diagnose.predictive import PredictiveCheck, posterior_predictive, predictive_check

__all__ = [
    "C2ST",
    "CriticScore",
    "ModeCoverage",
    "PredictiveCheck",
    "c2st",
    "independent_critic",
    "marginal_wasserstein",
    "mode_coverage",
    "posterior_predictive",
    "predictive_check",
]
