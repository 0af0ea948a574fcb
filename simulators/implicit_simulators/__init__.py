"""What draws x given theta: simulators with a prior, names, and a seed."""

from implicit_simulators.base import Simulator
from implicit_simulators.priors import Product, TruncatedNormal, unconstrained
from implicit_simulators.streams import Seed, Stream, resolve_seed

__all__ = ["Product", "Seed", "Simulator", "Stream", "TruncatedNormal", "resolve_seed", "unconstrained"]
