r"""Independent normals restricted to a box: the posterior of a normal's mean under a uniform prior.

.. math:: p(\theta) = \prod_j \frac{1}{\sigma_j}\,
    \frac{\phi((\theta_j - \mu_j) / \sigma_j)}{\Phi(\beta_j) - \Phi(\alpha_j)}, \quad
    \alpha_j = \frac{a_j - \mu_j}{\sigma_j}, \ \beta_j = \frac{b_j - \mu_j}{\sigma_j}
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

FARTHEST = 37.0
"""Standard deviations from the mean to the box beyond which the normal has no mass in double precision."""


class BoxNormal(Distribution):
    r"""Normal, restricted to :math:`a_j \le \theta_j \le b_j`; parameters broadcast, and the last axis is the event.

    Args:
        loc: Mean of the unrestricted normal, with shape (..., d).
        scale: Its standard deviation, positive.
        low: Lower corner of the box.
        high: Upper corner.

    Raises:
        ValueError: If the box lies more than 37 standard deviations from the mean, or is empty.
    """

    arg_constraints = {}  # noqa: RUF012 - torch's own idiom
    has_rsample = False

    def __init__(self, loc: Tensor, scale: Tensor | float, low: Tensor | float, high: Tensor | float) -> None:
        tensors = [torch.as_tensor(value, dtype=loc.dtype, device=loc.device) for value in (scale, low, high)]
        self.loc, self.scale, self.low, self.high = torch.broadcast_tensors(loc, *tensors)
        if not (self.low < self.high).all():
            raise ValueError(f"low: expected less than high; got {self.low.tolist()} and {self.high.tolist()}")
        mean, deviation = self.loc.double(), self.scale.double()
        below, above = (self.low.double() - mean) / deviation, (self.high.double() - mean) / deviation
        # the tail with the box in it is turned to the left, where the distribution function keeps its digits
        self._flip = torch.where(below + above > 0, -1.0, 1.0)
        self._from = torch.where(self._flip < 0, -above, below)
        self._to = torch.where(self._flip < 0, -below, above)
        if not (self._to > -FARTHEST).all():
            raise ValueError(
                f"loc: expected a mean within {FARTHEST:g} standard deviations of the box; got {self.loc.tolist()}"
            )
        start, end = torch.special.log_ndtr(self._from), torch.special.log_ndtr(self._to)
        self._log_masses = end + torch.log(-torch.expm1(start - end))
        super().__init__(self.loc.shape[:-1], self.loc.shape[-1:], validate_args=False)

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self) -> constraints.Constraint:
        """The box."""
        return constraints.independent(constraints.interval(self.low, self.high), 1)

    @property
    def log_mass(self) -> Tensor:
        """Log probability of the box under the unrestricted normal, in float64, with the batch shape."""
        return self._log_masses.sum(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw by the inverse of the distribution function, in double precision."""
        shape = self._extended_shape(torch.Size(sample_shape))
        uniform = torch.rand(shape, dtype=torch.float64, device=self.loc.device)
        # torch's ndtr is zero beyond eight standard deviations; its logarithm is not minus infinity there
        start, end = torch.special.log_ndtr(self._from).exp(), torch.special.log_ndtr(self._to).exp()
        z = self._flip * torch.special.ndtri(start + uniform * (end - start))
        draw = (self.loc.double() + self.scale.double() * z).to(self.loc.dtype)
        # rounding, and the infinities of the two ends; torch's uniform priors have no density at their upper bound
        return torch.minimum(torch.maximum(draw, self.low), self.high.nextafter(self.low))

    def log_prob(self, value: Tensor) -> Tensor:
        r"""Log density at points with shape (\*, d); minus infinity outside of the box."""
        inside = ((value >= self.low) & (value <= self.high)).all(-1)
        z = (value - self.loc) / self.scale
        density = (-0.5 * z**2 - self.scale.log() - 0.5 * math.log(2 * math.pi) - self._log_masses.to(z)).sum(-1)
        return torch.where(inside, density, torch.full_like(density, -torch.inf))
