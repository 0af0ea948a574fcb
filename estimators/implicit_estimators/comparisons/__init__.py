"""Comparisons: what tells a model's draws from data, and what the model descends."""

from implicit_estimators.comparisons.adversarial import Adversarial
from implicit_estimators.comparisons.base import Comparison

__all__ = ["Adversarial", "Comparison"]
