r"""The GANs of the log score: one discriminator, and generators that use it differently.

References:
    | Generative Adversarial Networks (Goodfellow et al., 2014)
    | https://arxiv.org/abs/1406.2661
"""

from __future__ import annotations

from dataclasses import dataclass, field

from implicit_estimators.comparisons.adversarial import Adversarial
from implicit_estimators.generator_losses import GeneratorLoss
from implicit_estimators.penalties import R1, Penalty


@dataclass(frozen=True)
class GAN(Adversarial):
    r"""The GAN in general use: log score, and a generator that follows log D (non-saturating).

    .. math:: L_C = \mathbb{E}_p[-\log D] + \mathbb{E}_q[-\log(1 - D)], \quad L_G = \mathbb{E}_q[-\log D]

    At the optimal critic the generator descends :math:`2 \, KL(\frac{p + q}{2} \| p)`.

    Args are those of :class:`Adversarial`, with these losses as defaults.
    """

    name = "gan"


@dataclass(frozen=True)
class R1GAN(Adversarial):
    r"""The GAN in general use with a critic that is flat at the data: what a network is learned by unless told.

    .. math:: L_C = \mathbb{E}_p[-\log D] + \mathbb{E}_q[-\log(1 - D)] + \frac{\gamma}{2} \mathbb{E}_p\|\nabla s\|^2

    With the penalty the game converges where that of "gan" circles or collapses. Its weight :math:`\gamma = 0.1` is for
    samples in units of their standard deviation: small enough for modes a hundred times narrower than their distance.

    References:
        | Which Training Methods for GANs do actually Converge? (Mescheder et al., 2018)
        | https://arxiv.org/abs/1801.04406
    """

    penalty: str | Penalty | None = field(default_factory=lambda: R1(0.1))

    name = "gan-r1"


@dataclass(frozen=True)
class MinimaxGAN(Adversarial):
    r"""The GAN as a zero-sum game: both players have the log score, with opposite signs.

    .. math:: \min_q \max_D \; \mathbb{E}_p[\log D] + \mathbb{E}_q[\log(1 - D)] = 2 \, JS(p, q) - \log 4

    The generator's gradient vanishes where the critic is sure. It is half of it in "js", which is the same game.
    """

    generator_loss: str | GeneratorLoss = "saturating"

    name = "minimax"


@dataclass(frozen=True)
class MLGAN(Adversarial):
    r"""The GAN made maximum likelihood: log score, and draws pulled by their importance weights.

    .. math:: \nabla L_G = -\sum_i w_i \nabla s(x_i), \quad w_i \propto e^{s_i}

    At the optimal critic the generator descends :math:`KL(p \| q)`, as "kl" does with the critic of another loss.

    References:
        | On distinguishability criteria for estimating generative models (Goodfellow, 2014)
        | https://arxiv.org/abs/1412.6515
    """

    generator_loss: str | GeneratorLoss = "maximum-likelihood"

    name = "ml-gan"


@dataclass(frozen=True)
class DRAGAN(Adversarial):
    r"""The GAN in general use with a critic of slope 1 around the data.

    On the line, a critic of slope 1 wherever there are data can but rise to one side, and drives the model there.

    References:
        | On Convergence and Stability of GANs (Kodali et al., 2017)
        | https://arxiv.org/abs/1705.07215
    """

    penalty: str | Penalty | None = "dragan"

    name = "dragan"
