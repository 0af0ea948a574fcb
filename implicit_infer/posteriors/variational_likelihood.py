"""A simulator's log likelihood as a term of a variational bound: differentiable in u, whatever it is far from the data.

Far from the posterior a likelihood may be minus infinity, or so steep that one draw outweighs all others of a batch.
Where it is not finite, a draw has no slope and is left out; elsewhere the slope of each draw is cut to a length.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions.transforms import Transform

from implicit_simulators import Simulator

LogLikelihood = Callable[[Tensor, Tensor], Tensor]
"""Of theta with shape (n, d), and x with shape event_shape or one for each row; result (n,)."""


def differentiable_likelihood(simulator: Simulator, method: str) -> LogLikelihood:
    """The simulator's ``log_likelihood``, tried out at draws from the prior.

    Args:
        simulator: The simulator.
        method: Who asks, for the message.

    Returns:
        The function.

    Raises:
        ValueError: If the simulator has none, or it is not differentiable in theta.
    """
    try:
        function = simulator.log_likelihood  # type: ignore[attr-defined]  # what is asked here
    except AttributeError:
        raise ValueError(
            f"simulator: {method!r} needs log_likelihood(theta, x), differentiable in theta; {simulator.name} has none "
            "(joint-contrastive, lfvi, gatsbi and nre need simulations only)"
        ) from None
    theta = simulator.sample_prior(8, seed=0)
    x = simulator.simulate(theta, seed=0)
    with torch.enable_grad():
        value = function(theta.clone().requires_grad_(), x)  # a refusal of the simulator's own says more than ours
    if not value.requires_grad:
        raise ValueError(
            f"simulator: {method!r} needs log_likelihood(theta, x) to be differentiable in theta; that of "
            f"{simulator.name} records no gradient"
        )
    if not torch.isfinite(value).any():
        raise ValueError(
            f"simulator: {method!r} needs a log_likelihood that is finite at (theta, x) of the simulator itself; that "
            f"of {simulator.name} is not at any of 8"
        )
    return function


def tamed(function: LogLikelihood, transform: Transform, u: Tensor, x: Tensor, steepest: float) -> Tensor:
    r"""Mean log likelihood of draws, with the gradient in each draw's u cut to a length.

    Args:
        function: The log likelihood.
        transform: From u to theta.
        u: Draws with shape (n, d).
        x: The data of each, or of all.
        steepest: The largest length of a draw's gradient.

    Returns:
        The mean over the draws where it is finite, with shape (); 0 where it is nowhere.
    """
    place = u.detach().requires_grad_()
    with torch.enable_grad():
        values = function(transform(place), x)
        finite = torch.isfinite(values)
        (slope,) = torch.autograd.grad(torch.where(finite, values, 0.0).sum(), place)
    legal = finite & torch.isfinite(slope).all(1)
    slope = torch.where(legal[:, None], slope, 0.0)
    slope = slope * (steepest / slope.norm(dim=1, keepdim=True).clamp_min(steepest))
    count = legal.sum().clamp_min(1)
    value = torch.where(legal, values.detach(), 0.0).sum() / count
    descended = (slope * u).sum() / count
    return value + descended - descended.detach()
