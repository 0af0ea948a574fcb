"""Reads fits from disk: the other half of ``saving``, which a fit itself has no need of."""

from __future__ import annotations

import os
from typing import Any

from torch import Tensor

from implicit_estimators.networks import storage
from implicit_infer.fitting.base import Fit, Trace
from implicit_infer.fitting.saving import KIND
from implicit_simulators import Simulator
from implicit_simulators.catalogue import simulators


def load_fit(path: str | os.PathLike[str], simulator: Simulator | None = None) -> Fit:
    """Read a fit that ``fit.save(path)`` wrote.

    Args:
        path: The file.
        simulator: The simulator that was fitted; one that ships with the package is made anew if None.

    Returns:
        The fit.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file holds something else, or the simulator has other parameters, or must be given.
    """
    tensors, config = storage.load(path, KIND)
    if simulator is None:
        simulator = _shipped(config)
    if list(simulator.parameter_names) != config["parameters"]:
        raise ValueError(
            f"simulator: the fit has the parameters {', '.join(config['parameters'])}; {simulator.name} has "
            f"{', '.join(simulator.parameter_names)}"
        )
    figures: dict[str, list[float]] = {
        name.removeprefix("trace.figures."): tensor.tolist()
        for name, tensor in tensors.items()
        if name.startswith("trace.figures.")
    }
    theta: list[Tensor] = list(tensors["trace.theta"]) if "trace.theta" in tensors else []
    return Fit(
        simulator,
        tensors["data"],
        tensors["theta"],
        method=config["method"],
        simulations=config["simulations"],
        trace=Trace(tensors["trace.simulations"].tolist(), theta, figures),
        covariance=tensors.get("covariance"),
        draws=tensors.get("draws"),
        figures=config["figures"],
        warnings=config["warnings"],
    )


def _shipped(config: dict[str, Any]) -> Simulator:
    """The simulator that the file names, with its settings."""
    known = simulators()
    try:
        made: Simulator = known[config["simulator"]](**config["settings"])
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(
            f"simulator: {config['simulator']!r} cannot be made from its name and settings; give it to load_fit"
        ) from error
    return made
