"""Learning in implicit generative models: fit simulators, estimate density ratios, compare methods."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from implicit_infer import abc, diagnose, fitting, posteriors
    from implicit_infer.abc.model_choice.choosing import choose_model
    from implicit_infer.catalogue import (
        comparisons,
        fit_methods,
        games,
        generators,
        methods,
        ratio_methods,
        simulators,
    )
    from implicit_infer.fitting.emulators.making import emulate
    from implicit_infer.fitting.loading import load_fit
    from implicit_infer.fitting.minimising import minimise
    from implicit_infer.generators.learn import learn, load_learned
    from implicit_infer.posteriors.saving import load_posterior
    from implicit_infer.simulate import simulate
    from implicit_infer.stored import open_runs
    from implicit_infer.verbs import (
        compare,
        estimate_ratio,
        fit,
        infer,
        load_ratio,
        mutual_information,
        two_sample_test,
    )

__all__ = [
    "abc",
    "choose_model",
    "compare",
    "comparisons",
    "diagnose",
    "emulate",
    "estimate_ratio",
    "fit",
    "fit_methods",
    "fitting",
    "games",
    "generators",
    "infer",
    "learn",
    "load_fit",
    "load_learned",
    "load_posterior",
    "load_ratio",
    "methods",
    "minimise",
    "mutual_information",
    "open_runs",
    "posteriors",
    "ratio_methods",
    "simulate",
    "simulators",
    "two_sample_test",
]

_VERBS = {
    "choose_model": "implicit_infer.abc.model_choice.choosing",
    "compare": "implicit_infer.verbs",
    "comparisons": "implicit_infer.catalogue",
    "emulate": "implicit_infer.fitting.emulators.making",
    "estimate_ratio": "implicit_infer.verbs",
    "fit": "implicit_infer.verbs",
    "fit_methods": "implicit_infer.catalogue",
    "games": "implicit_infer.catalogue",
    "generators": "implicit_infer.catalogue",
    "infer": "implicit_infer.verbs",
    "learn": "implicit_infer.generators.learn",
    "load_fit": "implicit_infer.fitting.loading",
    "load_learned": "implicit_infer.generators.learn",
    "load_posterior": "implicit_infer.posteriors.saving",
    "load_ratio": "implicit_infer.verbs",
    "methods": "implicit_infer.catalogue",
    "minimise": "implicit_infer.fitting.minimising",
    "mutual_information": "implicit_infer.verbs",
    "open_runs": "implicit_infer.stored",
    "ratio_methods": "implicit_infer.catalogue",
    "simulate": "implicit_infer.simulate",
    "simulators": "implicit_infer.catalogue",
    "two_sample_test": "implicit_infer.verbs",
}
"""Where each function of the public face is written: imported when it is first asked for."""

_NAMESPACES = ("abc", "diagnose", "fitting", "posteriors")


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        value = getattr(importlib.import_module(_VERBS[name]), name)
        globals()[name] = value
        return value
    if name in _NAMESPACES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


class _Face(ModuleType):
    """Keeps ``ii.simulate`` the function: importing the submodule of that name would put the module in its place."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _VERBS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
