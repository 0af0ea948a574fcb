"""The names of the simulators that ship with the package, for command lines and reports."""

from __future__ import annotations

from implicit_simulators.base import Simulator
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear
from implicit_simulators.benchmark.two_moons import TwoMoons
from implicit_simulators.epidemic import Epidemic
from implicit_simulators.lotka_volterra import LotkaVolterra

SIMULATORS: dict[str, type[Simulator]] = {
    "lotka-volterra": LotkaVolterra,
    "epidemic": Epidemic,
    "two-moons": TwoMoons,
    "gaussian-linear": GaussianLinear,
}
"""To add a simulator, write its class and add one line here."""


def simulators() -> dict[str, type[Simulator]]:
    """Each simulator's name, and its class.

    Example:
        >>> simulators()["epidemic"]().parameter_names
        ('beta', 'gamma', 'rho')
    """
    return dict(SIMULATORS)
