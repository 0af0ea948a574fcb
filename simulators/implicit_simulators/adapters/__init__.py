"""A user's own program as a simulator."""

from implicit_simulators.adapters.command import CommandSimulator
from implicit_simulators.adapters.function import FunctionSimulator
from implicit_simulators.adapters.prior import as_prior
from implicit_simulators.adapters.pyro_model import PyroSimulator

__all__ = ["CommandSimulator", "FunctionSimulator", "PyroSimulator", "as_prior"]
