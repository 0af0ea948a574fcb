"""The variational bounds of the f-divergences: the critics of the f-GANs."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from implicit_estimators.divergences import Alpha, Divergence, divergence
from implicit_estimators.ratio_losses.base import EvenLoss


@dataclass(frozen=True)
class FDivergenceLoss(EvenLoss):
    r"""Minus the variational bound of an f-divergence, as in the f-GAN.

    .. math:: -\mathbb{E}_p[T] + \mathbb{E}_q[f^*(T)], \quad T = f'(e^v)

    The least value is :math:`-D_f(p \| q)`, at :math:`v = \log r`. The bounds of KL, reverse KL, Pearson,
    Neyman and Jeffreys have gradients like r or 1/r: clip them, and prefer ``LogLoss`` unless the bound itself is
    wanted. The step critic of total variation tells only where p > q: it can be trained, but what it gives is no
    log-ratio.

    Args:
        divergence: A name in ``DIVERGENCES`` or a divergence.

    Raises:
        ValueError: If there is no such divergence, or ``prior`` is not 1/2 (a bound has no weights).
    """

    divergence: str | Divergence = "kl"

    name = "f-divergence"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "divergence", divergence(self.divergence))

    @property
    def _divergence(self) -> Divergence:
        return divergence(self.divergence)

    def at_p(self, output: Tensor) -> Tensor:
        """Minus T."""
        return -self._divergence.activation(output)

    def at_q(self, output: Tensor) -> Tensor:
        """The conjugate at T."""
        return -self._divergence.generator_integrand(output)

    @property
    def tells_ratio(self) -> bool:
        """Whether the divergence's critic determines the ratio."""
        return self._divergence.identifies_ratio

    def check_tells_ratio(self) -> None:
        """See :meth:`RatioLoss.check_tells_ratio`."""
        if not self.tells_ratio:
            raise ValueError(f"loss: the critic of {self._divergence.name!r} tells where p > q, not the ratio p/q")


@dataclass(frozen=True)
class AlphaLoss(EvenLoss):
    r"""Minus the bound of an alpha divergence, between reverse KL (:math:`\alpha \to 0`) and KL (1).

    .. math:: \mathbb{E}_p\left[\frac{e^{-(1 - \alpha) v} - 1}{1 - \alpha}\right] +
        \mathbb{E}_q\left[\frac{e^{\alpha v} - 1}{\alpha}\right]

    The :class:`FDivergenceLoss` of ``Alpha(alpha)``, with its :math:`\alpha` as a setting. At :math:`\alpha = \frac12`
    it is four times that of squared Hellinger. Gradients grow like :math:`r^\alpha` and :math:`r^{\alpha - 1}`.

    Args:
        alpha: Inside (0, 1); a small one bounds the pull of large r.

    Raises:
        ValueError: If ``alpha`` is out of range or ``prior`` is not 1/2.

    References:
        | alpha-Divergence Loss Function for Neural Density Ratio Estimation (Kitazawa, 2024)
        | https://arxiv.org/abs/2402.02041
    """

    alpha: float = 0.5

    name = "alpha"

    def __post_init__(self) -> None:
        super().__post_init__()
        Alpha(self.alpha)  # refuses what is out of range

    def at_p(self, output: Tensor) -> Tensor:
        """Minus the critic."""
        return -Alpha(self.alpha).critic(output)

    def at_q(self, output: Tensor) -> Tensor:
        """The conjugate at the critic."""
        return Alpha(self.alpha).conjugate_of_critic(output)
