r"""Two moons: a posterior with two modes, each a crescent, known in closed form.

.. math:: x = \begin{pmatrix} r \cos a + 0.25 \\ r \sin a \end{pmatrix}
    + \frac{1}{\sqrt 2} \begin{pmatrix} -|\theta_1 + \theta_2| \\ -\theta_1 + \theta_2 \end{pmatrix}, \quad
    a \sim U(-\tfrac{\pi}{2}, \tfrac{\pi}{2}), \quad r \sim N(0.1, 0.01^2), \quad \theta \sim U(-1, 1)^2

Write :math:`v = (\theta_1 + \theta_2, -\theta_1 + \theta_2) / \sqrt 2`, a rotation of :math:`\theta`, and
:math:`m = (-|v_1|, v_2)` for the second term. What is left is a point in polar coordinates,
:math:`q = x - m - (0.25, 0) = r (\cos a, \sin a)`. As :math:`\cos a > 0`, the sign of :math:`q_1` is that of r, so that
each q comes from one (r, a) only, with Jacobian :math:`|r| = \|q\|`:

.. math:: p(x \mid \theta) = \frac{1}{\pi \|q\|}\, N(\pm\|q\|;\, 0.1, 0.01^2), \quad \pm = \mathrm{sign}(q_1).

The density in the benchmark's code lacks the factor :math:`1 / (\pi \|q\|)`. Its reference samples were drawn by
inverting the simulator, and are those of the density here.

References:
    | Benchmarking simulation-based inference, T.8 (Lueckmann et al., 2021)
    | https://arxiv.org/abs/2101.04653
    | Automatic posterior transformation for likelihood-free inference (Greenberg et al., 2019)
    | https://arxiv.org/abs/1905.07488
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Uniform, constraints

from implicit_simulators.benchmark.task import BenchmarkTask
from implicit_simulators.engines.noise import row_normal
from implicit_simulators.streams import Stream

SHIFT, RADIUS, SPREAD = 0.25, 0.1, 0.01


class TwoMoons(BenchmarkTask):
    """Infer a point of the square from its image, which a sign and a crescent of noise hide."""

    name = "two-moons"
    parameter_names = ("theta_1", "theta_2")
    event_shape = torch.Size([2])
    differentiable = True

    def __init__(self) -> None:
        self.prior = Independent(Uniform(-torch.ones(2), torch.ones(2), validate_args=False), 1)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        noise = row_normal((len(theta), 3), stream.torch(theta.device), theta.dtype)
        # the direction of a normal vector is uniform; with its first coordinate folded over, uniform on half a turn
        direction = torch.stack((noise[:, 0].abs(), noise[:, 1]), 1)
        direction = direction / direction.norm(dim=1, keepdim=True).clamp_min(torch.finfo(theta.dtype).tiny)
        radius = RADIUS + SPREAD * noise[:, 2:]
        return radius * direction + theta.new_tensor([SHIFT, 0.0]) + _image(theta)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Log p(x | theta) for theta with shape (n, 2) and x with shape (2,) or (n, 2); result (n,)."""
        return _log_moon(x.to(theta) - _image(theta))

    def posterior(self, x: Any) -> TwoMoonsPosterior:
        """The exact posterior, as a distribution that samples independently and knows its density.

        Raises:
            ValueError: If ``x`` has another shape, is not finite, or cannot come from the prior (probability below
                1e-6 that a point of noise leads back into the square).
        """
        return TwoMoonsPosterior(self.check_observation(x))


class TwoMoonsPosterior(Distribution):
    r"""The posterior of two moons at one observation.

    The likelihood depends on theta through m alone, and :math:`\theta \mapsto v` is a rotation that takes the square to
    the diamond :math:`|v_1| + |v_2| \le \sqrt 2`. Both signs of :math:`v_1` are therefore equally probable, and m has
    the density of :math:`x - p`, with p the point of noise, restricted to the half of the diamond with
    :math:`m_1 \le 0`:

    .. math:: p(\theta \mid x) = \frac{p(x \mid \theta)}{2 A(x)}, \quad A(x) = P(x - p \in \text{half diamond}).

    So a draw is: a point of noise, drawn again until it leads into the half diamond, and a sign. For A, the noise is
    integrated over r in closed form (at a given angle, the half diamond bounds r by three linear inequalities) and over
    a by the midpoint rule.

    Args:
        x: The observation, with shape (2,).
    """

    arg_constraints = {}  # noqa: RUF012 - torch's own idiom
    has_rsample = False
    support = constraints.independent(constraints.interval(-1.0, 1.0), 1)

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self.acceptance = _probability_of_half_diamond(x.double())
        if self.acceptance < 1e-6:
            raise ValueError(f"observed: expected a point that two moons can make from the prior; got {x.tolist()}")
        super().__init__(torch.Size(), torch.Size([2]), validate_args=False)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        r"""Independent draws with shape (\*sample_shape, 2)."""
        shape = torch.Size(sample_shape)
        found: list[Tensor] = []
        missing = shape.numel()
        while missing > 0:
            count = min(int(1.1 * missing / self.acceptance) + 16, 1_000_000)
            angle = math.pi * (torch.rand(count) - 0.5)
            radius = RADIUS + SPREAD * torch.randn(count)
            p = torch.stack((radius * angle.cos() + SHIFT, radius * angle.sin()), 1)
            m = self.x - p
            m = m[(m[:, 0] <= 0) & (m.abs().sum(1) <= math.sqrt(2))][:missing]
            sign = torch.randint(0, 2, (len(m),)) * 2 - 1
            v1, v2 = sign * m[:, 0], m[:, 1]
            # rounding may leave a point on the square's edge just outside
            found.append((torch.stack((v1 - v2, v1 + v2), 1) / math.sqrt(2)).clamp(-1, 1))
            missing -= len(m)
        return torch.cat(found).reshape(*shape, 2) if found else torch.zeros(*shape, 2)

    def log_prob(self, value: Tensor) -> Tensor:
        r"""Normalised log density at points with shape (\*, 2); minus infinity outside of the square."""
        inside = (value.abs() <= 1).all(-1)
        density = _log_moon(self.x.to(value) - _image(value)) - math.log(2 * self.acceptance)
        return torch.where(inside, density, torch.full_like(density, -torch.inf))


def _image(theta: Tensor) -> Tensor:
    """The second term, m, for theta with shape (..., 2)."""
    t1, t2 = theta.unbind(-1)
    return torch.stack((-(t1 + t2).abs(), t2 - t1), -1) / math.sqrt(2)


def _log_moon(p: Tensor) -> Tensor:
    """Log density of the noise at points (..., 2), in double precision: its width is a hundredth of its distance."""
    q1, q2 = (p[..., 0].double() - SHIFT), p[..., 1].double()
    distance = torch.hypot(q1, q2).clamp_min(1e-300)
    z = (torch.where(q1 > 0, distance, -distance) - RADIUS) / SPREAD
    density = -0.5 * z**2 - math.log(SPREAD * math.sqrt(2 * math.pi)) - distance.log() - math.log(math.pi)
    return density.to(p.dtype)


def _probability_of_half_diamond(x: Tensor, nodes: int = 20_000) -> float:
    r"""Probability that x - p lies in the half diamond, for x with shape (2,).

    With :math:`c = x_1 - 0.25`, the conditions on r at angle a are :math:`c \le r \cos a` and
    :math:`r (\cos a \mp \sin a) \le \sqrt 2 + c \mp x_2`.
    """
    a = math.pi * ((torch.arange(nodes, dtype=torch.float64) + 0.5) / nodes - 0.5)
    c, edge = x[0] - SHIFT, math.sqrt(2) + x[0] - SHIFT
    low, high = c / a.cos(), torch.full_like(a, torch.inf)
    for sign in (-1.0, 1.0):
        slope, bound = a.cos() + sign * a.sin(), edge + sign * x[1]
        limit = bound / slope
        high = torch.where(slope > 0, torch.minimum(high, limit), high)
        low = torch.where(slope < 0, torch.maximum(low, limit), low)
    below, above = ((r - RADIUS) / SPREAD for r in (low, high))
    return float((torch.special.ndtr(above) - torch.special.ndtr(below)).clamp_min(0).mean())
