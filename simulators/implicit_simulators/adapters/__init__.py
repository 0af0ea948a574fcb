"""A user's own program as a simulator."""

from implicit_simulators.adapters.command import CommandSimulator
from implicit_simulators.adapters.function import FunctionSimulator
from implicit_simulators.adapters.prior import as_prior

__all__ = ["CommandSimulator", "FunctionSimulator", "as_prior"]
