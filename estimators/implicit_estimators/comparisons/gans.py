r"""The classical GANs: a discriminator that learns by a proper score, and generators that use it differently.

References:
    | Generative Adversarial Networks (Goodfellow et al., 2014)
    | https://arxiv.org/abs/1406.2661
"""

from __future__ import annotations

from dataclasses import dataclass

from implicit_estimators.comparisons.adversarial import Adversarial
from implicit_estimators.generator_losses import GeneratorLoss
from implicit_estimators.ratio_losses import RatioLoss


@dataclass(frozen=True)
class GAN(Adversarial):
    r"""The GAN in general use: log score, and a generator that follows log D (non-saturating).

    .. math:: L_C = \mathbb{E}_p[-\log D] + \mathbb{E}_q[-\log(1 - D)], \quad L_G = \mathbb{E}_q[-\log D]

    At the optimal critic the generator descends :math:`2 \, KL(\frac{p + q}{2} \| p)`.

    Args are those of :class:`Adversarial`, with these losses as defaults.
    """

    name = "gan"


@dataclass(frozen=True)
class MinimaxGAN(Adversarial):
    r"""The GAN as a zero-sum game: both players have the log score, with opposite signs.

    .. math:: \min_q \max_D \; \mathbb{E}_p[\log D] + \mathbb{E}_q[\log(1 - D)] = 2 \, JS(p, q) - \log 4

    The generator's gradient vanishes where the critic is sure. It is half of it in "js", which is the same game.
    """

    generator_loss: str | GeneratorLoss = "saturating"

    name = "minimax"


@dataclass(frozen=True)
class BrierGAN(Adversarial):
    r"""The Brier score of the classifier :math:`D = \sigma(v)` for the critic, log D for the generator.

    .. math:: L_C = \mathbb{E}_p[(1 - D)^2] + \mathbb{E}_q[D^2], \quad L_G = \mathbb{E}_q[-\log D]

    The critic tells the same ratio as that of "gan" and is less moved by outliers; the generator's loss is the same,
    for the mirrored score :math:`\mathbb{E}_q[(1 - D)^2]` loses its slope on a sure critic.
    """

    ratio_loss: str | RatioLoss = "brier"

    name = "brier"
