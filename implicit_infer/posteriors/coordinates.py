r"""Where neural posteriors live: parameters free of bounds, with what a linear regression explains taken out.

Three maps, each invertible in theta at a given x:

.. math::
    \theta \;\to\; u = T^{-1}(\theta) \in \mathbb{R}^d, \qquad
    x \;\to\; s = \text{standardised summaries}, \qquad
    v = L^{-1} (u - A s - b),

where T is the bijection of the prior's support, so that no method can put mass outside it, and
:math:`u \approx A s + b` is the ridge regression of u on s with residual covariance :math:`L L^\top`. A network then
learns how v differs from a standard normal given s, which is nothing at all in a linear Gaussian model. The regression
is the one that adjusts ABC samples (Beaumont et al., 2002); here it is only a choice of coordinates, undone exactly,
and costs no accuracy where it explains nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions.transforms import Transform

from implicit_estimators.networks.standardise import Standardiser
from implicit_simulators import Simulator, unconstrained

HEAVY = 10.0
"""Summaries with standardised values beyond this are squashed by arsinh before a network sees them."""


class Coordinates(nn.Module):
    r"""The maps between (theta, x) and (v, s), fitted to simulations.

    Args:
        simulator: Gives the prior's support and ``summarize``.
        theta: Parameters of the simulations, with shape (n, d).
        x: The simulations, with shape (n, \*event_shape), finite.
        ridge: Ridge penalty of the regression, relative to n.

    Raises:
        ValueError: If there are fewer than two simulations.
    """

    slope: Tensor
    intercept: Tensor
    spread: Tensor
    whiten: Tensor

    def __init__(self, simulator: Simulator, theta: Tensor, x: Tensor, ridge: float = 1e-4) -> None:
        super().__init__()
        if len(theta) < 2:
            raise ValueError(f"budget: expected at least 2 simulations that did not fail; got {len(theta)}")
        self.simulator = simulator
        self.transform: Transform = unconstrained(simulator.prior)
        raw = simulator.summarize(x)
        self.standardise = Standardiser.fit(raw)
        if (self.standardise(raw).abs() > HEAVY).any():
            self.standardise = Standardiser.fit(raw, robust=True)
        s = self.standardise(raw).double()
        u = self.transform.inv(theta).double()
        centre_s, centre_u = s.mean(0), u.mean(0)
        gram = (s - centre_s).T @ (s - centre_s) + ridge * len(s) * torch.eye(s.shape[1], dtype=torch.float64)
        slope = torch.linalg.solve(gram, (s - centre_s).T @ (u - centre_u)).T
        intercept = centre_u - slope @ centre_s
        residual = u - s @ slope.T - intercept
        covariance = residual.T @ residual / len(u)
        # a floor for parameters that the summaries determine exactly, or that do not vary
        scale = covariance.diagonal().clamp_min(1e-12)
        spread = torch.linalg.cholesky(covariance + 1e-6 * scale.diag())
        whiten = torch.linalg.inv(spread)
        for name, value in (("slope", slope), ("intercept", intercept), ("spread", spread), ("whiten", whiten)):
            self.register_buffer(name, value.to(theta.dtype))
        self.explained = 1 - (residual.var(0) / u.var(0).clamp_min(1e-30))

    @property
    def parameters_dim(self) -> int:
        """d, the width of theta, u and v."""
        return self.slope.shape[0]

    @property
    def summaries_dim(self) -> int:
        """k, the width of s."""
        return self.slope.shape[1]

    @property
    def log_volume(self) -> Tensor:
        r""":math:`\log \det L`, with shape ()."""
        return self.spread.diagonal().log().sum()

    def summaries(self, x: Tensor) -> Tensor:
        r"""S with shape (n, k) for x with shape (n, \*event_shape)."""
        return self.standardise(self.simulator.summarize(x).to(self.slope))

    def free(self, u: Tensor, s: Tensor) -> Tensor:
        """V with shape (n, d) for u with shape (n, d) and s with shape (n, k)."""
        return (u - s @ self.slope.T - self.intercept) @ self.whiten.T

    def bound(self, v: Tensor, s: Tensor) -> Tensor:
        """U for v and s: the inverse of ``free``."""
        return v @ self.spread.T + s @ self.slope.T + self.intercept

    def log_det(self, theta: Tensor) -> Tensor:
        r""":math:`\log |\det \partial v / \partial \theta|`, with shape (n,)."""
        u = self.transform.inv(theta)
        return -self.transform.log_abs_det_jacobian(u, theta) - self.log_volume

    def legal(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Which rows lie in the prior's support, and theta with the others moved there: every map is defined."""
        prior = self.simulator.prior
        inside = prior.support.check(theta)  # type: ignore[union-attr]  # `unconstrained` has refused a prior without
        return inside, torch.where(inside[:, None], theta, prior.mean)

    def log_normal(self, u: Tensor, s: Tensor) -> Tensor:
        r"""The density of u under the regression, :math:`\log N(u; A s + b, L L^\top)`, over the last axis."""
        v = self.free(u, s)
        return -0.5 * v.square().sum(-1) - 0.5 * math.log(2 * math.pi) * v.shape[-1] - self.log_volume

    def log_prior(self, u: Tensor) -> Tensor:
        """The prior's density of u, with shape (n,)."""
        theta = self.transform(u)
        return self.simulator.prior.log_prob(theta) + self.transform.log_abs_det_jacobian(u, theta)
