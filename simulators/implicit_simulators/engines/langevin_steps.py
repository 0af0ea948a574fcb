r"""The chemical Langevin equation as a compiled stepwise model, made from a network's propensities.

.. math:: X_{t+h} = X_t + \sum_r \nu_r \left( h\, a_r + \sqrt{h\, a_r}\, \xi_r \right), \qquad
    a_r = \max(h_r(\max(X_t, 0)), 0)

the Euler-Maruyama scheme of :mod:`implicit_simulators.engines.langevin`, on the same noise: that one is for gradients,
other devices and uneven times, this one for speed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_simulators.engines.jump import Propensities
from implicit_simulators.engines.paths import compiled_paths
from implicit_simulators.engines.rows import changes_of
from implicit_simulators.engines.steps import StepProcess, step_process


def step_width(times: Any, substeps: int) -> float | None:
    """The one width of all steps between these times, or None where they differ."""
    gaps = np.diff(np.asarray(times, dtype=np.float64))
    if not len(gaps) or not np.allclose(gaps, gaps[0], rtol=1e-9, atol=0):
        return None
    return float(gaps[0]) / substeps


def langevin_steps(
    propensities: Propensities,
    stoichiometry: Any,
    parameters: Tensor,
    initial: Tensor,
    times: Any,
    substeps: int,
    key: int,
) -> Tensor:
    """Populations at ``times``, which are evenly spaced, with shape (n, T, k); a step that leaves the reals gives NaN.

    Args:
        propensities: ``(x_1, ..., x_k, p_1, ..., p_m) -> (h_1, ..., h_R)`` on floats.
        stoichiometry: What each reaction adds to each species, with shape (R, k).
        parameters: Shape (n, m).
        initial: Populations at ``times[0]``, with shape (n, k).
        times: Times at which populations are wanted, with shape (T,).
        substeps: Steps between two of them.
        key: Key of the random numbers.
    """
    width = step_width(times, substeps)
    assert width is not None  # the caller has asked
    process = langevin_process(propensities, changes_of(stoichiometry), parameters.shape[1])
    steps = parameters.new_tensor([width, width**0.5], dtype=torch.float64).to(parameters.dtype)
    columns = torch.cat((parameters, steps.expand(len(parameters), 2)), 1)
    path = compiled_paths(process, columns, initial, (len(times) - 1) * substeps, key, every=substeps)
    return torch.cat((initial[:, None], path), 1)


@lru_cache(maxsize=64)
def langevin_process(
    propensities: Propensities, stoichiometry: tuple[tuple[int, ...], ...], parameters: int
) -> StepProcess:
    """The stepwise model of a network: states are populations; parameters are the network's, h and its root."""
    noise = ("normal",) * len(stoichiometry)
    return step_process(_step(propensities, stoichiometry, parameters), states=len(stoichiometry[0]), noise=noise)


def _step(
    propensities: Propensities, stoichiometry: tuple[tuple[int, ...], ...], parameters: int
) -> Callable[..., tuple[float, ...]]:
    """The step, written out reaction by reaction: numba takes functions of a fixed number of numbers."""
    k, reactions = len(stoichiometry[0]), len(stoichiometry)
    x, p = [f"x{i}" for i in range(k)], [f"p{i}" for i in range(parameters)]
    z = [f"z{r}" for r in range(reactions)]
    seen = ", ".join([f"max({name}, 0.0)" for name in x] + p)
    source = [f"def step({', '.join([*x, *p, 'width', 'root', *z])}):", f"    h = rates({seen})"]
    for r in range(reactions):
        source += [f"    a{r} = max(h[{r}], 0.0)", f"    c{r} = width * a{r} + root * sqrt(a{r}) * z{r}"]
    moved = []
    for i in range(k):
        terms = [f"{float(change[i])} * c{r}" for r, change in enumerate(stoichiometry) if change[i]]
        moved.append(" + ".join([x[i], *terms]))
    source.append(f"    return ({', '.join(moved)},)")
    namespace: dict[str, Any] = {"rates": propensities, "sqrt": np.sqrt}
    exec("\n".join(source), namespace)
    step: Callable[..., tuple[float, ...]] = namespace["step"]
    return step
