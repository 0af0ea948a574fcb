r"""Where emulators live: simulations in units in which a linear Gaussian simulator is standard normal noise.

.. math::
    \theta \;\to\; c, \qquad x \;\to\; s = \text{standardised } x, \qquad v = L^{-1} (s - A c - b),

where :math:`s \approx A c + b` is the ridge regression of simulations on parameters, with residual covariance
:math:`L L^\top`. A network then learns how v, given c, differs from standard normal noise, which is nothing at all for
a linear Gaussian simulator: its gradient in theta is right before anything is trained. The regression is undone
exactly.

The columns of c are the parameters themselves where they are bounded on both sides or on none, and the logarithm of
their distance to the bound where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributions.transforms import Transform

from implicit_estimators.networks.standardise import Standardiser
from implicit_simulators import Simulator, unconstrained

HEAVY = 10.0
"""Standardised simulations beyond this are squashed by arsinh before a network sees them."""

FLAT = 4
"""Simulations for each entry of x below which residuals are taken as uncorrelated."""


class Frame(nn.Module):
    r"""The maps between (theta, x) and (c, v).

    Args:
        simulator: Gives the prior's support and the shape of x.
        tensors: What :meth:`fit` found, by name.
        squash: Whether simulations are squashed by arsinh.
    """

    raw: Tensor
    centre: Tensor
    scale: Tensor
    slope: Tensor
    intercept: Tensor
    spread: Tensor
    whiten: Tensor

    def __init__(self, simulator: Simulator, tensors: Mapping[str, Tensor], squash: bool) -> None:
        super().__init__()
        self.transform: Transform = unconstrained(simulator.prior)
        self.event_shape = simulator.event_shape
        self.standardise = Standardiser(tensors["standardise.location"], tensors["standardise.scale"], squash)
        for name in ("raw", "centre", "scale", "slope", "intercept", "spread", "whiten"):
            # in one layout, so that what is read from a file makes the same rounding errors
            self.register_buffer(name, tensors[name].clone(memory_format=torch.contiguous_format))

    @classmethod
    def fit(cls, simulator: Simulator, theta: Tensor, x: Tensor, ridge: float = 1e-4) -> Frame:
        r"""Fit to simulations.

        Args:
            simulator: The simulator.
            theta: Their parameters, with shape (n, d), inside the prior's support.
            x: The simulations, with shape (n, \*event_shape), finite.
            ridge: Ridge penalty of the regression, relative to n.

        Returns:
            The frame, in the dtype of ``x``.

        Raises:
            ValueError: If there are fewer than two simulations.
        """
        if len(x) < 2:
            raise ValueError(f"budget: expected at least 2 simulations that did not fail; got {len(x)}")
        rows = x.reshape(len(x), -1)
        standardise = Standardiser.fit(rows)
        if bool((standardise(rows).abs() > HEAVY).any()):
            standardise = Standardiser.fit(rows, robust=True)
        transform = unconstrained(simulator.prior)
        raw = bounded(transform, simulator.dim)
        places = torch.where(raw.to(theta.device), theta, transform.inv(theta)).double()
        centre, scale = places.mean(0), places.std(0)
        scale = torch.where(scale > 0, scale, 1.0)
        c, s = (places - centre) / scale, standardise(rows).double()
        n, d = c.shape
        gram = c.T @ c + ridge * n * torch.eye(d, dtype=c.dtype, device=c.device)
        intercept = s.mean(0)
        slope = torch.linalg.solve(gram, c.T @ (s - intercept)).T
        residuals = s - c @ slope.T - intercept
        covariance = residuals.T @ residuals / n
        # a floor for entries that the parameters determine exactly, or that do not vary
        floor = covariance.diagonal().clamp_min(1e-12)
        if s.shape[1] * FLAT > n:
            covariance = floor.diag()
        spread = torch.linalg.cholesky(covariance + 1e-6 * floor.diag())
        found = {
            "centre": centre,
            "scale": scale,
            "slope": slope,
            "intercept": intercept,
            "spread": spread,
            "whiten": torch.linalg.inv(spread),
        }
        tensors = {name: value.to(x.dtype) for name, value in found.items()} | {"raw": raw.to(x.device)}
        tensors |= {f"standardise.{name}": value for name, value in standardise.state_dict().items()}
        return cls(simulator, tensors, standardise.squash)

    @property
    def squash(self) -> bool:
        """Whether simulations are squashed by arsinh."""
        return self.standardise.squash

    def conditions(self, theta: Tensor) -> Tensor:
        """C with shape (n, d) at parameters inside the support, with shape (n, d)."""
        places = torch.where(self.raw, theta, self.transform.inv(torch.where(self.raw, self._inside(theta), theta)))
        return (places - self.centre) / self.scale

    def _inside(self, theta: Tensor) -> Tensor:
        # what is not used must have a finite gradient all the same
        return self.centre.to(theta).expand_as(theta)

    def free(self, x: Tensor, c: Tensor) -> Tensor:
        r"""V with shape (n, k) for x with shape (n, \*event_shape) and c with shape (n, d)."""
        return self.residuals(x, c) @ self.whiten.T

    def residuals(self, x: Tensor, c: Tensor) -> Tensor:
        """What the regression leaves of standardised x, with shape (n, k)."""
        return self.standardise(x.reshape(len(x), -1)) - c @ self.slope.T - self.intercept

    def place(self, v: Tensor, c: Tensor) -> Tensor:
        r"""X with shape (n, \*event_shape) for v with shape (n, k): the inverse of :meth:`free`."""
        s = v @ self.spread.T + c @ self.slope.T + self.intercept
        return self.standardise.inverse(s).reshape(len(v), *self.event_shape)

    def log_det(self, x: Tensor) -> Tensor:
        r""":math:`\log |\det \partial v / \partial x|`, with shape (n,)."""
        z = (x.reshape(len(x), -1) - self.standardise.location) / self.standardise.scale
        volume = -self.standardise.scale.log().sum() - self.spread.diagonal().log().sum()
        return volume - 0.5 * torch.log1p(z.square()).sum(1) if self.squash else volume.expand(len(x))


def bounded(transform: Transform, dim: int) -> Tensor:
    """Which columns of the support have two bounds or none, with shape (dim,) and dtype bool."""
    far, further = (transform(torch.full((1, dim), place, dtype=torch.float64)) for place in (30.0, 60.0))
    low, lower = (transform(torch.full((1, dim), -place, dtype=torch.float64)) for place in (30.0, 60.0))
    above, below = (far - further).abs()[0] > 1.0, (low - lower).abs()[0] > 1.0
    return above == below
