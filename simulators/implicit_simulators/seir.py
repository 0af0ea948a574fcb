r"""SEIR epidemics: as SIR, with a latent period in which people are infected and not yet infectious.

.. math:: S \xrightarrow{\beta S I / N} E \xrightarrow{\sigma E} I \xrightarrow{\gamma I} R

References:
    | Infectious diseases of humans: dynamics and control (Anderson & May, 1991)
    | Modeling infectious diseases in humans and animals (Keeling & Rohani, 2008)
"""

from __future__ import annotations

from typing import ClassVar

from implicit_simulators.engines.jump import Propensities
from implicit_simulators.sir import SIREpidemic


def _rates(s: float, e: float, i: float, infection: float, onset: float, recovery: float) -> tuple[float, ...]:
    return infection * s * i, onset * e, recovery * i


class SEIREpidemic(SIREpidemic):
    r"""Daily counts of an SEIR epidemic.

    The parameters are the rates :math:`\beta` of infection, :math:`\sigma` of becoming infectious and :math:`\gamma` of
    recovery (per day), with the priors

    .. math:: \log\beta \sim N(\log 0.4, 0.5^2), \quad \log\sigma \sim N(\log 0.25, 0.3^2), \quad
        \log\gamma \sim N(\log 0.125, 0.2^2).

    Simulations have shape (days,): on each day either those who have become infectious since the day before
    (``"incidence"``) or the infectious (``"prevalence"``). The final size has the law of an epidemic without latency.
    Settings, dynamics and errors are those of :class:`implicit_simulators.sir.SIREpidemic`.
    """

    name = "seir"
    parameter_names = ("beta", "sigma", "gamma")
    reference_theta = (0.4, 0.25, 0.125)

    _stages: ClassVar[tuple[str, ...]] = ("E", "I")
    _stoichiometry: ClassVar[tuple[tuple[int, ...], ...]] = ((-1, 1, 0), (0, -1, 1), (0, 0, -1))
    _reactants: ClassVar[tuple[tuple[int, ...], ...]] = ((1, 0, 1), (0, 1, 0), (0, 0, 1))
    _propensities: ClassVar[Propensities] = staticmethod(_rates)
    _log_spread: ClassVar[tuple[float, ...]] = (0.5, 0.3, 0.2)

    def __init__(
        self,
        dynamics: str = "jump",
        population: int = 1000,
        infected: int = 5,
        days: int = 120,
        observe: str = "incidence",
        steps: int | None = None,
        epsilon: float = 0.03,
    ) -> None:
        super().__init__(dynamics, population, infected, days, observe, steps, epsilon)
