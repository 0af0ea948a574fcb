r"""SMC-ABC: generations of particles whose tolerance falls, so that simulations are spent where they count.

The first generation is rejection from the prior. Each later one draws from a kernel estimate of the one before, keeps
what lands within a tolerance that is a quantile of the distances before, and weights it (see ``population.py``).

**Exact budget.** The budget mostly runs out in the middle of a generation. What that generation has simulated is not
thrown away, and its tolerance is not forced: its simulations and those of the generation before are joined at the
smallest tolerance that leaves the asked number of particles. Every simulation that was begun has ended and counts, so
the kept ones are not those that happened to be quick; a completed generation keeps its first accepted particles in the
order in which they were begun.

**Adaptive distance** (``adaptive=True``). Scales that are fitted to draws of the prior say little about simulations
near the posterior. Prangle's algorithm fits the distance anew in each generation, to all of its simulations, accepted
or not: it simulates until :math:`M = \lceil N / \alpha \rceil` points lie within *all* earlier tolerances, each by its
own distance, and keeps the N nearest by the new one,

.. math:: A_t = \{ x : d^i(x, x_o) \le h_i \text{ for all } i \le t \},

so that the regions of acceptance are nested, old particles remain draws of what they were weighted for, and no weight
is infinite. Tolerances of different generations are then in different units.

References:
    | Sequential Monte Carlo without likelihoods (Sisson, Fan & Tanaka, 2007; correction 2009)
    | https://doi.org/10.1073/pnas.0607208104
    | Adaptive approximate Bayesian computation (Beaumont, Cornuet, Marin & Robert, 2009)
    | https://doi.org/10.1093/biomet/asp052
    | ABC scheme for parameter inference and model selection in dynamical systems (Toni et al., 2009)
    | https://doi.org/10.1098/rsif.2008.0172
    | An adaptive sequential Monte Carlo method for approximate Bayesian computation (Del Moral, Doucet & Jasra, 2012)
    | https://doi.org/10.1007/s11222-011-9271-y
    | Adapting the ABC distance function, algorithm 5 (Prangle, 2017)
    | https://arxiv.org/abs/1507.00874
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from implicit_infer.abc.adjustment import Adjustment, resolve_adjustment
from implicit_infer.abc.distances import Distance, PNorm
from implicit_infer.abc.kernels import KERNELS
from implicit_infer.abc.run import SequentialMethod, check_stops
from implicit_infer.abc.smc_run import SMCRun
from implicit_infer.posteriors.method import Question


@dataclass(frozen=True)
class SMCABC(SequentialMethod):
    r"""Population Monte Carlo with a tolerance that falls in each generation.

    Draws are the weighted particles of the last generation and nothing else: no kernel is put on them afterwards,
    which would widen the posterior. There are therefore at most ``particles`` distinct draws.

    Args:
        particles: Particles of a generation; None takes 1 % of the budget, but at least 100.
        quantile: How far the tolerance falls, in (0, 1): what share of the particles, or of what they are worth, lies
            within the next one. The first generation simulates ``particles / quantile`` times and keeps the nearest.
            (Few, steep steps: 0.2 is the SBI benchmark's setting.)
        schedule: The next tolerance is the "quantile" of the present distances, or the smallest one that leaves this
            share of the effective sample size ("ess"; Del Moral et al., 2012), which weights that differ much reach
            sooner.
        distance: How simulations are compared with the observation; fitted to the first generation.
        adaptive: Whether the distance is fitted anew in each generation (Prangle, 2017).
        kernel: How particles are moved: a name in :data:`implicit_infer.abc.kernels.KERNELS`. "twice" the population's
            covariance (Beaumont et al., 2009), the same "component-wise", the "optimal" one of Filippi et al. (2013),
            and two that each particle has by itself: "local", of its nearest neighbours, and "optimal-local".
        tolerance: Stop after the generation that reaches this tolerance.
        acceptance: Stop when fewer than this share of a generation's simulations are accepted.
        max_time: Seconds after which no block of simulations is begun any more, or None; those in hand are finished.
        adjust: Regression adjustment of the last particles, by its name in :mod:`implicit_infer.abc.adjustment`
            ("linear", ...) or with its settings; "none" leaves them.

    Raises:
        ValueError: If a setting is out of its range.
    """

    name: ClassVar[str] = "smc-abc"

    particles: int | None = None
    quantile: float = 0.2
    schedule: Literal["quantile", "ess"] = "quantile"
    distance: Distance = field(default_factory=PNorm)
    adaptive: bool = False
    kernel: str = "twice"
    tolerance: float = 0.0
    acceptance: float = 0.0
    max_time: float | None = None
    adjust: str | Adjustment = "none"

    def __post_init__(self) -> None:
        if self.particles is not None and self.particles < 2:
            raise ValueError(f"particles: expected an int of at least 2; got {self.particles}")
        if not 0 < self.quantile < 1:
            raise ValueError(f"quantile: expected a number in (0, 1); got {self.quantile}")
        if self.schedule not in ("quantile", "ess"):
            raise ValueError(f"schedule: expected 'quantile' or 'ess'; got {self.schedule!r}")
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel: expected one of {', '.join(KERNELS)}; got {self.kernel!r}")
        check_stops(self.tolerance, self.acceptance, self.max_time)
        resolve_adjustment(self.adjust)

    def size(self, budget: int) -> int:
        """Particles of a generation at this budget."""
        return min(self.particles or max(math.ceil(budget / 100), 100), budget)

    def begin(self, question: Question) -> SMCRun:
        """A run that has not begun."""
        return SMCRun(self, question)
