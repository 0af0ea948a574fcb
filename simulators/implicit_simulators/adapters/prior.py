"""What a user may call a prior: a distribution, a list of scalar ones, or the two corners of a box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.distributions import Distribution, Independent, Uniform

from implicit_simulators.base import as_tensor
from implicit_simulators.priors import Product


def as_prior(prior: Any) -> Distribution:
    """A distribution over vectors of d parameters, from any of these.

    Args:
        prior: A ``torch.distributions.Distribution`` with event shape (d,), or with batch shape (d,) or () and empty
            event shape, whose entries are then taken as independent; a list of such distributions, one parameter or
            several each; or a pair (low, high) of arrays with shape (d,), for a uniform distribution between them.

    Returns:
        A distribution with batch shape () and event shape (d,).

    Raises:
        TypeError: If ``prior`` is none of these.
        ValueError: If it has another shape, or ``low`` is not below ``high``.
    """
    if isinstance(prior, Distribution):
        return _vector(prior)
    if isinstance(prior, Sequence) and not isinstance(prior, (str, bytes)) and len(prior):
        if all(isinstance(part, Distribution) for part in prior):
            return Product(prior)
        if len(prior) == 2 and not any(isinstance(part, Distribution) for part in prior):
            return _box(*prior)
    if not hasattr(prior, "sample"):
        raise TypeError(
            f"prior: expected a torch distribution, a list of them or a pair (low, high); got {type(prior).__name__}, "
            "which has no `sample`"
        )
    raise TypeError(
        f"prior: expected a torch.distributions.Distribution; got {type(prior).__name__}. A prior of "
        "another kind needs a class of its own, with `sample`, `log_prob`, `support` and `event_shape`"
    )


def _vector(prior: Distribution) -> Distribution:
    batch, event = prior.batch_shape, prior.event_shape
    if len(event) == 1 and not batch:
        return prior
    if not event and len(batch) == 1:
        return Independent(prior, 1)
    if not event and not batch:
        return Independent(prior.expand(torch.Size([1])), 1)
    raise ValueError(f"prior: expected event shape (d,) or batch shape (d,); got {tuple(event)} and {tuple(batch)}")


def _box(low: Any, high: Any) -> Distribution:
    low, high = torch.atleast_1d(as_tensor(low, "prior[0]")), torch.atleast_1d(as_tensor(high, "prior[1]"))
    if low.ndim != 1 or low.shape != high.shape:
        raise ValueError(f"prior: expected (low, high) of one shape (d,); got {tuple(low.shape)}, {tuple(high.shape)}")
    if not (torch.isfinite(low) & torch.isfinite(high) & (low < high)).all():
        raise ValueError(f"prior: expected finite low < high; got {low.tolist()} and {high.tolist()}")
    # a point outside has density zero; it is no error
    return Independent(Uniform(low, high, validate_args=False), 1)
