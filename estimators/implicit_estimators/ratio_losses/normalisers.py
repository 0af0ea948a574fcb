"""What a log-ratio that is known up to a constant must be lowered by, and the logarithms of means this takes."""

from __future__ import annotations

import torch
from torch import Tensor

from implicit_estimators.ratio_losses.base import shares_of


def log_mean_exp(output: Tensor, weights: Tensor | None) -> Tensor:
    """The logarithm of the weighted mean of exp(output) at samples of q."""
    return (output.flatten() + shares_of(output, weights, "q").log()).logsumexp(0)


def bennett(output_p: Tensor, output_q: Tensor) -> float:
    r"""The c for which :math:`\mathbb{E}_p[\sigma(c - T)] = \mathbb{E}_q[\sigma(T - c)]`.

    Bennett's acceptance ratio: of all weightings of both sets that give :math:`\log \mathbb{E}_q[e^T]`, the one of
    least variance. The plain mean of :math:`e^T` has infinite variance where r has.

    References:
        | Efficient estimation of free energy differences from Monte Carlo data (Bennett, 1976)
        | https://doi.org/10.1016/0021-9991(76)90078-4

    Args:
        output_p: T at samples of p.
        output_q: T at samples of q.

    Returns:
        The logarithm of the mean of exp T over q.
    """
    p, q = output_p.detach().double(), output_q.detach().double()
    low, high = (float(torch.cat([p, q]).aminmax()[i]) + reach for i, reach in enumerate((-50.0, 50.0)))
    for _ in range(60):
        middle = (low + high) / 2
        if (middle - p).sigmoid().mean() > (q - middle).sigmoid().mean():
            high = middle
        else:
            low = middle
    return (low + high) / 2
