"""Learned summaries: what of the data tells of the parameters."""

from implicit_infer.abc.summaries.learned import Learned
from implicit_infer.abc.summaries.semi_automatic import SemiAutomatic

__all__ = ["Learned", "SemiAutomatic"]
