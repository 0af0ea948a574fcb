r"""A particle in a double well: the diffusion whose stationary law, and whose rate of crossing, can be written down.

.. math:: dX_t = \alpha X_t (\gamma^2 - X_t^2)\,dt + \sigma\,dW_t = -V'(X_t)\,dt + \sigma\,dW_t, \qquad
    V(x) = \frac{\alpha}{4} (x^2 - \gamma^2)^2

It stays about one of the wells at :math:`\pm\gamma` for long, and now and then the noise carries it over the barrier of
height :math:`V(0) = \alpha\gamma^4 / 4`. In the long run

.. math:: p(x) \propto e^{-2 V(x) / \sigma^2}.

References:
    | Brownian motion in a field of force and the diffusion model of chemical reactions (Kramers, 1940)
    | https://doi.org/10.1016/S0031-8914(40)90098-2
    | Handbook of stochastic methods (Gardiner, 2004), sections 5.2.7 and 5.5
    | https://doi.org/10.1007/978-3-662-05389-8
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent, Uniform

from implicit_simulators.base import Simulator
from implicit_simulators.engines.paths import paths
from implicit_simulators.engines.steps import StepProcess, step_process
from implicit_simulators.streams import Stream

NODES = 2001
"""Points of the trapezoidal rule, which is exact to rounding for integrands that are smooth and vanish at both ends."""


class DoubleWell(Simulator):
    r"""A path that starts in the left well, seen at regular times without error.

    The parameters are the stiffness :math:`\alpha`, the place of the wells :math:`\gamma`, and the noise
    :math:`\sigma`, with the priors

    .. math:: \alpha \sim U(0.5, 2), \quad \gamma \sim U(0.5, 1.5), \quad \sigma \sim U(0.3, 1).

    Simulations have shape (points,): :math:`X` at times ``interval``, ``2 * interval``, ..., from
    :math:`X_0 = -\gamma`, by the Euler-Maruyama method. They are NaN where its steps are too long for the force (not
    within the prior, at the default).

    Args:
        points: Times at which the particle is seen.
        interval: Time between two of them.
        substeps: Steps between two of them.

    Raises:
        ValueError: If a number is not positive.
    """

    name = "double-well"
    parameter_names = ("alpha", "gamma", "sigma")
    differentiable = True
    releases_gil = True
    reference_theta = (1.0, 1.0, 0.5)

    def __init__(self, points: int = 200, interval: float = 0.5, substeps: int = 20) -> None:
        for argument, count in (("points", points), ("substeps", substeps)):
            if not (count == int(count) and count > 0):
                raise ValueError(f"{argument}: expected a positive int; got {count}")
        if not 0 < interval < math.inf:
            raise ValueError(f"interval: expected a positive number; got {interval}")
        self.length, self.interval, self.substeps = int(points), float(interval), int(substeps)
        self.event_shape = torch.Size([self.length])
        self.event_times = tuple(self.interval * (i + 1) for i in range(self.length))
        self.prior = Independent(
            Uniform(torch.tensor([0.5, 0.5, 0.3]), torch.tensor([2.0, 1.5, 1.0]), validate_args=False), 1
        )

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        alpha, gamma, sigma = theta.unbind(1)
        h = self.interval / self.substeps
        columns = torch.stack((h * alpha, gamma**2, h**0.5 * sigma), 1)
        steps = self.length * self.substeps
        x = paths(_process(), columns, -theta[:, 1:2], steps, stream.key, every=self.substeps)[:, :, 0]
        return torch.where(torch.isfinite(x), x, torch.nan)

    def prepare(self) -> float:
        """Compile, or load from disk, the loop over steps; the seconds that took."""
        return _process().prepare()

    def stationary_log_density(self, theta: Tensor, x: Tensor) -> Tensor:
        r"""Log density of X in the long run, with the shape of ``x``, differentiable in both.

        .. math:: \log p(x) = -\frac{\alpha}{2\sigma^2} (x^2 - \gamma^2)^2 - \log Z

        Args:
            theta: Parameters with shape (n, 3).
            x: Places with shape (n,) or (n, m).
        """
        alpha, gamma, sigma = (column.reshape(-1, *[1] * (x.ndim - 1)) for column in theta.unbind(1))
        nodes, width = self._nodes(theta)
        log_z = (
            torch.logsumexp(-2 * _potential(theta[:, :1], theta[:, 1:2], nodes) / theta[:, 2:] ** 2, 1) + width.log()
        )
        return -2 * _potential(alpha, gamma, x) / sigma**2 - log_z.reshape(alpha.shape)

    def kramers_rate(self, theta: Tensor) -> Tensor:
        r"""Crossings of the barrier from one well, in a unit of time, where noise is weak; with shape (n,).

        .. math:: r = \frac{\sqrt{V''(\gamma)\,|V''(0)|}}{2\pi}\,e^{-2 V(0) / \sigma^2}
            = \frac{\alpha\gamma^2}{\sqrt 2\,\pi}\,e^{-\alpha\gamma^4 / 2\sigma^2}

        It is the limit of 1 / ``mean_passage_time`` as :math:`\sigma \to 0`.
        """
        alpha, gamma, sigma = theta.unbind(1)
        return alpha * gamma**2 / (math.sqrt(2) * math.pi) * torch.exp(-alpha * gamma**4 / (2 * sigma**2))

    def mean_passage_time(self, theta: Tensor) -> Tensor:
        r"""Mean time from the bottom of the left well to that of the right one, at any noise; with shape (n,).

        .. math:: T = \frac{2}{\sigma^2} \int_{-\gamma}^{\gamma} e^{2 V(y) / \sigma^2}
            \int_{-\infty}^{y} e^{-2 V(z) / \sigma^2}\,dz\,dy

        By Simpson's rule on a grid; the relative error is below 1e-6 within the prior.
        """
        alpha, gamma, sigma = theta.double()[:, :1], theta.double()[:, 1:2], theta.double()[:, 2:]
        unit = torch.linspace(0, 1, NODES, dtype=torch.float64, device=theta.device)
        weight = 2 / sigma**2

        def inside(x: Tensor) -> Tensor:
            return torch.exp(-weight * _potential(alpha, gamma, x))

        far = -_edge(alpha, gamma, sigma)
        before = _simpson(inside(far + (-gamma - far) * unit)) * (-gamma - far)[:, 0]
        y, step = gamma * (2 * unit - 1), 2 * gamma / (NODES - 1)
        # Simpson's rule for each step on its own, from its middle too, as the inner integral is wanted at every node
        pieces = step / 6 * (inside(y[:, :-1]) + 4 * inside(y[:, :-1] + step / 2) + inside(y[:, 1:]))
        inner = torch.nn.functional.pad(pieces.cumsum(1), (1, 0)) + before[:, None]
        return (weight[:, 0] * _simpson(inner / inside(y)) * 2 * gamma[:, 0]).to(theta.dtype)

    def _nodes(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Places (n, NODES) that hold all but e**-40 of the stationary law, and the width between two, (n,)."""
        edge = _edge(theta[:, :1], theta[:, 1:2], theta[:, 2:])
        nodes = edge * torch.linspace(-1, 1, NODES, dtype=theta.dtype, device=theta.device)
        return nodes, 2 * edge[:, 0] / (NODES - 1)

    def summarize(self, x: Tensor) -> Tensor:
        r"""What the path shows of wells and noise, with shape (n, 6).

        The mean; the means of :math:`x^2` and :math:`x^4`, which the stationary law determines; the log of the mean
        squared increment, which :math:`\sigma^2` does at short intervals; the autocorrelation at one interval; and the
        number of changes of sign.
        """
        x = x.reshape(len(x), -1)
        centred = x - x.mean(1, keepdim=True)
        variance = (centred**2).mean(1)
        increments = (x.diff() ** 2).mean(1) if x.shape[1] > 1 else torch.zeros_like(variance)
        lagged = (centred[:, 1:] * centred[:, :-1]).sum(1) / x.shape[1]
        tiny = torch.finfo(x.dtype).tiny
        statistics = (
            x.mean(1),
            (x**2).mean(1),
            (x**4).mean(1),
            increments.clamp_min(tiny).log(),
            lagged / variance.clamp_min(tiny),
            ((x[:, 1:] > 0) != (x[:, :-1] > 0)).sum(1).to(x.dtype),
        )
        return torch.stack(statistics, 1)

    def settings(self) -> dict[str, Any]:
        """Points, interval and substeps."""
        return {"points": self.length, "interval": self.interval, "substeps": self.substeps}


def _step(x: float, stiffness: float, square: float, spread: float, z: float) -> tuple[float, ...]:
    r"""One step of length h, for the compiled loop: its parameters are :math:`h\alpha, \gamma^2, \sqrt h \sigma`."""
    return (x + stiffness * x * (square - x * x) + spread * z,)


def _process() -> StepProcess:
    return step_process(_step, states=1)


def _potential(alpha: Tensor, gamma: Tensor, x: Tensor) -> Tensor:
    return alpha / 4 * (x**2 - gamma**2) ** 2


def _edge(alpha: Tensor, gamma: Tensor, sigma: Tensor) -> Tensor:
    """Where the stationary density is e**-40 of its highest."""
    return (gamma**2 + math.sqrt(80) * sigma / alpha.sqrt()).sqrt()


def _simpson(values: Tensor) -> Tensor:
    """The integral over the unit interval of a function at an odd number of equidistant points, along the last axis."""
    weights = torch.full_like(values[0], 2.0)
    weights[1::2] = 4.0
    weights[0] = weights[-1] = 1.0
    return (values * weights).sum(-1) / (3 * (values.shape[-1] - 1))
