r"""A prior cut down to a box: where an observation can have come from, and nothing else, is worth simulating.

.. math:: \tilde p(\theta) = \prod_j \frac{1}{V_j} \, p_j(\theta_j) \, 1[a_j < \theta_j < b_j]

Draws are the prior's own that fall into the box. As its parameters are independent, so are the columns: each is drawn
by itself, and a box of many narrow sides costs no more than its narrowest.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, constraints

from implicit_simulators import unconstrained
from implicit_simulators.priors import Product

BATCH = 4096
"""Draws of the prior tried at once."""

TRIES = 100
"""Batches without a single draw in the box after which it is held to be empty."""

FAR = 40.0
"""So far out in unconstrained space, a parameter with a bound has arrived there."""


class TruncatedPrior(Distribution):
    """A prior of independent parameters restricted to a box.

    Args:
        prior: The prior over vectors of d parameters.
        low: Lower bounds with shape (d,); minus infinity where there is none but the prior's own.
        high: Upper bounds with shape (d,).

    Raises:
        ValueError: If the prior's parameters are not known to be independent, a lower bound is not below its upper
            bound, or the prior has next to no mass in the box.

    Attributes:
        log_mass: Log of the prior's mass in the box, estimated from draws.
    """

    arg_constraints = {}  # noqa: RUF012 - torch's own idiom
    has_rsample = False

    def __init__(self, prior: Distribution, low: Tensor, high: Tensor) -> None:
        if not independent(prior):
            raise ValueError(
                "prior: expected independent parameters (Independent, Product, a diagonal MultivariateNormal) that "
                f"can be truncated one by one; got {type(prior).__name__}"
            )
        if not (low < high).all():
            raise ValueError(f"low, high: expected bounds that leave something; got {low.tolist()}, {high.tolist()}")
        self.prior = prior
        self.low, self.high = _within_support(prior, low, high)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            inside = self._inside(prior.sample((16 * BATCH,)).reshape(-1, len(low)))
            self._mean = self.sample((BATCH,)).mean(0)
        self.log_mass = float(inside.double().mean(0).clamp_min(1e-6).log().sum())
        super().__init__(torch.Size(), torch.Size([len(low)]), validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The mean of some of its draws, with shape (d,)."""
        return self._mean

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self) -> constraints.Constraint:
        """The box, as far as it has sides."""
        kinds: list[constraints.Constraint] = []
        for a, b in zip(self.low, self.high, strict=True):
            if a.isfinite():
                kinds.append(constraints.interval(a, b) if b.isfinite() else constraints.greater_than(a))
            else:
                kinds.append(constraints.less_than(b) if b.isfinite() else constraints.real)
        return constraints.independent(constraints.cat(kinds, dim=-1, lengths=[1] * len(kinds)), 1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        r"""Draws with shape (\*sample_shape, d).

        Raises:
            ValueError: If the prior has next to no mass in the box.
        """
        shape = torch.Size(sample_shape)
        n, d = shape.numel(), len(self.low)
        found: list[list[Tensor]] = [[self.low.new_empty(0)] for _ in range(d)]
        counts = [0] * d
        tries = 0
        while min(counts) < n:
            if tries == TRIES and not min(counts):
                raise ValueError(
                    f"prior: expected some mass between {self.low.tolist()} and {self.high.tolist()}; got none"
                )
            tries += 1
            tried = self.prior.sample((BATCH,)).reshape(BATCH, d)
            inside = self._inside(tried)
            for j in range(d):
                found[j].append(tried[inside[:, j], j])
                counts[j] += int(inside[:, j].sum())
        return torch.stack([torch.cat(parts)[:n] for parts in found], 1).reshape(*shape, d)

    def _inside(self, theta: Tensor) -> Tensor:
        return (theta > self.low) & (theta < self.high)

    def log_prob(self, value: Tensor) -> Tensor:
        """The prior's density over its mass in the box; minus infinity outside of the box."""
        inside = ((value >= self.low) & (value <= self.high)).all(-1)
        legal = torch.where(inside[..., None], value, self._mean)
        return torch.where(inside, self.prior.log_prob(legal) - self.log_mass, -torch.inf)


def independent(prior: Distribution) -> bool:
    """Whether the parameters are known to be independent under the prior."""
    if isinstance(prior, MultivariateNormal):
        covariance = prior.covariance_matrix
        return torch.equal(covariance, covariance.diagonal().diag())
    one = prior.event_shape == torch.Size([1])
    factors = isinstance(prior, Independent) and not prior.base_dist.event_shape
    return one or factors or isinstance(prior, (Product, TruncatedPrior))


def _within_support(prior: Distribution, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The bounds, and the prior's own where it has tighter ones."""
    transform = unconstrained(prior)
    found = []
    for bound, sign in ((low, -1.0), (high, 1.0)):
        near, far = transform(torch.full((2, len(low)), sign * FAR) * torch.tensor([[1.0], [2.0]]))
        arrived = torch.isclose(near, far, rtol=1e-4, atol=1e-6)
        # nothing is there within rounding, where the prior's density is 0 or not defined
        own = torch.where(arrived, far, sign * torch.inf)
        found.append(torch.maximum(bound, own) if sign < 0 else torch.minimum(bound, own))
    return found[0], found[1]
