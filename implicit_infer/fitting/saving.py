"""Fits on disk: one safetensors file with JSON in its header. Nothing in it can run."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.networks import storage
from implicit_infer.catalogue import find
from implicit_infer.fitting.base import Fit, Trace
from implicit_simulators import Simulator

KIND = "fit"


def save_fit(fit: Fit, path: str | os.PathLike[str]) -> None:
    """Write a fit to one file.

    Args:
        fit: What was fitted.
        path: The file; its folder must exist.

    Raises:
        TypeError: If its figures or the simulator's settings are no JSON.
    """
    trace = fit.trace
    tensors = {"data": fit.data, "theta": fit.theta, "trace.simulations": torch.tensor(trace.simulations)}
    if trace.theta:
        tensors["trace.theta"] = torch.stack(trace.theta)
    tensors |= {f"trace.figures.{name}": torch.tensor(v, dtype=torch.float64) for name, v in trace.figures.items()}
    tensors |= {
        name: value for name, value in (("covariance", fit.covariance), ("draws", fit.draws)) if value is not None
    }
    config = {
        "simulator": fit.simulator.name,
        "settings": fit.simulator.settings(),
        "parameters": list(fit.simulator.parameter_names),
        "method": fit.method,
        "simulations": fit.simulations,
        "figures": fit.figures,
        "warnings": fit.warnings,
    }
    storage.save(path, KIND, tensors, config)


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
    from implicit_infer.catalogue import simulators

    try:
        made: Simulator = find(config["simulator"], simulators(), "simulator")(**config["settings"])
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"simulator: {config['simulator']!r} cannot be made from its name and settings; give it to load_fit"
        ) from error
    return made
