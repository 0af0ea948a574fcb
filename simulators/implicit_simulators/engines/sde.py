r"""Stochastic differential equations in batches of rows: torch, any device, differentiable along the path.

.. math:: dX_t = f(X_t)\,dt + G(X_t)\,dW_t

References:
    | Numerical solution of stochastic differential equations (Kloeden & Platen, 1992), section 10.2
    | https://doi.org/10.1007/978-3-662-12616-5
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from implicit_simulators.engines.noise import row_normal

Coefficient = Callable[[Tensor], Tensor]
"""A coefficient as a function of the state (n, k); parameters are closed over."""


def euler_maruyama(
    drift: Coefficient,
    diffusion: Coefficient,
    state: Tensor,
    times: Tensor,
    substeps: int,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    r"""Solve an SDE for a batch of rows; differentiable with respect to anything the coefficients close over.

    .. math:: X_{t+h} = X_t + h f(X_t) + \sqrt h\, G(X_t)\, \xi_t, \quad \xi_t \sim N(0, I)

    The strong error is :math:`O(\sqrt h)`, or O(h) where G is constant; the weak error is O(h). The noise is the
    generator's, so that a gradient is the derivative of one path, noise held fixed. A row's noise does not depend on
    the number of rows (on a CPU).

    The scheme does not know where a state must stay: coefficients that need, say, populations to be positive should see
    ``state.clamp_min(0)`` (full truncation), not a state that is cut off after each step, which is biased.

    Args:
        drift: f, from (n, k) to (n, k).
        diffusion: G, from (n, k) to either (n, k), the diagonal of G, or (n, k, r), a matrix for r sources of noise, as
            in the chemical Langevin equation, whose reactions each move several species.
        state: State at ``times[0]``, with shape (n, k).
        times: Increasing times at which the state is wanted, with shape (T,).
        substeps: Steps between two recorded times.
        generator: Source of the noise.
        noise: The noise itself instead, standard normal with shape (n, (T - 1) * substeps, r).

    Returns:
        States with shape (n, T, k); the first is ``state`` itself.

    Raises:
        ValueError: If ``substeps`` is not positive, or a coefficient has another shape.
    """
    if substeps < 1:
        raise ValueError(f"substeps: expected a positive int; got {substeps}")
    if state.ndim != 2:
        raise ValueError(f"state: expected shape (n, k); got {tuple(state.shape)}")
    n = len(state)
    spread = diffusion(state)
    if spread.shape != state.shape and (spread.ndim != 3 or spread.shape[:2] != state.shape):
        n_k = ", ".join(map(str, state.shape))
        raise ValueError(f"diffusion: expected shape ({n_k}) or ({n_k}, r); got {tuple(spread.shape)}")
    if (slope := drift(state)).shape != state.shape:
        raise ValueError(f"drift: expected shape {tuple(state.shape)}; got {tuple(slope.shape)}")

    widths = (times[1:] - times[:-1]).tolist()
    shape = (n, len(widths) * substeps, spread.shape[-1])
    if noise is None:
        if generator is None:
            raise ValueError("generator: expected a torch.Generator, or noise; got neither")
        noise = row_normal(shape, generator, state.dtype)
    elif noise.shape != shape:
        raise ValueError(f"noise: expected shape {shape}; got {tuple(noise.shape)}")
    # row by row as drawn, step by step as used
    steps = noise.to(state.device).transpose(0, 1).contiguous().unflatten(0, (len(widths), substeps))
    recorded = [state]
    for width, within in zip(widths, steps, strict=True):
        h = width / substeps
        for increment in (within * h**0.5).unbind():
            spread = diffusion(state)
            moved = torch.add(state, drift(state), alpha=h)
            if spread.ndim == 2:
                state = torch.addcmul(moved, spread, increment)
            else:
                state = torch.baddbmm(moved[:, :, None], spread, increment[:, :, None])[:, :, 0]
        recorded.append(state)
    return torch.stack(recorded, dim=1)
