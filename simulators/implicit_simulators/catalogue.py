"""The names of the simulators that ship with the package, for command lines and reports."""

from __future__ import annotations

from implicit_simulators.alpha_stable import AlphaStable
from implicit_simulators.base import Simulator
from implicit_simulators.benchmark.bernoulli_glm import BernoulliGLM
from implicit_simulators.benchmark.bernoulli_glm_raw import BernoulliGLMRaw
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear
from implicit_simulators.benchmark.gaussian_linear_uniform import GaussianLinearUniform
from implicit_simulators.benchmark.gaussian_mixture import GaussianMixture
from implicit_simulators.benchmark.lotka_volterra import LotkaVolterra as BenchmarkLotkaVolterra
from implicit_simulators.benchmark.sir import SIR
from implicit_simulators.benchmark.slcp import SLCP
from implicit_simulators.benchmark.slcp_distractors import SLCPDistractors
from implicit_simulators.benchmark.two_moons import TwoMoons
from implicit_simulators.blowflies import Blowflies
from implicit_simulators.cox_ingersoll_ross import CoxIngersollRoss
from implicit_simulators.double_well import DoubleWell
from implicit_simulators.epidemic import Epidemic
from implicit_simulators.fitzhugh_nagumo import FitzHughNagumo
from implicit_simulators.g_and_k import GAndK
from implicit_simulators.lorenz96 import Lorenz96
from implicit_simulators.lotka_volterra import LotkaVolterra
from implicit_simulators.mg1_queue import MG1Queue
from implicit_simulators.moving_average import MovingAverage
from implicit_simulators.ornstein_uhlenbeck import OrnsteinUhlenbeck
from implicit_simulators.poisson_source import PoissonSource
from implicit_simulators.predator_prey import PredatorPrey
from implicit_simulators.ricker import Ricker
from implicit_simulators.rosenbrock import Rosenbrock
from implicit_simulators.schlogl import Schlogl
from implicit_simulators.seir import SEIREpidemic
from implicit_simulators.sir import SIREpidemic
from implicit_simulators.stochastic_volatility import StochasticVolatility
from implicit_simulators.three_hump import ThreeHump
from implicit_simulators.toggle_switch import ToggleSwitch
from implicit_simulators.weinberg import Weinberg

SIMULATORS: dict[str, type[Simulator]] = {
    "lotka-volterra": LotkaVolterra,
    "epidemic": Epidemic,
    "predator-prey": PredatorPrey,
    "schlogl": Schlogl,
    "sir": SIREpidemic,
    "seir": SEIREpidemic,
    "gaussian-linear": GaussianLinear,
    "gaussian-linear-uniform": GaussianLinearUniform,
    "slcp": SLCP,
    "slcp-distractors": SLCPDistractors,
    "bernoulli-glm": BernoulliGLM,
    "bernoulli-glm-raw": BernoulliGLMRaw,
    "gaussian-mixture": GaussianMixture,
    "two-moons": TwoMoons,
    "benchmark-sir": SIR,
    "benchmark-lotka-volterra": BenchmarkLotkaVolterra,
    "alpha-stable": AlphaStable,
    "cox-ingersoll-ross": CoxIngersollRoss,
    "g-and-k": GAndK,
    "mg1-queue": MG1Queue,
    "moving-average": MovingAverage,
    "ornstein-uhlenbeck": OrnsteinUhlenbeck,
    "stochastic-volatility": StochasticVolatility,
    "blowflies": Blowflies,
    "double-well": DoubleWell,
    "fitzhugh-nagumo": FitzHughNagumo,
    "lorenz-96": Lorenz96,
    "poisson-source": PoissonSource,
    "ricker": Ricker,
    "rosenbrock": Rosenbrock,
    "three-hump": ThreeHump,
    "toggle-switch": ToggleSwitch,
    "weinberg": Weinberg,
}
"""To add a simulator, write its class and add one line here."""


def simulators() -> dict[str, type[Simulator]]:
    """Each simulator's name, and its class.

    Example:
        >>> simulators()["epidemic"]().parameter_names
        ('beta', 'gamma', 'rho')
    """
    return dict(SIMULATORS)
