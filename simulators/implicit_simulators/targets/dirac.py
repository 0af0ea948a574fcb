r"""The Dirac pair: the smallest game between a generator and a critic, whose training can be watched going in circles.

The data are all 0, the generator makes :math:`\theta`, and the critic is :math:`D(x) = \psi x`. With
:math:`f(t) = -\log(1 + e^{-t})` the critic ascends, and the generator descends,

.. math:: L(\theta, \psi) = f(\psi\theta) + f(0), \qquad
    \dot\theta = -\psi f'(\psi\theta), \quad \dot\psi = \theta f'(\psi\theta), \quad f'(t) = \frac{1}{1 + e^t}.

The only equilibrium is (0, 0), and :math:`\theta^2 + \psi^2` is constant along the flow: simultaneous training circles
it for ever. A gradient penalty on the data, :math:`\frac{\lambda}{2} \psi^2`, adds :math:`-\lambda\psi` to the critic's
speed, and the flow converges.

References:
    | Which training methods for GANs do actually converge? (Mescheder, Geiger & Nowozin, 2018)
    | https://arxiv.org/abs/1801.04406
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from implicit_simulators.streams import Stream
from implicit_simulators.targets.base import Target


class Dirac(Target):
    """A point mass at zero, in one dimension; it has no density, and one mode of no width."""

    name = "dirac"
    dim = 1

    @property
    def modes(self) -> Tensor:
        """The point, with shape (1, 1)."""
        return torch.zeros(1, 1)

    def _sample(self, n: int, stream: Stream, device: torch.device) -> Tensor:
        return torch.zeros(n, 1, device=device)

    def generator(self, theta: float = 1.0) -> DiracGenerator:
        """A point mass at ``theta`` that can be moved."""
        return DiracGenerator(theta)

    def flow(self, theta: Tensor, psi: Tensor, penalty: float = 0.0) -> tuple[Tensor, Tensor]:
        r"""The speeds :math:`(\dot\theta, \dot\psi)` of simultaneous training, with the shapes of their arguments.

        Args:
            theta: Where the generator is.
            psi: The critic's slope.
            penalty: Weight :math:`\lambda` of the gradient penalty.
        """
        slope = torch.sigmoid(-psi * theta)
        return -psi * slope, theta * slope - penalty * psi


class DiracGenerator(nn.Module):
    r"""The generator that ignores its latents and makes :math:`\theta`, its one parameter.

    Args:
        theta: Where it starts.
    """

    def __init__(self, theta: float = 1.0) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(float(theta)))

    def forward(self, z: Tensor) -> Tensor:
        """Samples with shape (n, 1) for latents with shape (n, latent)."""
        return self.theta.expand(len(z), 1).to(z)
