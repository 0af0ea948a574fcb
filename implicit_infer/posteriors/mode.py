r"""Where a posterior's density is highest, by the cross-entropy method: no gradients, any number of modes.

In unconstrained space a normal is drawn from, the best tenth of its draws by

.. math:: \log p(\theta \mid x) + \text{const}, \quad \theta = T(u),

is kept, and the normal is fitted to them and to nothing else, again and again, until it has shrunk to a point. The
search starts at the posterior's own best draws. The density is that of theta, not of u, so that the mode is the one of
the parameters as they are named; at the edge of a bounded prior it may lie on the edge itself.

References:
    | The cross-entropy method (Rubinstein & Kroese, 2004)
    | https://doi.org/10.1007/978-1-4757-4321-0
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from implicit_simulators import Seed, Stream, resolve_seed, unconstrained

DRAWS, STARTS, ROUNDS, SHARE = 1000, 50, 60, 0.1
"""Draws of the posterior, the best of them that the search starts from, rounds, and what each round keeps."""


def highest(posterior: Any, x: Any = None, seed: Seed = 0) -> Tensor:
    """The parameters at which the posterior's density is highest.

    Args:
        posterior: A posterior with a potential.
        x: The observation, or None for the one that was asked about.
        seed: An int, a ``torch.Generator`` or None.

    Returns:
        Theta with shape (d,).

    Raises:
        NotImplementedError: If the posterior has no density.
    """
    root = resolve_seed(seed)
    generator = Stream.of(root, 1, "sample").torch()
    transform = unconstrained(posterior.simulator.prior)
    theta = posterior.sample((DRAWS,), x, seed=root)
    value = posterior.potential(theta, x)
    first = value.topk(STARTS).indices
    # around the best draw alone: with several modes, the mean of the best would lie between them
    best, most = theta[first[0]], value[first[0]]
    nearest = (transform.inv(theta) - transform.inv(best)).square().sum(1).topk(STARTS, largest=False).indices
    spread = transform.inv(theta[nearest]).std(0) + 1e-6
    centre = transform.inv(best)
    for _ in range(ROUNDS):
        noise = torch.randn((DRAWS, len(centre)), generator=generator, dtype=centre.dtype)
        u = centre + spread * noise
        theta = transform(u)
        value = torch.nan_to_num(posterior.potential(theta, x), nan=-torch.inf)
        top = value.topk(max(2, int(SHARE * DRAWS)))
        if top.values[0] > most:
            most, best = top.values[0], theta[top.indices[0]]
        centre, spread = u[top.indices].mean(0), u[top.indices].std(0)
    middle = transform(centre)
    return middle if posterior.potential(middle[None], x)[0] > most else best
