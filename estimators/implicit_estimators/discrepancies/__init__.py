"""Critics with nothing to train."""

from implicit_estimators.discrepancies.mmd import MMD

__all__ = ["MMD"]
