"""Is the answer right: two-sample tests, predictive checks, coverage."""

from implicit_infer.diagnose.c2st import C2ST, c2st

__all__ = ["C2ST", "c2st"]
