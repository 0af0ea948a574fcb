r"""Reaction networks as differential equations: chemical Langevin and rate equations, in torch, differentiable.

For reactions that happen at rates :math:`h_r(x)` and add :math:`\nu_r` to x,

.. math:: dX = \sum_r \nu_r \left( h_r(X)\, dt + \sqrt{h_r(X)}\, dW_r \right)

approximates the jump process where every reaction happens often in a time that changes no rate much; without its noise
it is the rate equation, the limit of many individuals. The rates are the function that compiled engines take, called
with columns of a batch instead of the floats of a row.

References:
    | The chemical Langevin equation (Gillespie, 2000)
    | https://doi.org/10.1063/1.481811
    | A comparison of biased simulation schemes for stochastic volatility models (Lord, Koekkoek & Van Dijk, 2010)
    | https://doi.org/10.1080/14697680802392496
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from implicit_simulators.engines.jump import Propensities
from implicit_simulators.engines.ode import rk4
from implicit_simulators.engines.sde import euler_maruyama

FLOOR = 1e-12
"""Below it a rate's square root has no gradient: that of a rate of zero would be infinite."""


def rates_of_columns(propensities: Propensities, x: Tensor, parameters: Tensor) -> Tensor:
    """The rates for populations (n, k) and parameters (n, m), with shape (n, R)."""
    found = propensities(*x.unbind(1), *parameters.unbind(1))
    return torch.stack([torch.as_tensor(h).to(x).expand(len(x)) for h in found], 1)


def network_paths(
    propensities: Propensities,
    stoichiometry: Any,
    parameters: Tensor,
    initial: Tensor,
    times: Any,
    substeps: int,
    noise: Tensor | None = None,
) -> Tensor:
    r"""Solve the chemical Langevin equation, or the rate equations, for a batch of rows.

    Rates see populations, and are themselves, cut off at zero (full truncation, Lord et al. 2010): a path may step
    below zero in between, but is drawn back and recorded as zero.

    Args:
        propensities: ``(x_1, ..., x_k, p_1, ..., p_m) -> (h_1, ..., h_R)`` on tensors of shape (n,).
        stoichiometry: What each reaction adds to each species, with shape (R, k).
        parameters: Shape (n, m).
        initial: Populations at ``times[0]``, with shape (n, k).
        times: Increasing times at which populations are wanted, with shape (T,).
        substeps: Steps between two recorded times: Euler-Maruyama with noise, Runge-Kutta without.
        noise: Standard normal, with shape (n, (T - 1) * substeps, R); None for the rate equations.

    Returns:
        Populations with shape (n, T, k). Rows whose rates are negative or undefined at the start are NaN, and so are
        numbers that overflow.
    """
    changes = torch.as_tensor(stoichiometry).to(parameters)
    moves = [[(r, float(change)) for r, change in enumerate(column) if change] for column in changes.T.tolist()]
    times = torch.as_tensor(times, dtype=torch.float64)
    legal = starts_legally(propensities, initial, parameters)
    known: list[Any] = [None, None]  # the last state and its rates, which drift and diffusion both ask for

    def rates(z: Tensor) -> Tensor:
        if known[0] is not z:
            known[:] = z, rates_of_columns(propensities, z.clamp_min(0), parameters).clamp_min(0)
        return known[1]

    def drift(z: Tensor) -> Tensor:
        # written out: the rounding of a matrix product depends on the number of rows
        h = rates(z).unbind(1)
        zero = torch.zeros_like(z[:, 0])
        return torch.stack([sum((change * h[r] for r, change in column), zero) for column in moves], 1)

    def diffusion(z: Tensor) -> Tensor:
        h = rates(z)
        root = torch.where(h > 0, h.clamp_min(FLOOR).sqrt(), torch.zeros_like(h))
        return changes.T * root[:, None]

    if noise is None:
        states = rk4(drift, initial, times, substeps)
    else:
        states = euler_maruyama(drift, diffusion, initial, times, substeps, noise=noise)
    return torch.where(legal[:, None, None] & torch.isfinite(states), states, torch.nan).clamp_min(0)


def starts_legally(propensities: Propensities, initial: Tensor, parameters: Tensor) -> Tensor:
    """Which rows have rates that are defined and not negative at the start, with shape (n,)."""
    return (rates_of_columns(propensities, initial, parameters) >= 0).all(1)


def check_columns(propensities: Propensities, x: Tensor, parameters: Tensor, reactions: int) -> None:
    """Refuse a function that torch cannot run for a whole column, or runs to other numbers than for one row.

    Args:
        propensities: The function.
        x: Some populations, with shape (n, k).
        parameters: As many parameters, with shape (n, m).
        reactions: Number of rates it should give.

    Raises:
        ValueError: If it raises, or gives other rates for a column than row by row, or another number of them.
    """
    advice = (
        "Conditions, `min`, `max` and `math` functions work on single numbers only: write them with torch.where, "
        'torch.exp and the like, or choose dynamics="jump" or "tau", which compile the function instead'
    )
    called = "propensities: the function is called with torch columns, a tensor (n,) for each count and parameter, and"
    try:
        found = rates_of_columns(propensities, x, parameters)
    except Exception as error:
        raise ValueError(f"{called} it raised {type(error).__name__}: {error}. {advice}") from error
    if found.shape[1] != reactions:
        raise ValueError(f"propensities: expected a tuple of {reactions} rates, one a reaction; got {found.shape[1]}")
    rows = [rates_of_columns(propensities, x[i : i + 1], parameters[i : i + 1]) for i in range(len(x))]
    if not torch.allclose(found, torch.cat(rows), rtol=1e-5, equal_nan=True):
        raise ValueError(f"{called} it gave other rates than for its rows one by one. {advice}")
