"""One reaction network, run in any of four ways from the same description."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_simulators.engines.jump import JumpProcess, Propensities, jump_process
from implicit_simulators.engines.langevin import network_paths, starts_legally
from implicit_simulators.engines.langevin_steps import langevin_process, langevin_steps, step_width
from implicit_simulators.engines.paths import needs_torch
from implicit_simulators.engines.rows import changes_of, count_arguments
from implicit_simulators.engines.tau_leap import TauLeap, tau_leap
from implicit_simulators.engines.torch_steps import step_noise
from implicit_simulators.streams import Stream

DYNAMICS = ("jump", "tau", "sde", "ode")
CONTINUOUS = ("sde", "ode")
"""The dynamics of real numbers, which torch can run, and differentiate; the others are of counts, and compiled."""


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
    if dynamics == "ode":
        return network_paths(propensities, stoichiometry, parameters, initial, times, substeps)
    if dynamics == "sde":
        return _langevin(propensities, stoichiometry, parameters, initial, times, substeps, stream.key)
    prepare_network(dynamics, propensities, stoichiometry, reactants, epsilon)
    engine = _engine(dynamics, propensities, stoichiometry, reactants, epsilon)
    counts = np.rint(initial.detach().cpu().double().numpy())
    states, _ = engine(parameters.detach().cpu().double().numpy(), counts, times, stream.key, max_events)
    states[np.isnan(counts).any(1)] = np.nan
    return torch.as_tensor(states, dtype=parameters.dtype).to(parameters.device)


def _langevin(
    propensities: Propensities,
    stoichiometry: Any,
    parameters: Tensor,
    initial: Tensor,
    times: Any,
    substeps: int,
    key: int,
) -> Tensor:
    """By compiled code where it can, by torch for gradients, other devices and uneven times; on the same noise."""
    if needs_torch(parameters, initial) or step_width(times, substeps) is None:
        steps = (len(times) - 1) * substeps
        noise = step_noise(("normal",) * len(stoichiometry), len(parameters), steps, key, parameters)
        return network_paths(propensities, stoichiometry, parameters, initial, times, substeps, noise)
    legal = starts_legally(propensities, initial, parameters)[:, None, None]
    states = langevin_steps(propensities, stoichiometry, parameters, initial, times, substeps, key)
    return torch.where(legal & torch.isfinite(states), states, torch.nan).clamp_min(0)


def prepare_network(
    dynamics: str, propensities: Propensities, stoichiometry: Any, reactants: Any, epsilon: float
) -> float:
    """Compile, or load from disk, what :func:`simulate_network` needs; the seconds that took.

    Raises:
        TypeError: If numba cannot compile ``propensities``, and has to.
    """
    if dynamics == "sde":
        changes = changes_of(stoichiometry)
        return langevin_process(propensities, changes, count_arguments(propensities) - len(changes[0])).prepare()
    if dynamics == "ode":
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
