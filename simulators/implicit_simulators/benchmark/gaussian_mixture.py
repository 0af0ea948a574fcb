r"""Gaussian mixture: two normals around one mean, of which one is ten times as wide, so that tails and peak both count.

.. math:: \theta \sim U(-10, 10)^2, \quad
    x \mid \theta \sim \tfrac12 N(\theta, I) + \tfrac12 N(\theta, 0.01\,I)

Seen as a function of theta, each component is a normal around x, which the square cuts off. The posterior is the
mixture of the two truncated normals, and a component's weight is in proportion to the mass that the square leaves of
it.

References:
    | Benchmarking simulation-based inference, T.7 (Lueckmann et al., 2021)
    | https://arxiv.org/abs/2101.04653
    | Sequential Monte Carlo without likelihoods (Sisson, Fan & Tanaka, 2007)
    | https://doi.org/10.1073/pnas.0607208104
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal, Uniform

from implicit_simulators.benchmark.box_normal import FARTHEST, BoxNormal
from implicit_simulators.benchmark.task import BenchmarkTask
from implicit_simulators.engines.noise import row_normal
from implicit_simulators.streams import Stream

SCALES, BOUND = (1.0, 0.1), 10.0


class GaussianMixture(BenchmarkTask):
    """Infer the common mean of two normals of different width from one draw.

    One coin decides for both coordinates of x which component they come from.
    """

    name = "gaussian-mixture"
    parameter_names = ("theta_1", "theta_2")
    event_shape = torch.Size([2])
    differentiable = True

    def __init__(self) -> None:
        self.prior = Independent(Uniform(-BOUND * torch.ones(2), BOUND * torch.ones(2), validate_args=False), 1)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        # the sign of a normal number is a fair coin
        noise = row_normal((len(theta), 3), stream.torch(theta.device), theta.dtype)
        scale = torch.where(noise[:, 2:] < 0, *SCALES)
        return theta + scale * noise[:, :2]

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Log p(x | theta) for theta with shape (n, 2) and x with shape (2,) or (n, 2); result (n,)."""
        components = [Independent(Normal(theta, scale), 1).log_prob(x.to(theta)) for scale in SCALES]
        return torch.logaddexp(*components) - math.log(2)

    def posterior(self, x: Any) -> Distribution:
        r"""The exact posterior, with the weights :math:`w_k \propto P(N(x, \sigma_k^2 I) \in [-10, 10]^2)`.

        Raises:
            ValueError: If ``x`` has another shape, is not finite, or is more than 37 standard deviations from
                the square.
        """
        x = self.check_observation(x)
        outside = float(x.abs().max()) - BOUND
        # of the narrow component, nothing is left where x lies far outside; the wide one can still have made it
        scales = x.new_tensor([scale for scale in SCALES if outside < FARTHEST * scale] or SCALES[:1])
        components = BoxNormal(x.expand(len(scales), 2), scales[:, None], -BOUND, BOUND)
        weights = Categorical(logits=components.log_mass.to(x), validate_args=False)
        return MixtureSameFamily(weights, components, validate_args=False)
