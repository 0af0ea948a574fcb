"""Density-ratio estimators: ``fit(p, q)``, ``log_ratio(x)``, ``divergence(name)``, ``check()``."""

from implicit_estimators.ratio.base import RatioEstimator
from implicit_estimators.ratio.check import RatioCheck, check_ratio
from implicit_estimators.ratio.logistic import LogisticRatio

RATIO_ESTIMATORS: dict[str, type[RatioEstimator]] = {"logistic": LogisticRatio}
"""Every estimator there is, by name."""

__all__ = ["RATIO_ESTIMATORS", "LogisticRatio", "RatioCheck", "RatioEstimator", "check_ratio"]
