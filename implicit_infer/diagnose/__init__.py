"""Is the answer right: two-sample tests, predictive checks, and what tells good draws from a collapse or a copy."""

from implicit_infer.diagnose.c2st import C2ST, c2st
from implicit_infer.diagnose.class_score import class_score
from implicit_infer.diagnose.coverage import Coverage, expected_coverage
from implicit_infer.diagnose.fidelity import Fidelity, fidelity
from implicit_infer.diagnose.independent_critic import CriticScore, independent_critic
from implicit_infer.diagnose.kernel_distance import kernel_distance
from implicit_infer.diagnose.marginals import marginal_wasserstein
from implicit_infer.diagnose.memorisation import Memorisation, memorisation
from implicit_infer.diagnose.modes import ModeCoverage, mode_coverage
from implicit_infer.diagnose.predictive import PredictiveCheck, posterior_predictive, predictive_check
from implicit_infer.diagnose.similarity import diversity, ms_ssim

__all__ = [
    "C2ST",
    "Coverage",
    "CriticScore",
    "Fidelity",
    "Memorisation",
    "ModeCoverage",
    "PredictiveCheck",
    "c2st",
    "class_score",
    "diversity",
    "expected_coverage",
    "fidelity",
    "independent_critic",
    "kernel_distance",
    "marginal_wasserstein",
    "memorisation",
    "mode_coverage",
    "ms_ssim",
    "posterior_predictive",
    "predictive_check",
]
