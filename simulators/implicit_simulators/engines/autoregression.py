"""First-order autoregressions in batches of rows, which exact Gaussian diffusions and latent volatilities are."""

from __future__ import annotations

import torch
from torch import Tensor


def autoregression(start: Tensor, coefficient: Tensor, noise: Tensor) -> Tensor:
    r"""Solve :math:`h_t = a\,h_{t-1} + u_t` for each row, from :math:`h_0` on.

    Differentiable in all three arguments.

    Args:
        start: :math:`h_0`, with shape (n,).
        coefficient: a, with shape (n,).
        noise: :math:`u_1, \dots, u_T`, with shape (n, T).

    Returns:
        :math:`h_1, \dots, h_T`, with shape (n, T).

    Example:
        >>> autoregression(torch.tensor([1.0]), torch.tensor([0.5]), torch.zeros(1, 3))
        tensor([[0.5000, 0.2500, 0.1250]])
    """
    states = []
    for shock in noise.T.contiguous().unbind():  # row by row as drawn, step by step as used
        start = torch.addcmul(shock, coefficient, start)
        states.append(start)
    return torch.stack(states, 1) if states else noise
