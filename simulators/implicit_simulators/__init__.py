"""What draws x given theta: simulators with a prior, names, and a seed."""

from implicit_simulators.adapters.function import FunctionSimulator
from implicit_simulators.base import Simulator, as_tensor
from implicit_simulators.catalogue import simulators
from implicit_simulators.epidemic import Epidemic
from implicit_simulators.lotka_volterra import LotkaVolterra
from implicit_simulators.priors import Product, TruncatedNormal, unconstrained
from implicit_simulators.streams import Seed, Stream, resolve_seed

__all__ = [
    "Epidemic",
    "FunctionSimulator",
    "LotkaVolterra",
    "Product",
    "Seed",
    "Simulator",
    "Stream",
    "TruncatedNormal",
    "as_tensor",
    "resolve_seed",
    "simulators",
    "unconstrained",
]
