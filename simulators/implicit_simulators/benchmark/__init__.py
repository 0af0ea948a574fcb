"""Tasks of the SBI benchmark (Lueckmann et al., 2021)."""

from implicit_simulators.benchmark.gaussian_linear import GaussianLinear
from implicit_simulators.benchmark.two_moons import TwoMoons

__all__ = ["GaussianLinear", "TwoMoons"]
