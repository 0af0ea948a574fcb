r"""The probabilistic three-hump problem: a stochastic simulator whose expected loss is known and has two minima.

With the three-hump camel function
:math:`h(\psi) = 2 \psi_1^2 - 1.05 \psi_1^4 + \psi_1^6 / 6 + \psi_1 \psi_2 + \psi_2^2`,

.. math::
    i \sim \mathrm{Cat}\left(\frac{|\psi_1|}{|\psi_1| + |\psi_2|}, \frac{|\psi_2|}{|\psi_1| + |\psi_2|}\right), \quad
    u_1 \sim U(-2, 2), \; u_2 \sim U(0, 5), \quad
    \mu_i \sim N(u_i h(\psi), 1), \quad x \sim N(\mu_i, 1),

and the loss of a draw is :math:`R(x) = \sigma(x - 10) - \sigma(x)`, which asks for draws between 0 and 10. Which
component a draw is of depends on the parameters, so there is no path to differentiate along.

References:
    | Black-Box Optimization with Local Generative Surrogates (Shirobokov et al., 2020)
    | https://arxiv.org/abs/2002.04632
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Independent, Uniform

from implicit_simulators.base import Simulator
from implicit_simulators.streams import Stream

INPUTS = ((-2.0, 2.0), (0.0, 5.0))
"""Ranges of the two components' inputs, as published."""

WIDEST = 3.0
"""Parameters lie between minus this and this; the paper starts at (2, 0) and sets no bounds."""


class ThreeHump(Simulator):
    r"""One number from a mixture of two normals, whose means and weights depend on two parameters.

    The prior is uniform on :math:`[-3, 3]^2`. Simulations have shape (1,). The input u is part of the noise here, and
    not given to whoever learns the simulator.

    Its expected loss is least, -0.8582, at :math:`(0, \pm 1.2323)`, and is -0.4993 where the paper starts, at (2, 0).
    """

    name = "three-hump"
    parameter_names = ("psi_1", "psi_2")
    reference_theta = (0.0, 1.2323)
    start = (2.0, 0.0)

    def __init__(self) -> None:
        self.event_shape = torch.Size([1])
        self.prior = Independent(Uniform(torch.full((2,), -WIDEST), torch.full((2,), WIDEST), validate_args=False), 1)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        generator = stream.torch(theta.device)
        uniform = torch.rand((len(theta), 3), generator=generator, dtype=torch.float64, device=theta.device)
        psi = theta.detach().double()
        second = uniform[:, 0] >= self.weights(psi)[:, 0]
        inputs = torch.tensor(INPUTS, dtype=torch.float64, device=theta.device)[second.long()]
        beam = inputs[:, 0] + (inputs[:, 1] - inputs[:, 0]) * uniform[:, 1]
        noise = 2**0.5 * torch.special.ndtri(uniform[:, 2].clamp_min(1e-300))
        return (beam * self.height(psi) + noise)[:, None].to(theta.dtype)

    @staticmethod
    def height(theta: Tensor) -> Tensor:
        r"""The three-hump camel function h at rows of theta, with shape (n,)."""
        a, b = theta.unbind(-1)
        return 2 * a**2 - 1.05 * a**4 + a**6 / 6 + a * b + b**2

    @staticmethod
    def weights(theta: Tensor) -> Tensor:
        """Weights of the two components at rows of theta, with shape (n, 2); equal where both parameters are 0."""
        size = theta.abs()
        total = size.sum(-1, keepdim=True)
        return torch.where(total > 0, size / total.clamp_min(torch.finfo(theta.dtype).tiny), 0.5)

    @staticmethod
    def loss(x: Tensor) -> Tensor:
        """R at draws of shape (n, 1), with shape (n,)."""
        return (torch.sigmoid(x - 10) - torch.sigmoid(x)).mean(-1)

    def expected_loss(self, theta: Any) -> Tensor:
        r""":math:`E[R(x) \mid \theta]` by quadrature in double precision: (n,) for theta with shape (n, 2)."""
        theta = self.check_theta(theta).double()
        places, masses = (torch.as_tensor(part) for part in _legendre())
        shifts, weights = (torch.as_tensor(part) for part in _hermite())
        height = self.height(theta)[:, None, None]
        means = []
        for low, high in INPUTS:
            beam = low + (high - low) * places[:, None]
            found = self.loss((beam * height + 2**0.5 * shifts)[..., None])
            means.append(torch.einsum("npq,p,q->n", found, masses, weights))
        return (self.weights(theta) * torch.stack(means, 1)).sum(1)


@cache
def _legendre() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for the mean over U(0, 1)."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    return (nodes + 1) / 2, weights / 2


@cache
def _hermite() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for the mean over N(0, 1)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    return nodes, weights / weights.sum()
