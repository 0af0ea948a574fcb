"""Toy targets for generators: distributions in the plane whose modes, densities or distances are known."""

from implicit_simulators.targets.base import Target
from implicit_simulators.targets.catalogue import toy_targets
from implicit_simulators.targets.dirac import Dirac, DiracGenerator
from implicit_simulators.targets.grid import Grid
from implicit_simulators.targets.lines import LineGenerator, Lines
from implicit_simulators.targets.ring import Ring
from implicit_simulators.targets.swiss_roll import SwissRoll

__all__ = [
    "Dirac",
    "DiracGenerator",
    "Grid",
    "LineGenerator",
    "Lines",
    "Ring",
    "SwissRoll",
    "Target",
    "toy_targets",
]
