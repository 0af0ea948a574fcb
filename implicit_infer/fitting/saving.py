"""Fits on disk: one safetensors file with JSON in its header. Nothing in it can run."""

from __future__ import annotations

import os
from typing import Any

import torch

from implicit_estimators.networks import storage

KIND = "fit"
"""What the file's header says that it holds."""


def save_fit(fit: Any, path: str | os.PathLike[str]) -> None:
    """Write a fit to one file.

    Args:
        fit: What was fitted, a ``Fit``.
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
