r"""A Gaussian process for a few hundred noisy values of a smooth function: exact, in double precision.

.. math:: y_i = f(z_i) + \epsilon_i, \quad \epsilon_i \sim N(0, \sigma_n^2), \qquad
    f \sim GP\left(0,\; \sigma_f^2 \exp\Big(-\tfrac12 \sum_j \frac{(z_j - z'_j)^2}{\ell_j^2}\Big) + h(z)^\top B\, h(z')
    \right)

with quadratics :math:`h(z) = (1, z_j, z_j^2)_j` of wide prior coefficients (:math:`B = 3^2 I`, for standardised
values): far from all values the mean goes on as the quadratic that fits them, and does not fall back to a constant
(Rasmussen & Williams, section 2.7). Lengths, :math:`\sigma_f` and :math:`\sigma_n` maximise the marginal likelihood
times weak log-normal priors.

References:
    | Gaussian processes for machine learning (Rasmussen & Williams, 2006)
    | https://gaussianprocess.org/gpml/
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

WIDE = 3.0
"""Prior standard deviation of the quadratic's coefficients, in standard deviations of the values."""

CENTRES = (0.0, 0.0, -1.0)
"""Prior means of the logarithms of lengths, signal and noise, in standardised units."""

SPREADS = (1.0, 1.0, 1.5)
"""Their prior standard deviations."""

JITTER = 1e-8


class GaussianProcess:
    """A process given values at points.

    Args:
        z: Points with shape (n, d), of the order of one.
        y: Values with shape (n,).
        log_parameters: Logarithms of d lengths, the signal's and the noise's standard deviations, in standardised
            units, with shape (d + 2,); their prior's centre if None.
    """

    def __init__(self, z: Tensor, y: Tensor, log_parameters: Tensor | None = None) -> None:
        self.z, self.y = z.double(), y.double()
        self.centre, self.scale = self.y.mean(), self.y.std().clamp_min(1e-12)
        d = z.shape[1]
        self.prior_mean = torch.tensor([CENTRES[0]] * d + list(CENTRES[1:]), dtype=torch.float64)
        self.prior_scale = torch.tensor([SPREADS[0]] * d + list(SPREADS[1:]), dtype=torch.float64)
        self.log_parameters = self.prior_mean.clone() if log_parameters is None else log_parameters
        self._condition()

    def _standard(self) -> Tensor:
        return (self.y - self.centre) / self.scale

    def _condition(self) -> None:
        with torch.no_grad():
            self.factor = torch.linalg.cholesky(self._covariance(self.log_parameters))
            self.weights = torch.cholesky_solve(self._standard()[:, None], self.factor)[:, 0]

    def _kernel(self, a: Tensor, b: Tensor, log_parameters: Tensor) -> Tensor:
        d = a.shape[1]
        length, signal = log_parameters[:d].exp(), log_parameters[d].exp()
        a_scaled, b_scaled = a / length, b / length
        squared = a_scaled.square().sum(1)[:, None] + b_scaled.square().sum(1) - 2 * a_scaled @ b_scaled.T
        return signal.square() * torch.exp(-0.5 * squared.clamp_min(0)) + WIDE**2 * _basis(a) @ _basis(b).T

    def _covariance(self, log_parameters: Tensor) -> Tensor:
        noise = (2 * log_parameters[-1]).exp() + JITTER
        return self._kernel(self.z, self.z, log_parameters) + noise * torch.eye(len(self.z), dtype=torch.float64)

    def log_posterior(self, log_parameters: Tensor) -> Tensor:
        """Log marginal likelihood of the values times the parameters' prior, up to a constant."""
        factor, failed = torch.linalg.cholesky_ex(self._covariance(log_parameters))
        if bool(failed):
            return torch.tensor(-math.inf, dtype=torch.float64)
        white = torch.linalg.solve_triangular(factor, self._standard()[:, None], upper=False)
        prior = ((log_parameters - self.prior_mean) / self.prior_scale).square().sum()
        return -0.5 * white.square().sum() - factor.diagonal().log().sum() - 0.5 * prior

    def fit(self) -> GaussianProcess:
        """Maximise the log posterior, from the present parameters and from the prior's centre."""
        starts = [self.log_parameters]
        if not torch.equal(self.log_parameters, self.prior_mean):
            starts.append(self.prior_mean)
        low = torch.tensor([-5.0] * (len(self.log_parameters) - 1) + [-7.0], dtype=torch.float64)
        high = torch.tensor([5.0] * (len(self.log_parameters) - 1) + [3.0], dtype=torch.float64)
        self.log_parameters = lowest(lambda at: -self.log_posterior(at), starts, low, high, 60)
        self._condition()
        return self

    @property
    def noise(self) -> Tensor:
        """Standard deviation of the noise, in units of the values."""
        return self.log_parameters[-1].exp() * self.scale

    def predict(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the function, without noise, at points (q, d); both (q,), differentiable in z."""
        z = z.double()
        d = z.shape[1]
        cross = self._kernel(z, self.z, self.log_parameters)
        mean = cross @ self.weights
        white = torch.linalg.solve_triangular(self.factor, cross.T, upper=False)
        own = (2 * self.log_parameters[d]).exp() + WIDE**2 * _basis(z).square().sum(1)
        variance = (own - white.square().sum(0)).clamp_min(1e-12)
        return self.centre + self.scale * mean, self.scale**2 * variance


def _basis(z: Tensor) -> Tensor:
    return torch.cat((torch.ones_like(z[:, :1]), z, z.square()), 1)


def lowest(
    function: Callable[[Tensor], Tensor], starts: Iterable[Tensor], low: Tensor, high: Tensor, most: int
) -> Tensor:
    """Where a smooth function of one point (p,) is lowest within a box, by L-BFGS-B from several starts.

    Args:
        function: From a point to its value, with shape (), differentiable; infinity is taken for very large.
        starts: Points to start from.
        low: The box's lower corner, with shape (p,).
        high: Its upper corner.
        most: Iterations of each start.
    """
    from scipy import optimize

    def objective(at: np.ndarray) -> tuple[float, np.ndarray]:
        point = torch.tensor(at, dtype=torch.float64, requires_grad=True)
        with torch.enable_grad():
            value = function(point)
            if not torch.isfinite(value):
                return 1e25, np.zeros_like(at)
            (gradient,) = torch.autograd.grad(value, point)
        return float(value.detach()), gradient.numpy()

    minimise: Any = optimize.minimize  # its types know of no function that returns its gradient besides
    settings = {
        "jac": True,
        "method": "L-BFGS-B",
        "bounds": list(zip(low.tolist(), high.tolist(), strict=True)),
        "options": {"maxiter": most},
    }
    found = [minimise(objective, start.numpy(), **settings) for start in starts]
    return torch.tensor(min(found, key=lambda one: float(one.fun)).x, dtype=torch.float64)
