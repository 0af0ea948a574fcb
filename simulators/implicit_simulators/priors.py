"""Priors that torch.distributions lacks: a truncated normal, and independent parameters of different families."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, biject_to, constraints
from torch.distributions.transforms import IndependentTransform, Transform
from torch.distributions.utils import broadcast_all


class TruncatedNormal(Distribution):
    r"""A normal distribution restricted to :math:`x > a`.

    .. math:: \log p(x) = \log \phi\left(\frac{x - \mu}{\sigma}\right) - \log\sigma
        - \log\Phi\left(\frac{\mu - a}{\sigma}\right), \quad x > a

    Args:
        loc: Mean of the untruncated normal, any shape.
        scale: Its standard deviation, positive.
        low: The lower bound a.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive, "low": constraints.real}  # noqa: RUF012 - torch's own idiom
    has_rsample = True

    def __init__(
        self, loc: Tensor | float, scale: Tensor | float, low: Tensor | float = 0.0, validate_args: bool | None = None
    ) -> None:
        self.loc, self.scale, self.low = broadcast_all(loc, scale, low)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> constraints.Constraint:
        """All x greater than ``low``."""
        return constraints.greater_than(self.low)

    @property
    def mean(self) -> Tensor:
        r""":math:`\mu + \sigma \phi(\alpha) / \Phi(-\alpha)` with :math:`\alpha = (a - \mu) / \sigma`."""
        alpha = (self.low - self.loc) / self.scale
        return self.loc + self.scale * self._hazard(alpha)

    @property
    def variance(self) -> Tensor:
        r""":math:`\sigma^2 (1 + \alpha h - h^2)` with the hazard :math:`h = \phi(\alpha) / \Phi(-\alpha)`."""
        alpha = (self.low - self.loc) / self.scale
        hazard = self._hazard(alpha)
        return self.scale**2 * (1 + alpha * hazard - hazard**2)

    @staticmethod
    def _hazard(alpha: Tensor) -> Tensor:
        return torch.exp(-0.5 * alpha**2 - 0.5 * math.log(2 * math.pi) - torch.special.log_ndtr(-alpha))

    def expand(self, batch_shape: Any, _instance: Any = None) -> TruncatedNormal:
        """The same distribution with parameters expanded to ``batch_shape``."""
        shape = torch.Size(batch_shape)
        return TruncatedNormal(
            self.loc.expand(shape), self.scale.expand(shape), self.low.expand(shape), validate_args=False
        )

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw by the inverse of the distribution function, in double precision, differentiably."""
        shape = self._extended_shape(torch.Size(sample_shape))
        uniform = torch.rand(shape, dtype=torch.float64, device=self.loc.device).clamp_min(1e-300)
        loc, scale, low = self.loc.double(), self.scale.double(), self.low.double()
        z = (loc - low) / scale
        # of the part that is kept; torch's ndtr is zero from some eight standard deviations on, log_ndtr is not
        mass = torch.where(z > -5, torch.special.ndtr(z), torch.special.log_ndtr(z).exp())
        draw = loc - scale * torch.special.ndtri(uniform * mass)
        smallest = torch.nextafter(self.low, torch.full_like(self.low, torch.inf))
        return torch.maximum(draw.to(self.loc.dtype), smallest)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density at ``value``; minus infinity at or below ``low``."""
        z = (value - self.loc) / self.scale
        normaliser = torch.special.log_ndtr((self.loc - self.low) / self.scale)
        inside = -0.5 * z**2 - 0.5 * math.log(2 * math.pi) - self.scale.log() - normaliser
        return torch.where(value > self.low, inside, torch.full_like(inside, -torch.inf))

    def cdf(self, value: Tensor) -> Tensor:
        """P(X <= value)."""
        kept = torch.special.log_ndtr((self.loc - self.low) / self.scale)
        above = torch.special.log_ndtr((self.loc - value) / self.scale)
        return (-torch.expm1(above - kept)).clamp(0, 1)


class Product(Distribution):
    r"""Independent parameters of different families as one distribution over vectors.

    .. math:: p(\theta) = \prod_j p_j(\theta_j)

    Parameters of one family are best given together, as one distribution with a batch of several: the density is then
    evaluated once for all of them.

    Args:
        marginals: Distributions of one parameter (empty batch shape) or of several (batch shape (k,)), with empty event
            shape, in the order of the parameters.

    Raises:
        ValueError: If a marginal has another shape, or none is given.
    """

    arg_constraints = {}  # noqa: RUF012 - torch's own idiom
    has_rsample = False

    def __init__(self, marginals: Sequence[Distribution]) -> None:
        if not marginals:
            raise ValueError("marginals: expected at least one distribution; got none")
        for i, marginal in enumerate(marginals):
            if marginal.event_shape or len(marginal.batch_shape) > 1:
                shape = tuple(marginal.batch_shape + marginal.event_shape)
                raise ValueError(f"marginals[{i}]: expected independent scalars; got a distribution of shape {shape}")
        self.marginals = tuple(m if m.batch_shape else m.expand(torch.Size([1])) for m in marginals)
        self.lengths = [m.batch_shape[0] for m in self.marginals]
        # where a value is off the support, densities are evaluated here instead, so that gradients stay finite
        self._inside = [m.sample().detach() for m in self._forked()]
        super().__init__(torch.Size(), torch.Size([sum(self.lengths)]), validate_args=False)

    def _forked(self) -> Iterator[Distribution]:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            yield from self.marginals

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self) -> constraints.Constraint:
        """The product of the marginals' supports."""
        supports = [m.support for m in self.marginals]
        return constraints.independent(constraints.cat(supports, dim=-1, lengths=self.lengths), 1)

    @property
    def mean(self) -> Tensor:
        """The marginals' means, with shape (d,)."""
        return torch.cat([m.mean for m in self.marginals])

    @property
    def variance(self) -> Tensor:
        """The marginals' variances, with shape (d,)."""
        return torch.cat([m.variance for m in self.marginals])

    def sample(self, sample_shape: Any = ()) -> Tensor:
        r"""Draws with shape (\*sample_shape, d)."""
        with torch.no_grad():
            return torch.cat([m.sample(torch.Size(sample_shape)) for m in self.marginals], dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """The sum of the marginals' log densities, with shape ``value.shape[:-1]``; minus infinity off the support."""
        total = torch.zeros(value.shape[:-1], dtype=value.dtype, device=value.device)
        for marginal, inside, column in zip(self.marginals, self._inside, value.split(self.lengths, -1), strict=True):
            legal = marginal.support.check(column)  # type: ignore[union-attr]  # a distribution without support has no density
            density = marginal.log_prob(torch.where(legal, column, inside.to(column)))
            total = total + torch.where(legal, density, -torch.inf).sum(-1)
        return total


def unconstrained(prior: Any) -> Transform:
    """The bijection from all of R^d onto the support of ``prior``, with event dimension 1.

    Its ``inv`` maps parameters to unconstrained space; ``log_abs_det_jacobian`` sums over the d parameters. Inference
    works in that space, so that no method can put mass outside the prior's support.

    Raises:
        TypeError: If the prior has no ``support`` that torch can map to (``torch.distributions.biject_to``).
    """
    try:
        transform = biject_to(prior.support)
    except (AttributeError, NotImplementedError) as error:
        name = type(prior).__name__
        raise TypeError(
            f"prior: expected a distribution with a continuous support; {name} has none: {error}"
        ) from error
    missing = 1 - transform.codomain.event_dim
    return IndependentTransform(transform, missing) if missing > 0 else transform
