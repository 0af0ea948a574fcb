r"""Gaussian linear: the task with a closed-form posterior, against which every method can be held.

.. math:: \theta \sim N(0, 0.1\,I), \quad x \mid \theta \sim N(\theta, 0.1\,I), \quad \theta, x \in \mathbb{R}^{10}

References:
    | Benchmarking simulation-based inference, T.1 (Lueckmann et al., 2021)
    | https://arxiv.org/abs/2101.04653
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from implicit_simulators.benchmark.task import BenchmarkTask
from implicit_simulators.engines.noise import row_normal
from implicit_simulators.streams import Stream


class GaussianLinear(BenchmarkTask):
    r"""Infer the mean of a normal distribution with known covariance.

    Args:
        dim: Number of parameters d, and of data.
        prior_variance: Variance of each parameter under the prior.
        noise_variance: Variance of each datum given its parameter.

    The observations of the benchmark are there at the default settings only, which are the benchmark's.

    Raises:
        ValueError: If ``dim`` or a variance is not positive.
    """

    name = "gaussian-linear"
    differentiable = True

    def __init__(self, dim: int = 10, prior_variance: float = 0.1, noise_variance: float = 0.1) -> None:
        if dim < 1:
            raise ValueError(f"dim: expected a positive int; got {dim}")
        for argument, value in (("prior_variance", prior_variance), ("noise_variance", noise_variance)):
            if not value > 0:
                raise ValueError(f"{argument}: expected a positive number; got {value}")
        self.parameter_names = tuple(f"theta_{i + 1}" for i in range(dim))
        self.event_shape = torch.Size([dim])
        self.prior_variance, self.noise_variance = prior_variance, noise_variance
        self.prior = Independent(Normal(torch.zeros(dim), prior_variance**0.5 * torch.ones(dim)), 1)
        if (dim, prior_variance, noise_variance) != (10, 0.1, 0.1):
            self.observations = ()  # type: ignore[misc]  # a class constant, but only of the published task

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        noise = row_normal(theta.shape, stream.torch(theta.device), theta.dtype)
        return theta + self.noise_variance**0.5 * noise

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Log p(x | theta) for theta with shape (n, d) and x with shape (d,) or (n, d); result (n,)."""
        return Independent(Normal(theta, self.noise_variance**0.5), 1).log_prob(x)

    def posterior(self, x: Any) -> Distribution:
        r"""The exact posterior :math:`N(\Sigma x / s^2, \Sigma)`, :math:`\Sigma = (1/\sigma^2 + 1/s^2)^{-1} I`."""
        x = self.check_observation(x)
        variance = 1 / (1 / self.prior_variance + 1 / self.noise_variance)
        return MultivariateNormal(variance / self.noise_variance * x, variance * torch.eye(self.dim))

    def settings(self) -> dict[str, Any]:
        """Dimension and variances."""
        return {"dim": self.dim, "prior_variance": self.prior_variance, "noise_variance": self.noise_variance}
