"""The f-divergence itself: f-GAN's generator loss, whichever way the ratio was learned."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from implicit_estimators.divergences import Divergence, divergence
from implicit_estimators.generator_losses.base import GeneratorLoss


@dataclass(frozen=True)
class DivergenceLoss(GeneratorLoss):
    r"""An f-divergence :math:`D_f(p \| q) = \mathbb{E}_q[f(r)]`, with the gradient of the divergence itself.

    The value is the mean of f(r). Its gradient along the samples with r held fixed would be wrong, for q is in r as
    well: for KL it points away from the data. What flows back is therefore the gradient of :math:`h(r) = f(r) - r
    f'(r)`, which is exact at the true ratio (``Divergence.generator_integrand``).

    The slope of h in s is :math:`-r^2 f''(r)`: -r for KL (no slope where the model is far from the data; only
    covering it counts), -1 for reverse KL (a full slope everywhere), in between for the others.

    Args:
        divergence: A name in ``DIVERGENCES`` or a divergence.

    Raises:
        ValueError: If there is no such divergence.
    """

    divergence: str | Divergence = "kl"

    name = "divergence"

    def __post_init__(self) -> None:
        object.__setattr__(self, "divergence", divergence(self.divergence))

    def each(self, log_ratio: Tensor) -> Tensor:
        """F(r), with the gradient of h(r)."""
        chosen = divergence(self.divergence)
        descended = chosen.generator_integrand(log_ratio)
        return chosen.f(log_ratio.detach()) + descended - descended.detach()
