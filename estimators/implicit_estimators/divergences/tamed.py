"""Exponentials and logarithms of log-ratios that neither overflow nor lose their slope."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

LOG2 = math.log(2.0)


def exp_minus_one(x: Tensor, squared: bool = False) -> Tensor:
    r""":math:`e^x - 1`, continued by its tangent from a limit on, where :math:`e^x` nears the end of the dtype.

    The limit leaves room for products with x and for sums over millions of rows; a log-ratio above it would take more
    than :math:`e^{60}` samples to learn. The continuation is convex and increasing, so a large output is still pushed
    back.

    Args:
        x: Exponents, any shape.
        squared: Leave room for the square of the result too (half of the limit).

    Returns:
        Values with the shape of ``x``.
    """
    limit = (0.34 if squared else 0.68) * math.log(torch.finfo(x.dtype).max)
    inside = x.clamp(max=limit)
    # autograd takes the slope of expm1 as its value plus 1, which far below 0 rounds to nothing
    excess = torch.where(inside < -1, inside.exp() - 1, torch.expm1(inside))
    return excess + math.exp(limit) * torch.relu(x - limit)


def softplus(x: Tensor) -> Tensor:
    r""":math:`\log(1 + e^x)`, exact to the last digit; torch's own is x from 20 on, which in float64 is 2e-9 off."""
    return -logsigmoid(-x)
