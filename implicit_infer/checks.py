"""Refuses a bad question in one clear sentence, before anything runs."""

from __future__ import annotations

import numbers
import os
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from implicit_simulators import Simulator, Stream

if TYPE_CHECKING:
    from implicit_infer.runs import Runs
    from implicit_infer.stored import StoredRuns


def check_count(value: Any, name: str, least: int = 1) -> int:
    """``value`` as an int of at least ``least``.

    Raises:
        TypeError: If it is not an int (bools and floats are not).
        ValueError: If it is smaller.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}: expected an int; got {type(value).__name__} {value!r}")
    if value < least:
        raise ValueError(f"{name}: expected an int of at least {least}; got {value}")
    return int(value)


def check_device(device: Any) -> str:
    """The name of a device that this machine has.

    Raises:
        ValueError: If torch does not know the device, or the machine does not have it.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise ValueError(f"device: {str(device)!r} cannot be used here: {reason}") from error
    return str(torch.device(device))


def check_simulator(simulator: Any) -> Simulator:
    """``simulator`` if it is one whose prior draws rows of theta.

    Raises:
        TypeError: If it is not a ``Simulator``, or its prior has no ``sample``.
        ValueError: If the prior draws something of another shape than (n, d).
    """
    if not isinstance(simulator, Simulator):
        hint = "; wrap a function in FunctionSimulator(function, prior=...)" if callable(simulator) else ""
        raise TypeError(f"simulator: expected a Simulator; got {type(simulator).__name__}{hint}")
    prior: Any = getattr(simulator, "prior", None)
    if not callable(getattr(prior, "sample", None)):
        raise TypeError(
            f"prior: expected a distribution with a sample method; {simulator.name} has {type(prior).__name__}"
        )
    with Stream.of(0, role="prior").forked():
        shape = tuple(prior.sample((2,)).shape)
    # a prior over one parameter may be scalar: sample_prior gives its draws their column
    if shape != (2, simulator.dim) and not (simulator.dim == 1 and shape == (2,)):
        raise ValueError(
            f"prior: expected draws of shape (n, {simulator.dim}); {simulator.name} gives {shape} for n = 2"
        )
    return simulator


def check_observed(simulator: Simulator, observed: Any) -> Tensor:
    """The observation as a finite tensor of the simulator's shape; a string names one that ships with the simulator.

    Raises:
        ValueError: If it has another shape, is not finite, or is a name that the simulator does not know.
        TypeError: If it is not numeric.
    """
    if isinstance(observed, str):
        observed = simulator.observation(observed)
    return simulator.check_observation(observed).detach().cpu()


def check_runs(simulator: Simulator, runs: Any) -> Runs | StoredRuns:
    """Simulations of ``simulator`` from its prior, in memory or in a store, given themselves or by the store's path.

    Raises:
        ValueError: If they have another shape, or the store is of another simulator or other settings.
        TypeError: If they are something else.
    """
    from implicit_infer.runs import Runs
    from implicit_infer.store import check_identity
    from implicit_infer.stored import StoredRuns, open_runs

    if isinstance(runs, (str, os.PathLike)):
        runs = open_runs(runs)
    if not isinstance(runs, (Runs, StoredRuns)):
        raise TypeError(f"runs: expected what ii.simulate gives, or the path of a store; got {type(runs).__name__}")
    expected = ((simulator.dim,), tuple(simulator.event_shape))
    found = (tuple(runs.theta.shape[1:]), tuple(runs.x.shape[1:]))
    if found != expected:
        raise ValueError(
            f"runs: {simulator.name} has parameters and simulations of shapes {expected[0]} and {expected[1]}; "
            f"got {found[0]} and {found[1]}"
        )
    if isinstance(runs, StoredRuns):
        check_identity(simulator, runs.seed, runs.about, runs.path)
    return runs
