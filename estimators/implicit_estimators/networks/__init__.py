"""The networks that estimators share; the loop that trains them is ``networks.train``."""

from implicit_estimators.networks.mlp import ACTIVATIONS, MLP
from implicit_estimators.networks.standardise import Standardiser

__all__ = ["ACTIVATIONS", "MLP", "Standardiser"]
