r"""Reaction networks: a system of one's own, given by what its reactions change and the rates at which they happen.

In state x, reaction r happens at rate :math:`h_r(x)` and adds :math:`\nu_r` to x. One description runs four ways:

- ``"jump"``: exactly, event by event (Gillespie 1977), by :mod:`implicit_simulators.engines.jump`;
- ``"tau"``: in leaps over many events (Cao, Gillespie & Petzold 2006), by :mod:`implicit_simulators.engines.tau_leap`;
- ``"sde"``: as the chemical Langevin equation, a noise for each reaction (Gillespie 2000),

  .. math:: dX = \sum_r \nu_r \left( h_r(X)\, dt + \sqrt{h_r(X)}\, dW_r \right);

- ``"ode"``: as the reaction-rate equations :math:`dX/dt = \sum_r \nu_r h_r(X)`, the limit of many individuals.

References:
    | Exact stochastic simulation of coupled chemical reactions (Gillespie, 1977)
    | https://doi.org/10.1021/j100540a008
    | The chemical Langevin equation (Gillespie, 2000)
    | https://doi.org/10.1063/1.481811
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_simulators.adapters.own import OwnSimulator
from implicit_simulators.adapters.prior import as_prior
from implicit_simulators.code import fingerprint
from implicit_simulators.engines.jump import Propensities, jump_process
from implicit_simulators.engines.langevin import check_columns
from implicit_simulators.engines.mass_action import mass_action
from implicit_simulators.engines.network import CONTINUOUS, DYNAMICS, prepare_network, simulate_network
from implicit_simulators.engines.rows import changes_of, count_arguments, instants
from implicit_simulators.engines.tau_leap import check_reactants, tau_leap
from implicit_simulators.measurement import Noise
from implicit_simulators.streams import Stream

SUBSTEPS = {"sde": 50, "ode": 25}


class ReactionNetwork(OwnSimulator):
    r"""A user's own reaction network.

    Rates are either a function ``propensities``, or follow mass action from ``reactants`` with one rate constant a
    reaction: :math:`h_r = c_r \prod_i \binom{x_i}{r_{ri}}`, that is c x (x - 1) / 2 for a dimerisation
    (:mod:`implicit_simulators.engines.mass_action`; c x**2 / 2 in the rate equations).

    Theta's first m columns are the parameters of the rates, in the order in which the function takes them; the other
    columns are initial counts and settings of the noise, which name them.

    Under ``"sde"`` and ``"ode"`` the same function is called with torch columns, and gradients flow from x to theta.
    Populations are then real numbers, and rates see them cut off at zero. Rates that are negative at the initial counts
    make a row NaN, as does everything that makes an exact run fail; the deterministic ``"ode"`` without noise does not
    depend on the seed.

    Args:
        stoichiometry: What each reaction adds to each species: integers with shape (R, k).
        propensities: A plain Python function ``(x_1, ..., x_k, p_1, ..., p_m) -> (h_1, ..., h_R)`` on floats, as for
            :func:`implicit_simulators.engines.jump.jump_process`, which compiles it. None for mass action.
        prior: Distribution of theta; see :func:`implicit_simulators.adapters.prior.as_prior`.
        initial: For each species its count at ``times[0]``, or the name of the parameter that is its initial count
            (rounded to a whole number for ``"jump"`` and ``"tau"``).
        times: Increasing times at which the populations are recorded, the initial one included, with shape (T,).
        reactants: How many individuals of each species a reaction takes, with shape (R, k): rates of mass action, if
            ``propensities`` is None; otherwise, what the step of ``"tau"`` is chosen by.
        species: Names of the k species; x_1, ..., x_k if None.
        parameter_names: Names of the d parameters; theta_1, ..., theta_d if None.
        dynamics: ``"jump"``, ``"tau"``, ``"sde"`` or ``"ode"``.
        record: Names of the species that x shows; all if None.
        noise: How they are measured, as ``LogNormalNoise("sigma")``; None for exact counts.
        substeps: Integration steps between two recorded times, 50 (``"sde"``) or 25 (``"ode"``) if None.
        epsilon: The part by which rates may change in a leap (``"tau"``).
        max_events: Events (leaps) after which a trajectory counts as failed.
        observed: Data, with shape (T, recorded species), available as ``observation("observed")``.
        summarize: Summary statistics, from (n, T, recorded species) to (n, s); x flattened if None.
        reference_theta: Parameters at which it is usually tested.
        name: Name in reports.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If arguments do not fit one another, or the function cannot be called with torch columns where
            ``dynamics`` needs that.

    Example:
        >>> dimers = ReactionNetwork(
        ...     [[-2, 1], [2, -1]],
        ...     reactants=[[2, 0], [0, 1]],
        ...     prior=([0.0, 0.0], [0.01, 1.0]),
        ...     initial=[100, 0],
        ...     times=range(11),
        ...     species=["monomer", "dimer"],
        ...     parameter_names=["join", "split"],
        ... )
        >>> dimers.simulate([[0.005, 0.2]], seed=0).shape
        torch.Size([1, 11, 2])
    """

    name = "reaction-network"

    def __init__(
        self,
        stoichiometry: Any,
        propensities: Propensities | None = None,
        *,
        prior: Any,
        initial: Sequence[float | str],
        times: Any,
        reactants: Any = None,
        species: Sequence[str] | None = None,
        parameter_names: Sequence[str] | None = None,
        dynamics: str = "jump",
        record: Sequence[str] | None = None,
        noise: Noise | None = None,
        substeps: int | None = None,
        epsilon: float = 0.03,
        max_events: int = 1_000_000,
        observed: Any = None,
        summarize: Callable[[Tensor], Any] | None = None,
        reference_theta: Sequence[float] | None = None,
        name: str | None = None,
    ) -> None:
        if dynamics not in DYNAMICS:
            raise ValueError(f"dynamics: expected one of {', '.join(DYNAMICS)}; got {dynamics!r}")
        if propensities is None and reactants is None:
            raise ValueError("propensities: expected a function, or reactants for rates of mass action; got neither")
        if noise is not None and not isinstance(noise, Noise):
            raise TypeError(f"noise: expected a noise model such as GaussianNoise(1.0), or None; got {noise!r}")
        if summarize is not None and not callable(summarize):
            raise TypeError(f"summarize: expected a callable or None; got {type(summarize).__name__}")
        self.dynamics, self.noise, self.epsilon = dynamics, noise, float(epsilon)
        self.stoichiometry = changes_of(stoichiometry)
        reactions, k = len(self.stoichiometry), len(self.stoichiometry[0])
        self.reactants = check_reactants(reactants, (reactions, k))
        self._function = propensities
        self.code = None if propensities is None else fingerprint(propensities)
        self.rate_parameters = count_arguments(self._rates()) - k
        self.prior = as_prior(prior)
        d = self.prior.event_shape[0]
        self.parameter_names = _names(parameter_names, "parameter_names", d, "theta")
        self.species = _names(species, "species", k, "x")
        self.record = self.species if record is None else _subset(record, self.species)
        self.times = instants(list(times))
        self.initial = _initial(initial, self.species, dynamics)
        self._check_uses()
        self.substeps = SUBSTEPS.get(dynamics, 1) if substeps is None else substeps
        for argument, value in (("substeps", self.substeps), ("max_events", max_events)):
            if not (value == int(value) and value > 0):
                raise ValueError(f"{argument}: expected a positive int; got {value}")
        self.substeps, self.max_events = int(self.substeps), int(max_events)
        self.differentiable = dynamics in CONTINUOUS and (noise is None or noise.differentiable)
        self.releases_gil = dynamics not in CONTINUOUS
        self.event_shape = torch.Size([len(self.times), len(self.record)])
        self.event_times, self.event_labels = tuple(self.times.tolist()), self.record
        self.name = name or self.name
        self._take_statistics(summarize)
        if dynamics in CONTINUOUS:
            x = torch.tensor([[1.0], [7.0], [40.0]]) + torch.arange(k)
            check_columns(self._rates(), x, self.sample_prior(3, seed=0)[:, : self.rate_parameters], reactions)
        elif dynamics == "tau":
            tau_leap(self._rates(), self.stoichiometry, self.reactants, epsilon)  # which checks the rest
        else:
            jump_process(self._rates(), self.stoichiometry)
        if reference_theta is not None:
            self.reference_theta = tuple(self.check_theta([reference_theta])[0].tolist())
        self._take_data(observed)

    def _rates(self) -> Propensities:
        if self._function is not None:
            return self._function
        assert self.reactants is not None  # one of the two was given
        # made anew rather than kept: a copy that travelled to another process would have to be compiled once more
        return mass_action(self.reactants, continuous=self.dynamics == "ode")

    def _check_uses(self) -> None:
        """Hold every parameter to a use, and every name to a parameter."""
        d, m = self.dim, self.rate_parameters
        if m > d:
            raise ValueError(f"prior: the rates take {m} parameters, theta's first columns; the prior has {d}")
        named = [entry for entry in self.initial if isinstance(entry, str)]
        for where, names in (("initial", named), ("noise", self.noise.names if self.noise else ())):
            for name in names:
                if name not in self.parameter_names:
                    raise ValueError(f"{where}: {name!r} is not among parameter_names, {list(self.parameter_names)}")
        if self.noise is not None:
            self.noise.check(len(self.record))
            named += self.noise.names
        unused = [name for name in self.parameter_names[m:] if name not in named]
        if unused:
            raise ValueError(f"prior: the rates take the first {m} of {d} parameters; nothing uses {', '.join(unused)}")

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        theta = theta if self.differentiable else theta.detach()
        populations = simulate_network(
            *(self.dynamics, self._rates(), self.stoichiometry, self.reactants),
            *(theta[:, : self.rate_parameters], self._initial_counts(theta), self.times, stream),
            substeps=self.substeps,
            epsilon=self.epsilon,
            max_events=self.max_events,
        )
        states = populations[:, :, [self.species.index(name) for name in self.record]]
        if self.noise is None:
            return states
        return self.noise.draw(
            states, lambda name: theta[:, self.parameter_names.index(name)], Stream.of(stream.key, role="observe")
        )

    def _initial_counts(self, theta: Tensor) -> Tensor:
        """Initial populations with shape (n, k); NaN where one is negative."""
        columns = [
            theta[:, self.parameter_names.index(entry)]
            if isinstance(entry, str)
            else theta.new_full((len(theta),), entry)
            for entry in self.initial
        ]
        initial = torch.stack(columns, 1)
        return torch.where((initial >= 0).all(1, keepdim=True), initial, torch.nan)

    def prepare(self) -> float:
        """Compile, or load from disk, the loop over events or leaps; the seconds that took."""
        return prepare_network(self.dynamics, self._rates(), self.stoichiometry, self.reactants, self.epsilon)

    def settings(self) -> dict[str, Any]:
        """The network, how it runs and how it is measured; a function by module, name and code."""
        settings: dict[str, Any] = {
            "dynamics": self.dynamics,
            "stoichiometry": [list(row) for row in self.stoichiometry],
            "propensities": "mass action" if self._function is None else _path(self._function),
            "code": self.code,
            "reactants": None if self.reactants is None else [list(row) for row in self.reactants],
            "species": list(self.species),
            "record": list(self.record),
            "initial": list(self.initial),
            "times": self.times.tolist(),
            "noise": None if self.noise is None else repr(self.noise),
        }
        if self.dynamics in CONTINUOUS:
            return settings | {"substeps": self.substeps}
        return (
            settings | {"max_events": self.max_events} | ({"epsilon": self.epsilon} if self.dynamics == "tau" else {})
        )


def _path(function: Propensities) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', type(function).__name__)}"


def _names(names: Any, argument: str, count: int, letter: str) -> tuple[str, ...]:
    if names is None:
        return tuple(f"{letter}_{i + 1}" for i in range(count))
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{argument}: expected {count} strings; got {names!r}")
    if len(set(names)) != count or len(names) != count:
        raise ValueError(f"{argument}: expected {count} different names; got {list(names)}")
    return tuple(names)


def _subset(record: Any, species: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(record, str) or not record or len(set(record)) != len(record) or not set(record) <= set(species):
        raise ValueError(f"record: expected different names among species, {list(species)}; got {record!r}")
    return tuple(record)


def _initial(initial: Any, species: tuple[str, ...], dynamics: str) -> tuple[float | str, ...]:
    if isinstance(initial, str) or len(initial) != len(species):
        raise ValueError(f"initial: expected {len(species)} counts or names of parameters; got {initial!r}")
    checked: list[float | str] = []
    for name, entry in zip(species, initial, strict=True):
        if isinstance(entry, str):
            checked.append(entry)
            continue
        value = float(entry)
        if not (0 <= value < np.inf) or (dynamics not in CONTINUOUS and value != round(value)):
            kind = "a non-negative number" if dynamics in CONTINUOUS else "a non-negative whole number"
            raise ValueError(f"initial: expected {kind} of {name}; got {entry}")
        checked.append(value)
    return tuple(checked)
