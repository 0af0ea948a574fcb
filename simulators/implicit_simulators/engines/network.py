"""One reaction network, run in any of four ways from the same description."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_simulators.engines.jump import JumpProcess, Propensities, jump_process
from implicit_simulators.engines.langevin import network_paths
from implicit_simulators.engines.tau_leap import TauLeap, tau_leap
from implicit_simulators.streams import Stream

DYNAMICS = ("jump", "tau", "sde", "ode")
CONTINUOUS = ("sde", "ode")
"""The dynamics of real numbers, run by torch and differentiable; the others are of counts, and compiled."""


def simulate_network(
    dynamics: str,
    propensities: Propensities,
    stoichiometry: Any,
    reactants: Any,
    parameters: Tensor,
    initial: Tensor,
    times: Any,
    stream: Stream,
    *,
    substeps: int,
    epsilon: float,
    max_events: int,
) -> Tensor:
    """Simulate one trajectory for each row.

    Args:
        dynamics: ``"jump"``, ``"tau"``, ``"sde"`` or ``"ode"``.
        propensities: As for :func:`implicit_simulators.engines.jump.jump_process` (counts) or
            :func:`implicit_simulators.engines.langevin.network_paths` (real numbers).
        stoichiometry: What each reaction adds to each species, with shape (R, k).
        reactants: What each reaction takes of each species, with shape (R, k), or None; chooses the leaps.
        parameters: Shape (n, m).
        initial: Populations at ``times[0]``, with shape (n, k), rounded for counts; NaN gives NaN.
        times: Increasing times at which populations are wanted, with shape (T,).
        stream: Where the random numbers come from.
        substeps: Integration steps between two recorded times, for real numbers.
        epsilon: The part by which rates may change in a leap.
        max_events: Events or leaps after which a row counts as failed.

    Returns:
        Populations with shape (n, T, k), in the dtype and on the device of ``parameters``; NaN from where a row fails.

    Raises:
        TypeError: If numba cannot compile ``propensities``, and has to.
    """
    if dynamics in CONTINUOUS:
        generator = None if dynamics == "ode" else stream.torch(parameters.device)
        return network_paths(propensities, stoichiometry, parameters, initial, times, substeps, generator)
    prepare_network(dynamics, propensities, stoichiometry, reactants, epsilon)
    engine = _engine(dynamics, propensities, stoichiometry, reactants, epsilon)
    counts = np.rint(initial.detach().cpu().double().numpy())
    states, _ = engine(parameters.detach().cpu().double().numpy(), counts, times, stream.key, max_events)
    states[np.isnan(counts).any(1)] = np.nan
    return torch.as_tensor(states, dtype=parameters.dtype).to(parameters.device)


def prepare_network(
    dynamics: str, propensities: Propensities, stoichiometry: Any, reactants: Any, epsilon: float
) -> float:
    """Compile, or load from disk, what :func:`simulate_network` needs; the seconds that took.

    Raises:
        TypeError: If numba cannot compile ``propensities``, and has to.
    """
    if dynamics in CONTINUOUS:
        return 0.0
    try:
        return _engine(dynamics, propensities, stoichiometry, reactants, epsilon).prepare()
    except Exception as error:
        if not type(error).__module__.startswith("numba."):
            raise
        raise TypeError(
            f"propensities: numba could not compile the function, which dynamics={dynamics!r} needs; it should be "
            f"arithmetic, comparisons and `math` functions: {error}"
        ) from error


def _engine(
    dynamics: str, propensities: Propensities, stoichiometry: Any, reactants: Any, epsilon: float
) -> JumpProcess | TauLeap:
    if dynamics == "tau":
        return tau_leap(propensities, stoichiometry, reactants, epsilon)
    return jump_process(propensities, stoichiometry)
