"""Densities learned from simulations: of parameters given data (NPE), and of data given parameters (NLE)."""

from implicit_infer.posteriors.density.ensemble import Ensemble
from implicit_infer.posteriors.density.fitting import DensitySettings
from implicit_infer.posteriors.density.flow import FLOWS, ConditionalDensity
from implicit_infer.posteriors.density.observables import Observables
from implicit_infer.posteriors.density.reduction import Reduction
from implicit_infer.posteriors.density.training import Course, Recipe

__all__ = ["FLOWS", "ConditionalDensity", "Course", "DensitySettings", "Ensemble", "Observables", "Recipe", "Reduction"]
