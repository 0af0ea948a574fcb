r"""Gaussian linear uniform: a posterior that the prior cuts off, which methods without bounds leak out of.

.. math:: \theta \sim U(-1, 1)^{10}, \quad x \mid \theta \sim N(\theta, 0.1\,I)

The posterior is the likelihood as a function of theta, restricted to the cube: independent truncated normals.

References:
    | Benchmarking simulation-based inference, T.2 (Lueckmann et al., 2021)
    | https://arxiv.org/abs/2101.04653
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent, Normal, Uniform

from implicit_simulators.benchmark.box_normal import BoxNormal
from implicit_simulators.benchmark.task import BenchmarkTask
from implicit_simulators.engines.noise import row_normal
from implicit_simulators.streams import Stream

DIM, VARIANCE = 10, 0.1


class GaussianLinearUniform(BenchmarkTask):
    """Infer the mean of a normal distribution with known covariance from one draw, under a uniform prior."""

    name = "gaussian-linear-uniform"
    parameter_names = tuple(f"theta_{i + 1}" for i in range(DIM))
    event_shape = torch.Size([DIM])
    differentiable = True

    def __init__(self) -> None:
        self.prior = Independent(Uniform(-torch.ones(DIM), torch.ones(DIM), validate_args=False), 1)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        return theta + VARIANCE**0.5 * row_normal(theta.shape, stream.torch(theta.device), theta.dtype)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Log p(x | theta) for theta with shape (n, 10) and x with shape (10,) or (n, 10); result (n,)."""
        return Independent(Normal(theta, VARIANCE**0.5), 1).log_prob(x.to(theta))

    def posterior(self, x: Any) -> BoxNormal:
        r"""The exact posterior, :math:`\prod_j N(\theta_j; x_j, 0.1)` restricted to the cube and normalised there.

        Raises:
            ValueError: If ``x`` has another shape, is not finite, or is more than 37 standard deviations from the cube.
        """
        return BoxNormal(self.check_observation(x), VARIANCE**0.5, -1.0, 1.0)
