"""What is measured: each method with where it runs, how many rows it is given, and about what it costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from implicit_estimators.problems import PROBLEMS, Problem

if TYPE_CHECKING:
    from implicit_estimators.ratio import RatioEstimator

LogRatio = Callable[[Tensor], "np.ndarray | Tensor"]
Fit = Callable[[Problem, Tensor, Tensor, int], LogRatio]
Cost = Callable[[int, int], float]
"""CPU seconds by rows and columns: a guess, replaced by what was measured as soon as there is something."""


@dataclass(frozen=True)
class Method:
    """One line of the tables.

    Attributes:
        name: What it is called there.
        fit: Fits it and returns the log-ratio.
        cost: About how long a fit takes.
        peer: Whether it is not ours.
        where: Which problems, at how many rows, it runs on.
        seeds: How many of the seeds, at most.
        warm: Whether to fit it to a few rows first, so that compilation is not counted.
        limit: CPU seconds after which a fit counts as failed.
    """

    name: str
    fit: Fit
    cost: Cost
    peer: bool = True
    where: Callable[[Problem, int], bool] = lambda problem, rows: True
    seeds: int = 1000
    warm: bool = False
    limit: int = 300


def far(problem: Problem) -> bool:
    """Whether p and q hardly overlap, or lie in many columns: where bridges, scores and flows are worth their price."""
    return problem.kl > 4 or problem.name == "b"


def dense(seconds: float) -> Cost:
    """A cost in proportion to rows, beside a start."""
    return lambda rows, columns: 0.3 + seconds * rows / 10_000


def peers() -> list[Method]:
    """The usual libraries, and sketches of what has none."""
    from benchmarks.ratios import classic, sketches

    def small(problem: Problem, rows: int) -> bool:
        return rows <= 10_000

    def narrow(problem: Problem, rows: int) -> bool:
        return rows <= 10_000 and problem.dimension <= 50

    def products_fit(problem: Problem, rows: int) -> bool:
        """All products of two columns, three times over, in a few gigabytes."""
        return rows * problem.dimension**2 < 1.7e8 and problem.dimension <= 100

    def among(*names: str) -> Callable[[Problem, int], bool]:
        return lambda problem, rows: problem.name in names and (rows <= 10_000 or problem.name == "c")

    few: dict[str, Any] = {"where": narrow, "seeds": 3}
    full: dict[str, Any] = {"where": lambda *cell: small(*cell) and among("a", "a_rev", "b", "c")(*cell), "seeds": 1}
    joint: dict[str, Any] = {"where": lambda *cell: small(*cell) and among("b", "c")(*cell)}
    chasms = ("b", "c", "mixtures-20")
    return [
        Method("gaussian plug-in", classic.plug_in, lambda rows, columns: 0.1),
        Method("sklearn LR quadratic", classic.classifier("quadratic"),
               lambda rows, columns: 0.1 + rows * columns**2 / 1e7, where=products_fit),
        Method("sklearn HistGradientBoosting", classic.classifier("boosting"),
               lambda rows, columns: 0.5 + rows * columns / 8e4, where=narrow),
        Method("sklearn MLPClassifier", classic.classifier("network"), dense(3), where=small),
        Method("torch MLP", sketches.network, dense(6), seeds=3,
               where=among("a", "a_rev", "b", "c", "gamma-exponential")),
        Method("densratio uLSIF, 1000 rows", classic.densratio("uLSIF", rows=1000), lambda *_: 1.5, **few),
        Method("densratio uLSIF median, 1000 rows", classic.densratio("uLSIF", grid="median", rows=1000),
               lambda *_: 0.7, **few),
        Method("densratio RuLSIF, 1000 rows", classic.densratio("RuLSIF", 0.1, grid="median", rows=1000),
               lambda *_: 0.7, **few),
        Method("densratio KLIEP, 1000 rows", classic.densratio("KLIEP", rows=1000), lambda *_: 0.7, **few),
        Method("densratio uLSIF", classic.densratio("uLSIF"), lambda *_: 95, **full),
        Method("densratio RuLSIF", classic.densratio("RuLSIF", 0.1, grid="median"), lambda *_: 40, **full),
        Method("densratio KLIEP", classic.densratio("KLIEP"), lambda *_: 4, **full),
        Method("sbi NRE-A", classic.sbi("NRE-A"), dense(16), **joint | {"seeds": 3}),
        Method("sbi NRE-C", classic.sbi("NRE-C"), dense(30), **joint | {"seeds": 2}),
        Method("telescoping sketch", sketches.telescoping, dense(18), where=among(*chasms), seeds=2),
        Method("time-score sketch", sketches.time_score, lambda *_: 32, where=among("c"), seeds=2),
    ]  # fmt: skip


VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "multinomial, quadratic head": ("multinomial", {"quadratic": True}),
}
"""Ours with settings that are not the default, by what the tables call them."""

KERNELS_ON = (
    "a", "a_rev", "b", "peaked-1e-3", "gamma-exponential", "bmi-additive-0.1", "bmi-additive-0.75", "bmi-student-1-1",
)  # fmt: skip

FEW = {
    "conditional-path": (("b", "c", "peaked-1e-3", "mixtures-20"), 3),
    "dre-infinity": (("b", "c"), 2),
    "featurised": (("a_rev", "b"), 3),
    "flow": (("b", "c", "bmi-normal-bimodal"), 3),
    **dict.fromkeys(("brier", "exponential", "relative", "lsif", "multinomial"), (("a", "a_rev", "b", "c"), 3)),
    **dict.fromkeys(("nwj", "donsker-varadhan", "smile", "f-divergence"), (("a", "a_rev", "b", "c"), 3)),
    **dict.fromkeys(("ulsif", "rulsif", "kliep"), (KERNELS_ON, 3)),
    **dict.fromkeys(("logistic", "ensemble", "kernel-logistic", "classifier"), ((), 3)),
}
"""Ours that take half a minute, or differ from a neighbour in little: the problems, and how many of the seeds, that
they are measured on (all, where none is named), so that a full run stays short."""

SECONDS = {"auto": 12.0, "flow": 20.0, "featurised": 30.0, "telescoping": 15.0, "conditional-path": 15.0}
SECONDS |= {"dre-infinity": 30.0, "ensemble": 4.0, "gaussian": 0.0, "quadratic": 0.2, "ulsif": 0.5, "rulsif": 0.5}
"""About what ours cost with 10,000 rows; three seconds for others."""

LARGE_TOO = ("telescoping", "gaussian")
"""Ours that are measured with 100,000 rows; the kernel methods are, on ``a``."""


def ours() -> list[Method]:
    """Every estimator that is registered, with its defaults, and the variants."""
    from implicit_estimators.ratio import RATIO_ESTIMATORS

    named: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in RATIO_ESTIMATORS}
    named |= {label: variant for label, variant in VARIANTS.items() if variant[0] in RATIO_ESTIMATORS}
    return [_ours(label, RATIO_ESTIMATORS[name], settings) for label, (name, settings) in named.items()]


def _ours(label: str, kind: type[RatioEstimator], settings: dict[str, Any]) -> Method:
    name = kind.name
    kernels = ".kernels." in kind.__module__

    def fit(problem: Problem, p: Tensor, q: Tensor, seed: int) -> LogRatio:
        return kind(**settings).fit(p, q, seed=seed).log_ratio

    places, seeds = FEW.get(name, ((), 1000))

    def where(problem: Problem, rows: int) -> bool:
        if rows > 10_000:
            return (name in LARGE_TOO and problem.name != "a") or (kernels and problem.name == "a")
        if places:
            return problem.name in places
        return name != "telescoping" or far(problem)

    cost = dense(SECONDS.get(name, 3.0))
    return Method(label, fit, cost, peer=False, where=where, seeds=seeds, warm=kernels, limit=900)


def methods() -> dict[str, Method]:
    """Peers and ours, by name."""
    return {method.name: method for method in [*peers(), *ours()]}


CORE: dict[str, int] = {
    **dict.fromkeys(("a", "a_rev", "b", "c", "ladder-80", "ladder-160"), 10_000),
    **dict.fromkeys(("peaked-1e-6", "peaked-1e-3", "mixtures-20"), 10_000),
    **dict.fromkeys(("narrow-apart", "wide-apart", "corner", "gamma-exponential"), 5000),
    **dict.fromkeys(("bmi-normal", "bmi-additive-0.75", "bmi-normal-bimodal", "bmi-normal-swiss-roll"), 5000),
    **dict.fromkeys(("bmi-student-1-1", "bmi-dense-50", "bmi-2-pair-5-half-cube", "bmi-2-pair-5-spiral"), 5000),
}
"""Problems of a full run, and the rows of each side."""

LARGE: dict[str, int] = dict.fromkeys(("a", "c", "ladder-20", "ladder-80", "ladder-160", "ladder-320"), 100_000)
"""The ladder with as many rows as its authors used; and ``a``, for the methods that are fast there."""

QUICK: dict[str, int] = {"a": 1000, "b": 1000, "bmi-student-1-1": 1000}
"""A look, of two minutes."""


ALL: dict[str, int] = {name: CORE.get(name, 5000) for name in PROBLEMS}
"""Every problem there is; ``ladder-40`` is ``c``."""

SUITES = {"core": CORE, "large": LARGE, "all": ALL, "quick": QUICK}
