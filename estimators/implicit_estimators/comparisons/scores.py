r"""GANs of other scores than the logarithm: least squares, the hinge, the exponential loss of boosting."""

from __future__ import annotations

from dataclasses import dataclass

from implicit_estimators.comparisons.adversarial import Adversarial
from implicit_estimators.generator_losses import GeneratorLoss
from implicit_estimators.ratio_losses import RatioLoss


@dataclass(frozen=True)
class BrierGAN(Adversarial):
    r"""The Brier score of the classifier :math:`D = \sigma(v)` for the critic, log D for the generator.

    .. math:: L_C = \mathbb{E}_p[(1 - D)^2] + \mathbb{E}_q[D^2], \quad L_G = \mathbb{E}_q[-\log D]

    The critic tells the same ratio as that of "gan" and is less moved by outliers; the generator's loss is the same,
    for the mirrored score :math:`\mathbb{E}_q[(1 - D)^2]` loses its slope on a sure critic.
    """

    ratio_loss: str | RatioLoss = "brier"

    name = "brier"


@dataclass(frozen=True)
class LSGAN(Adversarial):
    r"""Least squares of a linear output against the labels 1 and 0.

    .. math:: L_C = \tfrac12 \mathbb{E}_p[(c - 1)^2] + \tfrac12 \mathbb{E}_q[c^2], \quad
        L_G = \tfrac12 \mathbb{E}_q[(c - 1)^2]

    A critic that is far off is pulled back in proportion, on both sides of the label; other labels are
    ``LSGANLoss(real, fake)`` and ``LeastSquares(target)``.

    References:
        | Least Squares Generative Adversarial Networks (Mao et al., 2017)
        | https://arxiv.org/abs/1611.04076
    """

    ratio_loss: str | RatioLoss = "lsgan"
    generator_loss: str | GeneratorLoss = "least-squares"

    name = "lsgan"


@dataclass(frozen=True)
class HingeGAN(Adversarial):
    r"""The margin of a support vector machine for the critic, the critic itself for the generator.

    .. math:: L_C = \mathbb{E}_p[\max(0, 1 - c)] + \mathbb{E}_q[\max(0, 1 + c)], \quad L_G = -\mathbb{E}_q[c]

    Mostly used with ``spectral_norm=True``, without which nothing bounds the critic's slope inside the margin.

    References:
        | Geometric GAN (Lim and Ye, 2017)
        | https://arxiv.org/abs/1705.02894
    """

    ratio_loss: str | RatioLoss = "hinge"
    generator_loss: str | GeneratorLoss = "critic"

    name = "hinge"


@dataclass(frozen=True)
class ExponentialGAN(Adversarial):
    r"""The loss of boosting for both players, with the labels exchanged for the generator.

    .. math:: L_C = \mathbb{E}_p[e^{-v/2}] + \mathbb{E}_q[e^{v/2}], \quad L_G = \mathbb{E}_q[e^{-v/2}]

    The critic is that of "hellinger" (up to a factor and a constant); its generator is to this one as "minimax" is to
    "gan".
    """

    ratio_loss: str | RatioLoss = "exponential"
    generator_loss: str | GeneratorLoss = "exponential"

    name = "exponential"
