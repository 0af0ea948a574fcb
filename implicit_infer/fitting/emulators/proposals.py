"""Where in parameter space an emulator learns: a Latin hypercube in a box, or draws from a distribution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from implicit_simulators import Simulator, Stream
from implicit_simulators.base import as_tensor

Region = Distribution | tuple[Any, Any] | None
"""Where an emulator learns: a distribution of theta, a box (low, high), or None for the prior."""


def proposed(simulator: Simulator, region: Region, n: int, seed: int) -> Tensor:
    """Parameters that fill a region, with shape (n, d).

    Raises:
        ValueError: If the region has another shape, is empty, or is not inside the prior's support.
        TypeError: If it is no region.
    """
    d = simulator.dim
    stream = Stream.of(seed, role="prior")
    if isinstance(region, Distribution):
        with stream.forked():
            theta = region.sample((n,)).reshape(n, -1).float()
        if theta.shape[1] != d:
            raise ValueError(f"region: expected a distribution of {d} parameters; got one of {theta.shape[1]}")
    elif isinstance(region, tuple) and len(region) == 2:
        low, high = (as_tensor(end, "region").reshape(-1).float().expand(d) for end in region)
        if not (low < high).all():
            raise ValueError(f"region: expected low < high; got {low.tolist()} and {high.tolist()}")
        theta = low + (high - low) * latin_hypercube(n, d, stream.torch())
    else:
        raise TypeError(f"region: expected a distribution or (low, high); got {type(region).__name__}")
    support: Any = simulator.prior.support
    if not bool(support.check(theta).all()):
        raise ValueError("region: expected parameters inside the prior's support")
    return theta


def latin_hypercube(n: int, d: int, random: torch.Generator) -> Tensor:
    """Points in the unit cube, one in each of n slices along each axis, with shape (n, d).

    References:
        | A comparison of three methods for selecting values of input variables (McKay, Beckman and Conover, 1979)
        | https://doi.org/10.2307/1268522

    Args:
        n: How many.
        d: Dimensions.
        random: Where the numbers come from.
    """
    if n == 0:
        return torch.zeros(0, d)
    order = torch.stack([torch.randperm(n, generator=random) for _ in range(d)], 1)
    return ((order + torch.rand((n, d), generator=random)) / n).clamp(1e-6, 1 - 1e-6)
