r"""SLCP: a simple likelihood and a complex posterior, with four modes that the squares of two parameters make.

Four points of the plane are drawn from a normal with mean and covariance given by the five parameters:

.. math:: \theta \sim U(-3, 3)^5, \quad x_i \mid \theta \sim N(m, S), \ i = 1, \ldots, 4, \quad
    m = (\theta_1, \theta_2), \quad
    S = \begin{pmatrix} s_1^2 & \rho s_1 s_2 \\ \rho s_1 s_2 & s_2^2 \end{pmatrix} + \epsilon I, \quad
    s_1 = \theta_3^2, \ s_2 = \theta_4^2, \ \rho = \tanh \theta_5

The benchmark's code adds :math:`\epsilon = 10^{-6}` so that S can always be inverted. Its reference posteriors are
those of the code, so it is here too.

References:
    | Benchmarking simulation-based inference, T.3 (Lueckmann et al., 2021)
    | https://arxiv.org/abs/2101.04653
    | Sequential neural likelihood (Papamakarios, Sterratt & Murray, 2019)
    | https://arxiv.org/abs/1805.07226
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Independent, Uniform

from implicit_simulators.benchmark.task import BenchmarkTask
from implicit_simulators.engines.noise import row_normal
from implicit_simulators.streams import Stream

POINTS, EPSILON = 4, 1e-6


class SLCP(BenchmarkTask):
    r"""Infer mean and covariance of a normal in the plane from four draws.

    Simulations have shape (8,): the first point's two coordinates, then the second's, and so on. The reference
    parameters are those of Papamakarios et al. (2019), who devised the task.
    """

    name = "slcp"
    parameter_names = tuple(f"theta_{i + 1}" for i in range(5))
    event_shape = torch.Size([2 * POINTS])
    differentiable = True
    points = POINTS
    reference_theta = (0.7, -2.9, -1.0, -0.9, 0.6)

    def __init__(self) -> None:
        self.prior = Independent(Uniform(-3 * torch.ones(5), 3 * torch.ones(5), validate_args=False), 1)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        return self._points(theta, row_normal((len(theta), 2 * POINTS), stream.torch(theta.device), theta.dtype))

    def _points(self, theta: Tensor, noise: Tensor) -> Tensor:
        """The four points, flat, from standard normal noise of the same shape (n, 8)."""
        l11, l21, l22 = _cholesky(theta)
        first, second = noise[:, 0::2], noise[:, 1::2]
        x = theta[:, :1] + l11 * first
        y = theta[:, 1:2] + l21 * first + l22 * second
        return torch.stack((x, y), 2).flatten(1)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Log p(x | theta) for theta with shape (n, 5) and x with shape (8,) or (n, 8); result (n,)."""
        points = x.to(theta).double().unflatten(-1, (POINTS, 2))
        double = theta.double()
        l11, l21, l22 = _cholesky(double)
        first = (points[..., 0] - double[:, :1]) / l11
        second = (points[..., 1] - double[:, 1:2] - l21 * first) / l22
        squares = (first.square() + second.square()).sum(-1)
        logs = (l11.log() + l22.log() + math.log(2 * math.pi))[:, 0]
        return (-0.5 * squares - POINTS * logs).to(theta.dtype)


def _cholesky(theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""The three entries of the lower triangular root of S, each with shape (n, 1).

    The last is :math:`S_{22} - S_{12}^2 / S_{11}` without the difference, which would leave few digits in float32 where
    the correlation is near one.
    """
    s1, s2 = theta[:, 2:3].square(), theta[:, 3:4].square()
    rho = torch.tanh(theta[:, 4:5])
    variance = s1.square() + EPSILON
    l11 = variance.sqrt()
    left = s2.square() * (s1.square() / torch.cosh(theta[:, 4:5]).square() + EPSILON) / variance
    return l11, rho * s1 * s2 / l11, (left + EPSILON).sqrt()
