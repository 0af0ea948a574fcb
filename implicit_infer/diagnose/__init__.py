"""Is the answer right: classifier two-sample tests and predictive checks."""

from implicit_infer.diagnose.c2st import C2ST, c2st
from implicit_infer.diagnose.marginals import marginal_wasserstein
from implicit_infer.diagnose.predictive import PredictiveCheck, posterior_predictive, predictive_check

__all__ = ["C2ST", "PredictiveCheck", "c2st", "marginal_wasserstein", "posterior_predictive", "predictive_check"]
