"""The ten tasks of the SBI benchmark (Lueckmann et al., 2021), and what it published for each."""

from implicit_simulators.benchmark.bernoulli_glm import BernoulliGLM
from implicit_simulators.benchmark.bernoulli_glm_raw import BernoulliGLMRaw
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear
from implicit_simulators.benchmark.gaussian_linear_uniform import GaussianLinearUniform
from implicit_simulators.benchmark.gaussian_mixture import GaussianMixture
from implicit_simulators.benchmark.lotka_volterra import LotkaVolterra
from implicit_simulators.benchmark.publication import Published, published
from implicit_simulators.benchmark.sir import SIR
from implicit_simulators.benchmark.slcp import SLCP
from implicit_simulators.benchmark.slcp_distractors import SLCPDistractors
from implicit_simulators.benchmark.two_moons import TwoMoons

__all__ = [
    "SIR",
    "SLCP",
    "BernoulliGLM",
    "BernoulliGLMRaw",
    "GaussianLinear",
    "GaussianLinearUniform",
    "GaussianMixture",
    "LotkaVolterra",
    "Published",
    "SLCPDistractors",
    "TwoMoons",
    "published",
]
