"""Fisher GAN: the difference of the critic's means in units of its spread, held by a multiplier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from implicit_estimators.ratio_losses.base import mean_of
from implicit_estimators.ratio_losses.critics import CriticLoss


@dataclass(frozen=True)
class FisherLoss(CriticLoss):
    r"""Fisher GAN: the critic's mean difference under a bound on its second moment.

    .. math:: \mathbb{E}_q[c] - \mathbb{E}_p[c] + \lambda (\Omega - 1) + \tfrac{\rho}{2} (\Omega - 1)^2,
        \quad \Omega = \tfrac12 (\mathbb{E}_p[c^2] + \mathbb{E}_q[c^2])

    The augmented Lagrangian of the paper, with its sign turned, for here the critic minimises. After each batch with
    gradients the multiplier moves, :math:`\lambda \leftarrow \lambda + \rho (\Omega - 1)`. At the optimum :math:`c =
    \frac{p - q}{\lambda (p + q)}` with :math:`\lambda^2 = \frac12 \int \frac{(p - q)^2}{p + q}`, and
    :math:`\mathbb{E}_p[c] - \mathbb{E}_q[c] = 2 \lambda`: a chi-squared distance of p and q from their mean, with no
    bound on slopes. (c tells the ratio through :math:`\lambda`, which is known at the optimum alone.)

    Args:
        rho: The weight :math:`\rho` of the square, and the step of the multiplier. A large one lets the multiplier
            chase each batch, and the game runs away; the paper's images take 1e-6.

    Raises:
        ValueError: If ``prior`` is not 1/2 or ``rho`` is not positive.

    References:
        | Fisher GAN (Mroueh and Sercu, 2017)
        | https://arxiv.org/abs/1705.09675
    """

    rho: float = 0.01
    _multiplier: list[Tensor] = field(default_factory=list, init=False, repr=False, compare=False)

    name = "fisher"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.rho > 0:
            raise ValueError(f"rho: expected a positive number; got {self.rho}")

    def loss(
        self,
        output_p: Tensor,
        output_q: Tensor,
        weights_p: Tensor | None = None,
        weights_q: Tensor | None = None,
    ) -> Tensor:
        """See :meth:`RatioLoss.loss`; each call with gradients moves the multiplier."""
        difference = mean_of(output_q, weights_q, "q") - mean_of(output_p, weights_p, "p")
        moments = mean_of(output_p.square(), weights_p, "p") + mean_of(output_q.square(), weights_q, "q")
        excess = 0.5 * moments - 1
        multiplier = self._multiplier[0].to(excess) if self._multiplier else torch.zeros_like(excess)
        if torch.is_grad_enabled():
            self._multiplier[:] = [multiplier + self.rho * excess.detach()]
        return difference + multiplier * excess + 0.5 * self.rho * excess.square()

    def state_dict(self) -> dict[str, Tensor]:
        """The multiplier, once there is one."""
        return {"multiplier": self._multiplier[0]} if self._multiplier else {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put the multiplier back."""
        self._multiplier[:] = [state["multiplier"]] if "multiplier" in state else []
