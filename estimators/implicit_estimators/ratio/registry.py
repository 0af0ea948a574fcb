"""The names of all estimators, for those that are made of others; ``ratio/__init__.py`` fills it."""

from __future__ import annotations

from implicit_estimators.ratio.base import RatioEstimator

RATIO_ESTIMATORS: dict[str, type[RatioEstimator]] = {}
"""Every estimator there is, by name."""
