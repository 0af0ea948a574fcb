r"""The Weinberg toy: electrons and positrons collide, and the angle of the muons that come out tells the couplings.

The angle A of a muon to the beam has the density, in :math:`c = \cos A \in [-1, 1]`,

.. math:: p(c \mid \theta) \propto 1 + c^2 + a\,c, \qquad
    a = 2 \tanh\!\left(10\,\frac{2 E_{\mathrm{beam}} - M_Z}{M_Z}\right) \frac{G_f}{G_0}, \quad
    M_Z = 90\ \mathrm{GeV}, \quad G_0 = 1,

whose asymmetry a between forward and backward changes its sign where the two beams together have the energy of a Z
boson. For :math:`|a| > 2` the parabola is negative at one end; there the density is zero, as in the rejection sampler
of the public code. (Where the highest density is below one, that sampler divides by it twice, and flattens the top;
this is the density of the paper.)

The distribution function is a cubic, and is inverted, so that x is a smooth function of theta.

References:
    | Adversarial variational optimization of non-differentiable simulators, section 4 (Louppe, Hermans & Cranmer, 2019)
    | https://arxiv.org/abs/1707.07113
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent, Uniform

from implicit_simulators.base import Simulator
from implicit_simulators.streams import Stream

Z_MASS = 90.0
"""GeV, as published (it is 91.2)."""


class Weinberg(Simulator):
    r"""Cosines of the angles of muons.

    The parameters are the energy of one beam, :math:`E_{\mathrm{beam}}` (GeV), and the Fermi constant :math:`G_f`
    (in units of its value), with the priors

    .. math:: E_{\mathrm{beam}} \sim U(40, 50), \quad G_f \sim U(0.5, 1.5).

    Simulations have shape (events,): independent cosines. Only the product a of both parameters' effects is ever seen.

    Args:
        events: Muons in one simulation. As published one theta gives one muon, and a data set is a sample of them.

    Raises:
        ValueError: If ``events`` is not a positive int.
    """

    name = "weinberg"
    parameter_names = ("beam_energy", "fermi_constant")
    differentiable = True
    reference_theta = (42.0, 0.9)

    def __init__(self, events: int = 1) -> None:
        if not (events == int(events) and events > 0):
            raise ValueError(f"events: expected a positive int; got {events}")
        self.events = int(events)
        self.event_shape = torch.Size([self.events])
        self.prior = Independent(Uniform(torch.tensor([40.0, 0.5]), torch.tensor([50.0, 1.5]), validate_args=False), 1)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        generator = stream.torch(theta.device)
        uniform = torch.rand((len(theta), self.events), generator=generator, dtype=torch.float64, device=theta.device)
        a = self.asymmetry(theta.double())[:, None]
        flip, edge = _flip(a), _edge(a)
        a = flip * a
        # the level of -c is one minus that of c, so that c is a smooth function of theta where a changes its sign
        level = torch.where(flip > 0, uniform, 1 - uniform)
        found = _invert(level, edge, a.detach())
        # zero, with the derivative of the inverse: one step of Newton's method from the solution
        excess = (_integral(found, a) - _integral(edge, a)) / _mass(edge, a)
        slope = (_height(found, a) / _mass(edge, a)).detach().clamp_min(torch.finfo(torch.float64).tiny)
        found = flip * (found - (excess - excess.detach()) / slope)
        return found.to(theta.dtype)

    def asymmetry(self, theta: Tensor) -> Tensor:
        """The coefficient a of the cosine, with shape (n,)."""
        energy, fermi = theta.unbind(1)
        return 2 * torch.tanh(10 * (2 * energy - Z_MASS) / Z_MASS) * fermi

    def mean(self, theta: Tensor) -> Tensor:
        r"""E[c], with shape (n,): a / 4 where :math:`|a| \le 2`."""
        a = self.asymmetry(theta)[:, None]
        edge, flip = _edge(a), _flip(a)
        a = flip * a

        def moment(c: Tensor) -> Tensor:
            return c**2 / 2 + c**4 / 4 + a * c**3 / 3

        return (flip * (moment(torch.ones_like(a)) - moment(edge)) / _mass(edge, a))[:, 0]

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Log p(x | theta) for theta with shape (n, 2) and x with shape (events,) or (n, events); result (n,)."""
        a = self.asymmetry(self.check_theta(theta))[:, None]
        x = x.to(a)
        height = _height(x, a)
        possible = (height > 0) & (x.abs() <= 1)
        # the other value keeps the gradient finite where the density is zero
        log_height = torch.where(possible, height, 1.0).log() - _mass(_edge(a), _flip(a) * a).log()
        return torch.where(possible, log_height, -torch.inf).sum(1)

    def settings(self) -> dict[str, Any]:
        """Events."""
        return {"events": self.events}


def _height(c: Tensor, a: Tensor) -> Tensor:
    return 1 + c**2 + a * c


def _integral(c: Tensor, a: Tensor) -> Tensor:
    return c + c**3 / 3 + a * c**2 / 2


def _mass(edge: Tensor, a: Tensor) -> Tensor:
    """The integral of the parabola from ``edge`` to 1."""
    return _integral(torch.ones_like(a), a) - _integral(edge, a)


def _flip(a: Tensor) -> Tensor:
    """-1 where a is negative: the density is then that of -c under -a, and it is enough to know positive a."""
    return torch.where(a < 0, -1.0, 1.0).to(a)


def _edge(a: Tensor) -> Tensor:
    r"""Where the density of c (of -c, for negative a) begins: -1, or the root of the parabola above it.

    Without a graph: the parabola is zero at the root, so that to first order nothing changes where the root moves.
    """
    a = a.detach().abs()
    root = (torch.sqrt((a**2 - 4).clamp_min(0)) - a) / 2
    return torch.where(a > 2, root, -torch.ones_like(a))


def _invert(level: Tensor, edge: Tensor, a: Tensor) -> Tensor:
    """Where the distribution function reaches ``level`` (n, events), by bisection to the last bit; a >= 0, (n, 1)."""
    low, high = edge.expand_as(level), torch.ones_like(level)
    target = level * _mass(edge, a) + _integral(edge, a)
    for _ in range(54):
        middle = (low + high) / 2
        above = _integral(middle, a) > target
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (low + high) / 2
