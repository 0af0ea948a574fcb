"""Critics that are trained."""

from implicit_estimators.critics.conditional import ConditionalCritic

__all__ = ["ConditionalCritic"]
