"""A positive number of a free output without an exponential: its gradients grow no faster than the ratio itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from implicit_estimators.divergences import softplus


def log_softplus(output: Tensor) -> Tensor:
    """Log softplus(output), elementwise, whatever the output."""
    low = output.clamp(max=-20)
    # far below 0 softplus leaves the range of the dtype before its logarithm, the output itself, does
    return torch.where(output < -20, low - 0.5 * low.exp(), softplus(output.clamp(min=-20)).log())


def tamed_softplus(output: Tensor) -> Tensor:
    """softplus(output), elementwise, going on in the logarithm of the output where a square would leave the dtype."""
    limit = 0.34 * math.log(torch.finfo(output.dtype).max)
    inside = softplus(output.clamp(max=math.exp(limit)))
    return inside * (1 + torch.relu(output.clamp(min=1).log() - limit))
