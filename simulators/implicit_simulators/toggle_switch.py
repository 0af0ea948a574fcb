r"""The toggle switch: two genes that repress each other, in thousands of cells of which one gene's product is measured.

.. math:: u_{t+1} = u_t + \frac{\alpha_u}{1 + v_t^{\beta_u}} - (1 + 0.03\,u_t) + 0.5\,\xi_{u,t}, \qquad
    v_{t+1} = v_t + \frac{\alpha_v}{1 + u_t^{\beta_v}} - (1 + 0.03\,v_t) + 0.5\,\xi_{v,t}

in each cell, from :math:`u_0 = v_0 = 10`. The noises are standard normal, truncated so that neither product falls
below zero. A cell ends with much of one product or much of the other, and at T = 300 its fluorescence is measured:

.. math:: y = u_T + \mu + \mu \sigma \frac{\eta}{u_T^\gamma}, \quad \eta \sim N(0, 1).

References:
    | Bayesian learning from marginal data in bionetwork models (Bonassi, You & West, 2011)
    | https://doi.org/10.2202/1544-6115.1684
    | Sequential Monte Carlo with adaptive weights for approximate Bayesian computation (Bonassi & West, 2015)
    | https://arxiv.org/abs/1503.07791
    | Approximate Bayesian computation with the Wasserstein distance (Bernton et al., 2019)
    | https://arxiv.org/abs/1905.03747
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent, Uniform

from implicit_simulators.base import BLOCK, Simulator
from implicit_simulators.streams import Stream

START = 10.0
DECAY = 0.03
SPREAD = 0.5

AT_ONCE = 20_000
"""Cells that are simulated side by side: as many as a processor's cache holds."""

CELLS_A_BLOCK = 200_000
"""Cells in a block of rows: a few seconds of work, which is what a run that is interrupted loses."""

LEVELS = (0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)
"""Quantiles in the summaries."""


class ToggleSwitch(Simulator):
    r"""Fluorescence of a sample of cells.

    The parameters are the production rates :math:`\alpha_u, \alpha_v`, the cooperativities of repression
    :math:`\beta_u, \beta_v`, and the measurement's :math:`\mu, \sigma, \gamma`, with the priors

    .. math:: \alpha_u, \alpha_v \sim U(0, 50), \quad \beta_u, \beta_v \sim U(0, 5), \quad \mu \sim U(250, 450), \quad
        \sigma \sim U(0, 0.5), \quad \gamma \sim U(0, 0.4).

    Simulations have shape (cells,), in no order: the cells are independent and alike. As published there are 2,000
    of them, and one row costs 2,000 times 300 steps; a block is then 100 rows.

    Args:
        cells: Cells measured.
        steps: Steps before the measurement, T.

    Raises:
        ValueError: If a number is not a positive int.
    """

    name = "toggle-switch"
    parameter_names = ("alpha_u", "alpha_v", "beta_u", "beta_v", "mu", "sigma", "gamma")
    differentiable = True
    reference_theta = (22.0, 12.0, 4.0, 4.5, 325.0, 0.25, 0.15)

    def __init__(self, cells: int = 2000, steps: int = 300) -> None:
        for argument, value in (("cells", cells), ("steps", steps)):
            if not (value == int(value) and value > 0):
                raise ValueError(f"{argument}: expected a positive int; got {value}")
        self.cells, self.steps = int(cells), int(steps)
        self.event_shape = torch.Size([self.cells])
        self.block = min(BLOCK, max(1, CELLS_A_BLOCK // self.cells))
        low = torch.tensor([0.0, 0.0, 0.0, 0.0, 250.0, 0.0, 0.0])
        high = torch.tensor([50.0, 50.0, 5.0, 5.0, 450.0, 0.5, 0.4])
        self.prior = Independent(Uniform(low, high, validate_args=False), 1)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        # a few rows at a time, each with a stream of its own: the noise of a whole block would fill many gigabytes
        rows = max(1, AT_ONCE // self.cells)
        parts = [self._rows(part, stream, i * rows) for i, part in enumerate(theta.split(rows))]
        return torch.cat(parts) if parts else theta.new_zeros((0, self.cells))

    def _rows(self, theta: Tensor, stream: Stream, first: int) -> Tensor:
        """Measurements with shape (m, cells) for the rows from ``first`` on."""
        keys = [Stream.of(stream.key, first + i).key for i in range(len(theta))]
        noise = [self._noise(key, theta) for key in keys]
        normal = torch.stack([measuring for _, measuring in noise])
        produced = self._products(theta, torch.stack([producing for producing, _ in noise], 1))
        mu, sigma, gamma = (theta[:, j, None] for j in (4, 5, 6))
        return produced + mu + mu * sigma * normal / produced**gamma

    def _noise(self, key: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Uniform numbers (2 * steps, cells) and normal ones (cells,) of one row."""
        simulate, observe = (Stream.of(key, role=role).torch(like.device) for role in ("simulate", "observe"))
        shape = (2 * self.steps, self.cells)
        uniform = torch.rand(shape, generator=simulate, dtype=like.dtype, device=like.device)
        return uniform, torch.randn(self.cells, generator=observe, dtype=like.dtype, device=like.device)

    def _products(self, theta: Tensor, uniform: Tensor) -> Tensor:
        """The measured product u after the last step, with shape (m, cells), for uniforms (2 * steps, m, cells)."""
        alpha_u, alpha_v, beta_u, beta_v = (theta[:, j, None] for j in range(4))
        u = v = torch.full(uniform.shape[1:], START, dtype=theta.dtype, device=theta.device)
        for first, second in zip(uniform[0::2], uniform[1::2], strict=True):
            mean_u = u + alpha_u / (1 + v**beta_u) - (1 + DECAY * u)
            mean_v = v + alpha_v / (1 + u**beta_v) - (1 + DECAY * v)
            u, v = _above_zero(mean_u, first), _above_zero(mean_v, second)
        return u

    def summarize(self, x: Tensor) -> Tensor:
        """Eleven quantiles of the cells, of levels 1 %, 10 %, 20 %, ..., 90 % and 99 %, with shape (n, 11).

        Bonassi et al. use a signature of eleven dimensions too, made from mixtures of normals fitted to reference
        simulations; quantiles tell the same, and need no reference.
        """
        cells = x.reshape(len(x), -1)
        return torch.quantile(cells, torch.tensor(LEVELS, dtype=x.dtype, device=x.device), dim=1).T

    def settings(self) -> dict[str, Any]:
        """Cells and steps."""
        return {"cells": self.cells, "steps": self.steps}


def _above_zero(mean: Tensor, uniform: Tensor) -> Tensor:
    r"""Normal numbers with this mean m and standard deviation s = 0.5, truncated to x > 0, by inversion.

    .. math:: x = m - s\,\Phi^{-1}\!\left(U\,\Phi(m / s)\right)
        = m - \sqrt 2 s\ \mathrm{erf}^{-1}\!\left(U\,\mathrm{erfc}\!\left(-\tfrac{m}{\sqrt 2 s}\right) - 1\right)

    which is zero at U = 1. In error functions it costs a quarter of what it does in normal ones.
    """
    width = math.sqrt(2) * SPREAD
    furthest = 1 - torch.finfo(mean.dtype).eps / 2
    level = uniform * torch.special.erfc(mean / -width) - 1
    drawn = mean - width * torch.special.erfinv(level.clamp(-furthest, furthest))
    return drawn.clamp_min(torch.finfo(mean.dtype).tiny)
