"""A user's own program as a simulator, and simulators of several draws or with missing values."""

from implicit_simulators.adapters.command import CommandSimulator
from implicit_simulators.adapters.function import FunctionSimulator
from implicit_simulators.adapters.missing import Missing
from implicit_simulators.adapters.prior import as_prior
from implicit_simulators.adapters.pyro_model import PyroSimulator
from implicit_simulators.adapters.repeated import Repeated
from implicit_simulators.adapters.step import StepSimulator

__all__ = [
    "CommandSimulator",
    "FunctionSimulator",
    "Missing",
    "PyroSimulator",
    "Repeated",
    "StepSimulator",
    "as_prior",
]
