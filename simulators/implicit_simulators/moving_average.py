r"""MA(2): a time series whose exact likelihood is known, in the triangle where its parameters can be told apart.

.. math:: x_t = u_t + \theta_1 u_{t-1} + \theta_2 u_{t-2}, \qquad u_t \sim N(0, 1), \quad t = 1, \dots, n

The data are normal with mean zero and a covariance of five diagonals,

.. math:: \gamma_0 = 1 + \theta_1^2 + \theta_2^2, \quad \gamma_1 = \theta_1 (1 + \theta_2), \quad \gamma_2 = \theta_2,
    \quad \gamma_j = 0,\ j > 2.

Other parameters have the same covariance up to scale; those in the triangle
:math:`|\theta_1| < 1 + \theta_2,\ \theta_2 < 1` are the ones for which :math:`1 + \theta_1 z + \theta_2 z^2` has no
root inside of the unit circle. Marin et al. print :math:`-2 < \theta_1 < 2, \theta_1 + \theta_2 > -1,
\theta_1 - \theta_2 < 1`, to which :math:`\theta_2 < 1` belongs.

References:
    | Approximate Bayesian computational methods (Marin, Pudlo, Robert & Ryder, 2012)
    | https://arxiv.org/abs/1101.0955
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, biject_to, constraints
from torch.distributions.transforms import Transform

from implicit_simulators.base import Simulator, as_tensor
from implicit_simulators.engines.noise import row_normal
from implicit_simulators.streams import Stream

WHOLE = 300_000
"""Size of all covariances together, in numbers, up to which whole matrices are faster than a recursion."""


class MovingAverage(Simulator):
    r"""A moving average of order two, with a uniform prior over its triangle.

    The parameters :math:`\theta_1, \theta_2` are usually tested at (0.6, 0.2), with 100 data. The model is defined, and
    simulated, outside of the triangle too.

    Args:
        n_obs: Length of the series.

    Raises:
        ValueError: If ``n_obs`` is less than 3.
    """

    name = "moving-average"
    parameter_names = ("theta_1", "theta_2")
    reference_theta = (0.6, 0.2)
    differentiable = True

    def __init__(self, n_obs: int = 100) -> None:
        if not (n_obs == int(n_obs) and n_obs >= 3):
            raise ValueError(f"n_obs: expected an int of at least 3; got {n_obs}")
        self.n_obs = int(n_obs)
        self.event_shape = torch.Size([self.n_obs])
        self.prior = UniformTriangle()

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        return self._transform(theta, row_normal((len(theta), self.n_obs + 2), stream.torch(theta.device), theta.dtype))

    @staticmethod
    def _transform(theta: Tensor, u: Tensor) -> Tensor:
        """The series from theta (n, 2) and the innovations (n, n_obs + 2)."""
        return u[:, 2:] + theta[:, :1] * u[:, 1:-1] + theta[:, 1:] * u[:, :-2]

    @staticmethod
    def autocovariance(theta: Tensor) -> Tensor:
        r""":math:`\gamma_0, \gamma_1, \gamma_2` for theta with shape (n, 2), with shape (n, 3)."""
        first, second = theta.unbind(1)
        return torch.stack((1 + first**2 + second**2, first * (1 + second), second), 1)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        r"""The exact Gaussian log p(x | theta), differentiable in both arguments.

        By the covariance's Cholesky factor, in double precision: of the whole matrix for a few rows, as a sampler asks
        for, and by a recursion along its three diagonals for many.

        Args:
            theta: Parameters with shape (n, 2).
            x: Series with shape (n_obs,) or (n, n_obs).

        Returns:
            Log likelihoods with shape (n,), in theta's dtype.
        """
        theta, x = self.check_theta(theta), as_tensor(x, "x")
        series = x.to(theta.device).double().expand(len(theta), self.n_obs)
        whiten = _whiten_whole if series.numel() * self.n_obs <= WHOLE else _whiten_along
        noise, log_scale = whiten(self.autocovariance(theta.double()), series)
        total = -0.5 * (noise.square().sum(1) + self.n_obs * math.log(2 * math.pi)) - log_scale
        return total.to(theta.dtype)

    def summarize(self, x: Tensor) -> Tensor:
        r"""The first two autocovariances :math:`\frac{1}{n} \sum_t x_t x_{t-j},\ j = 1, 2`, with shape (n, 2).

        Those of Marin et al. (2012), who do not divide by n.
        """
        lags = [(x[:, j:] * x[:, :-j]).sum(1) / x.shape[1] for j in (1, 2)]
        return torch.stack(lags, 1)

    def settings(self) -> dict[str, Any]:
        """Length of the series."""
        return {"n_obs": self.n_obs}


def _whiten_whole(autocovariance: Tensor, series: Tensor) -> tuple[Tensor, Tensor]:
    """The Cholesky factor's inverse times the series (n, T), and its log determinant (n,)."""
    place = torch.arange(series.shape[1], device=series.device)
    lag = (place[:, None] - place).abs().clamp_max(3)
    factor = torch.linalg.cholesky(torch.nn.functional.pad(autocovariance, (0, 1))[:, lag])
    noise = torch.linalg.solve_triangular(factor, series[..., None], upper=False)[..., 0]
    return noise, factor.diagonal(dim1=1, dim2=2).log().sum(1)


def _whiten_along(autocovariance: Tensor, series: Tensor) -> tuple[Tensor, Tensor]:
    """The same; row t of the factor is (below2, below1, diagonal)."""
    zero, one, two = autocovariance.unbind(1)
    diagonal_1 = diagonal_2 = torch.ones_like(zero)
    below1_before = e_1 = e_2 = log_scale = torch.zeros_like(zero)
    noise = []
    for t, value in enumerate(series.unbind(1)):
        below2 = two / diagonal_2 if t > 1 else torch.zeros_like(zero)
        below1 = (one - below2 * below1_before) / diagonal_1 if t > 0 else torch.zeros_like(zero)
        diagonal = (zero - below1**2 - below2**2).sqrt()
        e = (value - below1 * e_1 - below2 * e_2) / diagonal
        noise.append(e)
        log_scale = log_scale + diagonal.log()
        diagonal_1, diagonal_2, below1_before, e_1, e_2 = diagonal, diagonal_1, below1, e, e_1
    return torch.stack(noise, 1), log_scale


class _Triangle(constraints.Constraint):
    """Pairs with |first| <= 1 + second and second <= 1, up to rounding."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        first, second = value.unbind(-1)
        slack = 4 * torch.finfo(value.dtype).eps
        return (first.abs() <= 1 + second + slack) & (second <= 1 + slack)


_TRIANGLE = _Triangle()


class _ToTriangle(Transform):
    r"""From the plane onto the triangle: second = 2 s(z_2) - 1, first = 2 s(z_2) (2 s(z_1) - 1), s logistic."""

    domain = constraints.real_vector
    codomain = _TRIANGLE
    bijective = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ToTriangle)

    def __hash__(self) -> int:
        return hash(_ToTriangle)

    def _call(self, x: Tensor) -> Tensor:
        across, up = x.sigmoid().unbind(-1)
        return torch.stack((2 * up * (2 * across - 1), 2 * up - 1), -1)

    def _inverse(self, y: Tensor) -> Tensor:
        first, second = y.unbind(-1)
        margin = torch.finfo(y.dtype).eps
        up = (0.5 * (1 + second)).clamp(margin, 1 - margin)
        across = (0.5 + 0.25 * first / up).clamp(margin, 1 - margin)
        return torch.stack((across, up), -1).logit()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Log of 8 s(z_2) s'(z_1) s'(z_2)."""
        log, log_not = torch.nn.functional.logsigmoid(x), torch.nn.functional.logsigmoid(-x)
        return math.log(8) + (log + log_not).sum(-1) + log[..., 1]


@biject_to.register(_Triangle)
def _biject_to_triangle(constraint: _Triangle) -> Transform:
    return _ToTriangle()


class UniformTriangle(Distribution):
    r"""Uniform over the triangle with corners (-2, 1), (2, 1) and (0, -1), whose area is 4."""

    arg_constraints = {}  # noqa: RUF012 - torch's own idiom
    has_rsample = False
    support = _TRIANGLE

    def __init__(self) -> None:
        super().__init__(torch.Size(), torch.Size([2]), validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The centroid (0, 1/3)."""
        return torch.tensor([0.0, 1 / 3])

    @property
    def variance(self) -> Tensor:
        """(2/3, 2/9)."""
        return torch.tensor([2 / 3, 2 / 9])

    def sample(self, sample_shape: Any = ()) -> Tensor:
        r"""Draws with shape (\*sample_shape, 2)."""
        up, across = torch.rand(torch.Size(sample_shape)).sqrt(), torch.rand(torch.Size(sample_shape))
        return torch.stack((2 * up * (2 * across - 1), 2 * up - 1), -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Minus log 4 inside, minus infinity outside, with shape ``value.shape[:-1]``."""
        # zero times the value: a constant that has a gradient
        flat = 0 * value.sum(-1) - math.log(4)
        return torch.where(_TRIANGLE.check(value), flat, -torch.inf)
