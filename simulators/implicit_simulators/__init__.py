"""What draws x given theta: simulators with a prior, names, and a seed."""

from implicit_simulators.adapters.command import CommandSimulator
from implicit_simulators.adapters.function import FunctionSimulator
from implicit_simulators.adapters.missing import Missing
from implicit_simulators.adapters.pyro_model import PyroSimulator
from implicit_simulators.adapters.repeated import Repeated
from implicit_simulators.adapters.step import StepSimulator
from implicit_simulators.alpha_stable import AlphaStable
from implicit_simulators.base import Simulator, as_tensor
from implicit_simulators.blowflies import Blowflies
from implicit_simulators.catalogue import simulators
from implicit_simulators.cox_ingersoll_ross import CoxIngersollRoss
from implicit_simulators.double_well import DoubleWell
from implicit_simulators.epidemic import Epidemic
from implicit_simulators.fitzhugh_nagumo import FitzHughNagumo
from implicit_simulators.g_and_k import GAndK
from implicit_simulators.lorenz96 import Lorenz96
from implicit_simulators.lotka_volterra import LotkaVolterra
from implicit_simulators.measurement import BinomialNoise, GaussianNoise, LogNormalNoise, PoissonNoise
from implicit_simulators.mg1_queue import MG1Queue
from implicit_simulators.moving_average import MovingAverage
from implicit_simulators.ornstein_uhlenbeck import OrnsteinUhlenbeck
from implicit_simulators.poisson_source import PoissonSource
from implicit_simulators.predator_prey import PredatorPrey
from implicit_simulators.priors import Product, TruncatedNormal, unconstrained
from implicit_simulators.reaction_network import ReactionNetwork
from implicit_simulators.ricker import Ricker
from implicit_simulators.rosenbrock import Rosenbrock
from implicit_simulators.schlogl import Schlogl
from implicit_simulators.seir import SEIREpidemic
from implicit_simulators.sir import SIREpidemic
from implicit_simulators.stochastic_volatility import StochasticVolatility
from implicit_simulators.streams import Seed, Stream, resolve_seed
from implicit_simulators.targets import (
    Dirac,
    DiracGenerator,
    Grid,
    LineGenerator,
    Lines,
    Ring,
    SwissRoll,
    Target,
    toy_targets,
)
from implicit_simulators.three_hump import ThreeHump
from implicit_simulators.toggle_switch import ToggleSwitch
from implicit_simulators.weinberg import Weinberg

__all__ = [
    "AlphaStable",
    "BinomialNoise",
    "Blowflies",
    "CommandSimulator",
    "CoxIngersollRoss",
    "Dirac",
    "DiracGenerator",
    "DoubleWell",
    "Epidemic",
    "FitzHughNagumo",
    "FunctionSimulator",
    "GAndK",
    "GaussianNoise",
    "Grid",
    "LineGenerator",
    "Lines",
    "LogNormalNoise",
    "Lorenz96",
    "LotkaVolterra",
    "MG1Queue",
    "Missing",
    "MovingAverage",
    "OrnsteinUhlenbeck",
    "PoissonNoise",
    "PoissonSource",
    "PredatorPrey",
    "Product",
    "PyroSimulator",
    "ReactionNetwork",
    "Repeated",
    "Ricker",
    "Ring",
    "Rosenbrock",
    "SEIREpidemic",
    "SIREpidemic",
    "Schlogl",
    "Seed",
    "Simulator",
    "StepSimulator",
    "StochasticVolatility",
    "Stream",
    "SwissRoll",
    "Target",
    "ThreeHump",
    "ToggleSwitch",
    "TruncatedNormal",
    "Weinberg",
    "as_tensor",
    "resolve_seed",
    "simulators",
    "toy_targets",
    "unconstrained",
]
