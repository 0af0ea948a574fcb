"""Draws with names: an xarray tree that ArviZ reads, and a table of moments and quantiles."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from implicit_infer.checks import check_count
from implicit_simulators import Seed, Simulator, resolve_seed

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

QUANTILES = (0.025, 0.25, 0.5, 0.75, 0.975)


def labelled(posterior: Any, draws: int = 1000, chains: int = 1, seed: Seed = 0, x: Any = None) -> xr.DataTree:
    """Draws of a posterior in ArviZ's schema.

    The group ``posterior`` has one variable for each parameter with dimensions (chain, draw); ``sample_stats`` has
    ``lp``, the log density (up to a constant) of each draw, where the posterior has one; ``observed_data`` has the
    observation as ``x``. ArviZ 1.0 takes the tree as it is; earlier ones read it from disk
    (``tree.to_netcdf(path)``, ``az.from_netcdf(path)``). Chains are independent draws, not Markov chains.

    References:
        | ArviZ, a unified library for exploratory analysis of Bayesian models: the InferenceData schema
        | https://python.arviz.org/en/stable/schema/schema.html

    Args:
        posterior: The posterior.
        draws: Draws of each chain.
        chains: How many chains.
        seed: An int, a ``torch.Generator`` or None.
        x: The observation, or None for the one that was asked about.

    Returns:
        The tree; the attributes of its groups are the schema's, with the method and the simulations that were spent.

    Raises:
        ValueError: If a number is not positive, or ``x`` has another shape.
    """
    import xarray as xr

    draws, chains, root = check_count(draws, "draws"), check_count(chains, "chains"), resolve_seed(seed)
    observed = posterior.observed if x is None else posterior.simulator.check_observation(x)
    # one call for all chains: fixed draws are then not repeated from chain to chain
    theta = posterior.sample((chains * draws,), observed, seed=root).reshape(chains, draws, -1)
    about = {
        "created_at": datetime.datetime.now(datetime.UTC).isoformat(),
        "inference_library": "implicit-infer",
        "inference_library_version": importlib.metadata.version("implicit-infer"),
        "method": posterior.method,
        "simulator": posterior.simulator.name,
        "settings": json.dumps(posterior.simulator.settings(), default=repr),
        "simulations": posterior.simulations,
        "observation": json.dumps(observed.tolist()) if observed.numel() <= 1000 else "observed_data",
    }
    index = {"chain": range(chains), "draw": range(draws)}
    named = {name: (("chain", "draw"), theta[..., i].numpy()) for i, name in enumerate(posterior.parameter_names)}
    groups = {"posterior": xr.Dataset(named, coords=index, attrs=about)}
    density = _density(posterior, theta, observed)
    if density is not None:
        groups["sample_stats"] = xr.Dataset({"lp": (("chain", "draw"), density.numpy())}, coords=index, attrs=about)
    groups["observed_data"] = _observed(posterior.simulator, observed, about)
    return xr.DataTree.from_dict(groups)


def summarised(posterior: Any, draws: int = 4000, seed: Seed = 0, x: Any = None) -> pd.DataFrame:
    """A row for each parameter: mean, standard deviation and five quantiles of draws.

    Args:
        posterior: The posterior.
        draws: How many draws.
        seed: An int, a ``torch.Generator`` or None.
        x: The observation, or None for the one that was asked about.

    Returns:
        The table, with columns ``mean``, ``sd`` and ``2.5%``, ``25%``, ``50%``, ``75%``, ``97.5%``.

    Raises:
        ValueError: If there are fewer than two draws, or ``x`` has another shape.
    """
    import pandas as pd

    theta = posterior.sample((check_count(draws, "draws", least=2),), x, seed=seed).double()
    quantiles = torch.quantile(theta, torch.tensor(QUANTILES, dtype=torch.float64), dim=0)
    columns = {"mean": theta.mean(0), "sd": theta.std(0)}
    columns |= {f"{100 * share:g}%": values for share, values in zip(QUANTILES, quantiles, strict=True)}
    table = pd.DataFrame({name: values.numpy() for name, values in columns.items()}, list(posterior.parameter_names))
    table.index.name = "parameter"
    return table


def _density(posterior: Any, theta: Tensor, observed: Tensor) -> Tensor | None:
    """The potential of each draw, or None where the posterior has none."""
    try:
        return posterior.potential(theta.flatten(0, 1), observed).reshape(theta.shape[:2])
    except NotImplementedError:
        return None


def _observed(simulator: Simulator, observed: Tensor, about: dict[str, Any]) -> xr.Dataset:
    import xarray as xr

    axes = [f"x_dim_{i}" for i in range(observed.ndim)]
    times = getattr(simulator, "event_times", None)
    index = {axes[0]: list(times)} if times is not None and axes and len(times) == len(observed) else {}
    return xr.Dataset({"x": (axes, observed.numpy())}, coords=index, attrs=about)
