r"""Stochastic Lorenz-96: weather on a circle of latitude, whose unresolved scales became a noisy correction.

.. math:: \frac{dx_k}{dt} = -x_{k-1}(x_{k-2} - x_{k+1}) - x_k + F - (\theta_1 + \theta_2 x_k) + \eta_k

for k = 1, ..., K around the circle. Lorenz's full model couples each slow variable to many fast ones; Wilks replaced
what they do by a line in :math:`x_k` and a first-order autoregression, drawn anew for every step of the solver:

.. math:: \eta_k(t + \Delta t) = \phi\,\eta_k(t) + \sigma_e \sqrt{1 - \phi^2}\,z_k(t), \quad z_k(t) \sim N(0, 1)

The public code of the papers on inference (Dutta et al., Pacchiardi & Dutta) draws one z for all k after the first
step, and lets the last variable look at :math:`x_2` in place of :math:`x_1`; this is what their papers print.

References:
    | Effects of stochastic parametrizations in the Lorenz '96 system (Wilks, 2005)
    | https://doi.org/10.1256/qj.04.03
    | On closure parameter estimation in chaotic systems (Hakkarainen et al., 2012)
    | https://doi.org/10.5194/npg-19-127-2012
    | Score matched neural exponential families for likelihood-free inference (Pacchiardi & Dutta, 2022), where the
      priors are from
    | https://arxiv.org/abs/2012.10903
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent, Uniform

from implicit_simulators.base import Simulator, as_tensor
from implicit_simulators.engines.noise import row_normal
from implicit_simulators.streams import Stream

FORCING = 10.0
STEPS_PER_UNIT = 30
"""Steps of the solver in a time unit of five days: one in four hours."""

# fmt: off
INITIAL = (
    0.54, 2.98, 9.13, 2.21, 3.54, 5.89, 5.19, 0.77, -3.05, 3.23, 6.57, 6.07, 2.24, -1.6, 5.05, 7.2, 3.67, 5.06, 3.86,
    -0.82, -0.8, 0.24, 2.26, 6.68, 3.61, -3.79, -0.05, 2.56, 9.06, 0.79, -1.22, -1.79, 0.23, 6.3, 11.43, 1.19, -2.09,
    1.54, 5.82, 0.89,
)
# fmt: on
"""The start: 40 slow variables of the full model with 8 fast ones each (F = 10, h = 1, b = c = 10) after 100 units."""


class Lorenz96(Simulator):
    r"""Weather of forty places for twenty days.

    The parameters are the line's :math:`\theta_1, \theta_2` and the noise's standard deviation :math:`\sigma_e` and
    memory :math:`\phi`, with the priors

    .. math:: \theta_1 \sim U(1.4, 2.2), \quad \theta_2 \sim U(0, 1), \quad \sigma_e \sim U(1.5, 2.5), \quad
        \phi \sim U(0, 1).

    Simulations have shape (30 * duration, variables): the state after each step, solved by the Runge-Kutta method with
    the noise held for a step. ``Lorenz96(variables=8, duration=1.5)`` is the small version of Pacchiardi & Dutta.
    Rows of theta with :math:`|\phi| > 1` are NaN.

    Gradients follow the path. The model is chaotic: they grow with the duration, as small differences do.

    Args:
        variables: Places on the circle, K.
        duration: Time units of five days.
        initial: State at the start, with shape (variables,). By default the first of 40 from the full model;
            the papers' own start, which is in their code, is another.

    Raises:
        ValueError: If ``variables`` is below 4 or, without ``initial``, above 40; if ``duration`` is no positive
            multiple of a thirtieth; or if ``initial`` has another shape or is not finite.
    """

    name = "lorenz-96"
    parameter_names = ("theta_1", "theta_2", "sigma_e", "phi")
    differentiable = True
    reference_theta = (2.0, 0.8, 1.7, 0.4)

    def __init__(self, variables: int = 40, duration: float = 4.0, initial: Any = None) -> None:
        if not (variables == int(variables) and variables >= 4):
            raise ValueError(f"variables: expected an int of at least 4; got {variables}")
        steps = duration * STEPS_PER_UNIT
        if not (steps > 0.5 and abs(steps - round(steps)) < 1e-6):
            raise ValueError(f"duration: expected a positive multiple of 1/{STEPS_PER_UNIT}; got {duration}")
        if initial is None and variables > len(INITIAL):
            raise ValueError(f"initial: expected a state for more than {len(INITIAL)} variables; got None")
        self.variables, self.duration, self.steps = int(variables), float(duration), round(steps)
        self.event_shape = torch.Size([self.steps, self.variables])
        self.event_times = tuple((step + 1) / STEPS_PER_UNIT for step in range(self.steps))
        self.event_labels = tuple(f"x_{k + 1}" for k in range(self.variables))
        ours = torch.tensor(INITIAL[: self.variables], dtype=torch.float64)
        start = ours if initial is None else as_tensor(initial, "initial")
        if start.shape != (self.variables,) or not torch.isfinite(start).all():
            raise ValueError(f"initial: expected {self.variables} finite numbers; got shape {tuple(start.shape)}")
        self.initial = start.detach().double().cpu()
        self._given = initial is not None
        low, high = torch.tensor([1.4, 0.0, 1.5, 0.0]), torch.tensor([2.2, 1.0, 2.5, 1.0])
        self.prior = Independent(Uniform(low, high, validate_args=False), 1)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        shape = (len(theta), self.steps, self.variables)
        noise = row_normal(shape, stream.torch(theta.device), theta.dtype).transpose(0, 1)
        theta_1, theta_2, sigma, phi = (theta[:, j, None] for j in range(4))
        fresh = sigma * (1 - phi**2).sqrt()
        constant, damping, h = FORCING - theta_1, 1 + theta_2, 1 / STEPS_PER_UNIT

        def field(x: Tensor, eta: Tensor) -> Tensor:
            advection = x.roll(1, 1) * (x.roll(-1, 1) - x.roll(2, 1))
            return advection - damping * x + (constant + eta)

        x = self.initial.to(theta).expand(len(theta), -1)
        eta = torch.zeros_like(x)
        path = []
        for z in noise:
            eta = phi * eta + fresh * z
            k1 = field(x, eta)
            k2 = field(x + h / 2 * k1, eta)
            k3 = field(x + h / 2 * k2, eta)
            k4 = field(x + h * k3, eta)
            x = x + h / 6 * (k1 + 2 * (k2 + k3) + k4)
            path.append(x)
        return torch.stack(path, 1)

    def summarize(self, x: Tensor) -> Tensor:
        r"""Hakkarainen's six statistics, averaged around the circle, with shape (n, 6).

        The mean and the variance of :math:`x_k`; its covariance with itself a step later; with its neighbour
        :math:`x_{k+1}`; with the neighbour a step earlier and a step later. Each covariance is that of the pairs
        there are, about their own means.
        """
        x = x.reshape(len(x), -1, self.variables)
        neighbour = x.roll(-1, 2)
        before, after = slice(None, -1), slice(1, None)
        statistics = (
            x.mean(1),
            _covariance(x, x),
            _covariance(x[:, after], x[:, before]),
            _covariance(x, neighbour),
            _covariance(x[:, after], neighbour[:, before]),
            _covariance(neighbour[:, after], x[:, before]),
        )
        return torch.stack([statistic.mean(1) for statistic in statistics], 1)

    def settings(self) -> dict[str, Any]:
        """Variables, duration, and the start if one was given."""
        initial = self.initial.tolist() if self._given else None
        return {"variables": self.variables, "duration": self.duration, "initial": initial}


def _covariance(a: Tensor, b: Tensor) -> Tensor:
    """Over time, of series with shape (n, T, K); shape (n, K)."""
    return ((a - a.mean(1, keepdim=True)) * (b - b.mean(1, keepdim=True))).mean(1)
