"""What draws x given theta: simulators with a prior, names, and a seed."""

from implicit_simulators.adapters.command import CommandSimulator
from implicit_simulators.adapters.function import FunctionSimulator
from implicit_simulators.alpha_stable import AlphaStable
from implicit_simulators.base import Simulator, as_tensor
from implicit_simulators.catalogue import simulators
from implicit_simulators.cox_ingersoll_ross import CoxIngersollRoss
from implicit_simulators.epidemic import Epidemic
from implicit_simulators.g_and_k import GAndK
from implicit_simulators.lotka_volterra import LotkaVolterra
from implicit_simulators.mg1_queue import MG1Queue
from implicit_simulators.moving_average import MovingAverage
from implicit_simulators.ornstein_uhlenbeck import OrnsteinUhlenbeck
from implicit_simulators.priors import Product, TruncatedNormal, unconstrained
from implicit_simulators.stochastic_volatility import StochasticVolatility
from implicit_simulators.streams import Seed, Stream, resolve_seed

__all__ = [
    "AlphaStable",
    "CommandSimulator",
    "CoxIngersollRoss",
    "Epidemic",
    "FunctionSimulator",
    "GAndK",
    "LotkaVolterra",
    "MG1Queue",
    "MovingAverage",
    "OrnsteinUhlenbeck",
    "Product",
    "Seed",
    "Simulator",
    "StochasticVolatility",
    "Stream",
    "TruncatedNormal",
    "as_tensor",
    "resolve_seed",
    "simulators",
    "unconstrained",
]
