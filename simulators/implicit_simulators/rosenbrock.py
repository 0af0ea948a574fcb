r"""The Rosenbrock problem: a valley in many dimensions, seen through noise that is much larger than its slope.

.. math::
    u \sim U(-10, 10), \quad m \sim N(u, 1), \quad
    x \sim N\left(g(\psi) + m, \; (0.1 + |m| / 2)^2\right), \quad
    g(\psi) = \sum_{j=1}^{d-1} (\psi_{j+1} - \psi_j^2)^2 + (1 - \psi_j)^2,

and the loss of a draw is :math:`R(x) = x`, whose expectation is :math:`g(\psi)`. The published problem has no factor
100 before the first square, and the noise is that of the authors' code.

References:
    | Black-Box Optimization with Local Generative Surrogates (Shirobokov et al., 2020)
    | https://arxiv.org/abs/2002.04632
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent, Uniform

from implicit_simulators.base import Simulator
from implicit_simulators.streams import Stream


class Rosenbrock(Simulator):
    r"""One number whose mean is the Rosenbrock function of d parameters; its standard deviation is 6.6.

    The prior is uniform on :math:`[-3, 3]^d`. Simulations have shape (1,).

    The expected loss is least, 0, where all parameters are 1. The paper starts at 2 throughout, where it is 45 for the
    ten parameters.

    Args:
        dim: Number of parameters d, at least 2.

    Raises:
        ValueError: If ``dim`` is less than 2.
    """

    name = "rosenbrock"
    differentiable = True

    def __init__(self, dim: int = 10) -> None:
        if not (dim == int(dim) and dim >= 2):
            raise ValueError(f"dim: expected an int of 2 or more; got {dim}")
        dim = int(dim)
        self.parameter_names = tuple(f"psi_{i + 1}" for i in range(dim))
        self.event_shape = torch.Size([1])
        self.prior = Independent(Uniform(torch.full((dim,), -3.0), torch.full((dim,), 3.0), validate_args=False), 1)
        self.reference_theta = (1.0,) * dim
        self.start = (2.0,) * dim

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        generator = stream.torch(theta.device)
        uniform = torch.rand((len(theta), 3), generator=generator, dtype=torch.float64, device=theta.device)
        normal = torch.special.ndtri(uniform.clamp_min(1e-300))
        middle = 20 * uniform[:, 0] - 10 + normal[:, 1]
        noise = middle + (0.1 + 0.5 * middle.abs()) * normal[:, 2]
        return (self.expected_loss(theta) + noise.to(theta.dtype))[:, None]

    @staticmethod
    def loss(x: Tensor) -> Tensor:
        """R at draws of shape (n, 1), with shape (n,)."""
        return x[:, 0]

    def expected_loss(self, theta: Any) -> Tensor:
        r""":math:`E[R(x) \mid \theta] = g(\theta)`, with shape (n,) for theta with shape (n, d)."""
        theta = self.check_theta(theta)
        before, after = theta[:, :-1], theta[:, 1:]
        return ((after - before**2) ** 2 + (1 - before) ** 2).sum(1)

    def settings(self) -> dict[str, Any]:
        """Number of parameters."""
        return {"dim": self.dim}
