"""A user's own program as a simulator."""

from implicit_simulators.adapters.command import CommandSimulator
from implicit_simulators.adapters.function import FunctionSimulator
from implicit_simulators.adapters.prior import as_prior
from implicit_simulators.adapters.pyro_model import PyroSimulator
from implicit_simulators.adapters.step import StepSimulator

__all__ = ["CommandSimulator", "FunctionSimulator", "PyroSimulator", "StepSimulator", "as_prior"]
