"""What a comparison asks: one question, the methods that answer it, and every run that this makes."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_infer.catalogue import resolve_method
from implicit_infer.checks import check_count, check_device, check_observed, check_simulator
from implicit_infer.posteriors.method import Method
from implicit_simulators import Simulator, Stream, resolve_seed
from implicit_simulators.base import as_tensor

REFERENCE = "reference"
"""Name of the reference posterior's run; no method may take it as its label."""

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True)
class Run:
    """One method at one budget, once.

    Attributes:
        label: Under which the method appears.
        budget: Simulations it may spend.
        repeat: Which repetition, from 0.
    """

    label: str
    budget: int
    repeat: int

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return f"{self.label}-{self.budget}-{self.repeat}"


@dataclass(frozen=True)
class Job:
    """One thing to do: a run (None: the reference), or the scoring of a run.

    Attributes:
        run: Which run.
        scores: Whether it is to be scored rather than done.
    """

    run: Run | None
    scores: bool = False

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return REFERENCE if self.run is None else self.run.name

    @property
    def label(self) -> str:
        """Label of the run's method."""
        return REFERENCE if self.run is None else self.run.label


@dataclass(frozen=True)
class Plan:
    """A comparison, checked. Make one with :meth:`checked`.

    Attributes:
        simulator: The simulator.
        observed: The observation, finite, with shape ``simulator.event_shape``.
        observation: Its name, where it ships with the simulator.
        methods: Each method under its label, in the order of the table.
        budgets: Simulations that each may spend, ascending.
        repeats: Independent repetitions.
        seed: Root of every random number.
        device: Where networks are trained.
        reference: "auto", draws from the true posterior with shape (n, d), or None.
        draws: Posterior draws of each run that are kept and scored.
        predictive: How many of them are simulated again for the predictive check.
    """

    simulator: Simulator
    observed: Tensor
    observation: str | None
    methods: Mapping[str, Method]
    budgets: tuple[int, ...]
    repeats: int
    seed: int
    device: str
    reference: str | Tensor | None
    draws: int
    predictive: int

    @classmethod
    def checked(
        cls,
        simulator: Any,
        observed: Any,
        *,
        methods: Any,
        budgets: Any,
        repeats: Any,
        seed: Any,
        device: Any,
        reference: Any,
        draws: Any,
        predictive: Any,
    ) -> Plan:
        """A plan from what a user gave.

        Raises:
            ValueError: If a value cannot be right.
            TypeError: If it is of the wrong kind.
        """
        labelled = _check_methods(methods)
        simulator = check_simulator(simulator)
        if seed is None or isinstance(seed, torch.Generator):
            raise TypeError(f"seed: expected an int, so that the comparison can be restarted; got {seed!r}")
        return cls(
            simulator=simulator,
            observed=check_observed(simulator, observed),
            observation=observed if isinstance(observed, str) else None,
            methods=labelled,
            budgets=_check_budgets(budgets),
            repeats=check_count(repeats, "repeats"),
            seed=resolve_seed(seed),
            device=check_device(device),
            reference=_check_reference(simulator, reference),
            draws=check_count(draws, "draws", least=10),
            predictive=check_count(predictive, "predictive", least=0),
        )

    def runs(self) -> list[Run]:
        """Every run, so ordered that whole repetitions are finished first."""
        return [
            Run(label, budget, repeat)
            for repeat in range(self.repeats)
            for budget in self.budgets
            for label in self.methods
        ]

    def seed_of(self, repeat: int, role: str) -> int:
        """The seed of ``role`` in one repetition: the same whatever else is run, so that methods can be added later."""
        return Stream.of(self.seed, repeat, role).key & (2**63 - 1)

    def question(self) -> dict[str, Any]:
        """What two comparisons must share to live in one folder (JSON-able)."""
        kind = type(self.simulator)
        return {
            "simulator": f"{kind.__module__}.{kind.__qualname__}",
            "settings": self.simulator.settings(),
            "parameters": list(self.simulator.parameter_names),
            # a prior has no name that tells it from another, its draws do
            "prior": hashlib.sha256(rounded(self.simulator.sample_prior(8, seed=0))).hexdigest(),
            "observed": hashlib.sha256(self.observed.float().contiguous().numpy().tobytes()).hexdigest(),
            "event_shape": list(self.simulator.event_shape),
            "seed": self.seed,
            "draws": self.draws,
            "predictive": self.predictive,
        }

    def description(self) -> dict[str, Any]:
        """What a report says of the question, and of how the observation is drawn (JSON-able)."""
        simulator = self.simulator
        return {
            "simulator": simulator.name,
            "settings": simulator.settings(),
            "parameters": list(simulator.parameter_names),
            "observation": self.observation,
            "methods": list(self.methods),
            "call": self._call(),
            **{name: getattr(simulator, name, None) for name in ("event_labels", "event_times", "event_unit")},
        }

    def _call(self) -> str:
        """The Python call that asks this."""
        given = isinstance(self.reference, Tensor)
        arguments = [
            repr(self.simulator),
            "observed" if self.observation is None else repr(self.observation),
            "methods={" + ", ".join(f"{label!r}: {method!r}" for label, method in self.methods.items()) + "}",
            f"budgets={list(self.budgets)}",
            f"repeats={self.repeats}",
            f"seed={self.seed}",
            f"device={self.device!r}",
            f"reference={'reference' if given else repr(self.reference)}",
            f"draws={self.draws}",
            f"predictive={self.predictive}",
            "out=...",
        ]
        return f"ii.compare({', '.join(arguments)})"


def rounded(values: Tensor) -> bytes:
    """The bytes of ``values`` to about three digits, so that another machine's last bits do not matter."""
    return values.to(torch.bfloat16).view(torch.int16).numpy().tobytes()


def _check_methods(methods: Any) -> dict[str, Method]:
    if isinstance(methods, (str, Method, type)):
        methods = [methods]
    if isinstance(methods, (Mapping, Sequence)) and not methods:
        raise ValueError("methods: expected at least one; got none")
    if isinstance(methods, Mapping):
        labelled = {label: resolve_method(method) for label, method in methods.items()}
    elif isinstance(methods, Sequence):
        resolved = [resolve_method(method) for method in methods]
        twice = [name for name, count in Counter(method.name for method in resolved).items() if count > 1]
        if twice:
            raise ValueError(
                f"methods: {twice[0]!r} is there twice; give variants labels, as in "
                f'{{"{twice[0]}": ..., "{twice[0]}-2": ...}}'
            )
        labelled = {method.name: method for method in resolved}
    else:
        raise TypeError(f"methods: expected a list of names or methods, or a dict; got {type(methods).__name__}")
    for label in labelled:
        if not isinstance(label, str) or not LABEL.fullmatch(label) or label == REFERENCE:
            raise ValueError(f"methods: a label is letters, digits and . _ + -, and not {REFERENCE!r}; got {label!r}")
    return labelled


def _check_budgets(budgets: Any) -> tuple[int, ...]:
    if not isinstance(budgets, (Sequence, range)) or isinstance(budgets, str):
        budgets = [budgets]
    checked = [check_count(budget, "budgets") for budget in budgets]
    if not checked:
        raise ValueError("budgets: expected at least one; got none")
    if len(set(checked)) < len(checked):
        raise ValueError(f"budgets: expected each once; got {', '.join(map(str, checked))}")
    return tuple(sorted(checked))


def _check_reference(simulator: Simulator, reference: Any) -> str | Tensor | None:
    if reference is None or (isinstance(reference, str) and reference == "auto"):
        return reference
    if isinstance(reference, str):
        raise ValueError(f"reference: expected 'auto', None or draws of shape (n, {simulator.dim}); got {reference!r}")
    draws = as_tensor(reference, "reference").detach().float().cpu()
    if draws.ndim != 2 or draws.shape[1] != simulator.dim or len(draws) < 10:
        raise ValueError(
            f"reference: expected at least 10 draws, with shape (n, {simulator.dim}); got {tuple(draws.shape)}"
        )
    if not torch.isfinite(draws).all():
        raise ValueError("reference: expected finite draws; got NaN or infinity")
    return draws
