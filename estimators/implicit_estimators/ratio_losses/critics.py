"""Critic losses whose optimum is no function of the ratio alone, or only part of one: hinge, linear, least squares."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from implicit_estimators.ratio_losses.base import EvenLoss


@dataclass(frozen=True)
class CriticLoss(EvenLoss):
    """A loss whose critic tells no ratio: ``log_ratio`` is the output as it is."""

    @property
    def tells_ratio(self) -> bool:
        """False."""
        return False


@dataclass(frozen=True)
class WassersteinLoss(CriticLoss):
    r"""Minus the difference of the critic's means, :math:`\mathbb{E}_q[c] - \mathbb{E}_p[c]`.

    Over critics with slope at most 1 its least value is minus the Wasserstein distance
    :math:`W_1(p, q)` (Kantorovich and Rubinstein). Nothing in the loss bounds the slope: it takes weight clipping, a
    gradient penalty or spectral norm, and without them it has no lower end.

    Raises:
        ValueError: If ``prior`` is not 1/2.

    References:
        | Wasserstein Generative Adversarial Networks (Arjovsky, Chintala and Bottou, 2017)
        | https://arxiv.org/abs/1701.07875
    """

    name = "wasserstein"

    def at_p(self, output: Tensor) -> Tensor:
        """Minus the critic."""
        return -output

    def at_q(self, output: Tensor) -> Tensor:
        """The critic."""
        return output


@dataclass(frozen=True)
class HingeLoss(CriticLoss):
    r"""The hinge loss :math:`\mathbb{E}_p[\max(0, 1 - c)] + \mathbb{E}_q[\max(0, 1 + c)]`.

    The optimal critic is the sign of p - q, and the least value :math:`2 - 2 \, TV(p, q)`: a support vector machine's
    loss. Samples beyond the margin have no gradient, so a critic is not paid for growing.

    Raises:
        ValueError: If ``prior`` is not 1/2.

    References:
        | Geometric GAN (Lim and Ye, 2017)
        | https://arxiv.org/abs/1705.02894
        | Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018)
        | https://arxiv.org/abs/1802.05957
    """

    name = "hinge"

    def at_p(self, output: Tensor) -> Tensor:
        """What is missing above 1."""
        return (1 - output).relu()

    def at_q(self, output: Tensor) -> Tensor:
        """What is missing below -1."""
        return (1 + output).relu()


@dataclass(frozen=True)
class LSGANLoss(CriticLoss):
    r"""Least squares of a linear output against two labels, as in LSGAN.

    .. math:: \tfrac12 \mathbb{E}_p[(c - b)^2] + \tfrac12 \mathbb{E}_q[(c - a)^2]

    The optimum is :math:`c = \frac{b p + a q}{p + q}`: with the labels 1 and 0 the posterior probability of p, as that
    of the Brier score, but as a free output, which may lie outside [0, 1] and then stands for no ratio. The least value
    is :math:`\frac{(b - a)^2}{2} \int \frac{p q}{p + q}`.

    Args:
        real: The label b of the data.
        fake: The label a of the model.

    Raises:
        ValueError: If ``prior`` is not 1/2 or the labels are one.

    References:
        | Least Squares Generative Adversarial Networks (Mao et al., 2017)
        | https://arxiv.org/abs/1611.04076
    """

    real: float = 1.0
    fake: float = 0.0

    name = "lsgan"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.real == self.fake:
            raise ValueError(f"real, fake: expected two labels; got {self.real} for both")

    def at_p(self, output: Tensor) -> Tensor:
        """Half the squared distance from the data's label."""
        return 0.5 * (output - self.real).square()

    def at_q(self, output: Tensor) -> Tensor:
        """Half the squared distance from the model's label."""
        return 0.5 * (output - self.fake).square()
