r"""The f-GANs: one for each f-divergence, whose bound the critic raises and whose value the generator lowers.

.. math:: L_C = -\mathbb{E}_p[T] + \mathbb{E}_q[f^*(T)], \quad T = f'(e^v), \quad L_G = D_f(p \| q)

with the generator's gradient that of :math:`-\mathbb{E}_q[f^*(T)]` (``generator_losses``). The bound's critic may be
exchanged for that of another loss, which keeps what the generator descends: ``KLGAN(ratio_loss="log")`` minimises
:math:`KL(p \| q)` with the discriminator of a GAN, whose gradients are bounded.

References:
    | f-GAN: Training Generative Neural Samplers using Variational Divergence Minimization (Nowozin et al., 2016)
    | https://arxiv.org/abs/1606.00709
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from implicit_estimators.comparisons.adversarial import Adversarial
from implicit_estimators.divergences import Alpha
from implicit_estimators.generator_losses import GeneratorLoss
from implicit_estimators.ratio_losses import RatioLoss


@dataclass(frozen=True)
class KLGAN(Adversarial):
    r"""The f-GAN of KL, :math:`KL(p \| q)`: the model covers the data.

    The generator's slope is -r: only draws near data count, and there the gradients of both players grow like r.
    """

    ratio_loss: str | RatioLoss = "kl"
    generator_loss: str | GeneratorLoss = "kl"

    name = "kl"


@dataclass(frozen=True)
class ReverseKLGAN(Adversarial):
    r"""The f-GAN of reverse KL, :math:`KL(q \| p)`: the model stays where there are data.

    The generator has slope -1 in the log-ratio everywhere, however far its draws are from the data.
    """

    ratio_loss: str | RatioLoss = "reverse-kl"
    generator_loss: str | GeneratorLoss = "reverse-kl"

    name = "reverse-kl"


@dataclass(frozen=True)
class JensenShannonGAN(Adversarial):
    r"""The f-GAN of the Jensen-Shannon divergence: the zero-sum game "minimax" with both losses halved."""

    ratio_loss: str | RatioLoss = "js"
    generator_loss: str | GeneratorLoss = "js"

    name = "js"


@dataclass(frozen=True)
class PearsonGAN(Adversarial):
    r"""The f-GAN of Pearson's chi-squared :math:`\int (p - q)^2 / q`: covers the data at any cost.

    The generator's slope is :math:`-2 r^2`.
    """

    ratio_loss: str | RatioLoss = "pearson"
    generator_loss: str | GeneratorLoss = "pearson"

    name = "pearson"


@dataclass(frozen=True)
class NeymanGAN(Adversarial):
    r"""The f-GAN of Neyman's chi-squared :math:`\int (p - q)^2 / p`: no draw where there are no data.

    The generator's slope is -2/r: draws far from the data are pulled hardest, and may be pulled too hard.
    """

    ratio_loss: str | RatioLoss = "neyman"
    generator_loss: str | GeneratorLoss = "neyman"

    name = "neyman"


@dataclass(frozen=True)
class HellingerGAN(Adversarial):
    r"""The f-GAN of the squared Hellinger distance, halfway between KL and reverse KL.

    The generator's slope is :math:`-\frac14 \sqrt r`.
    """

    ratio_loss: str | RatioLoss = "hellinger"
    generator_loss: str | GeneratorLoss = "hellinger"

    name = "hellinger"


@dataclass(frozen=True)
class JeffreysGAN(Adversarial):
    r"""The f-GAN of Jeffreys divergence, :math:`KL(p \| q) + KL(q \| p)`."""

    ratio_loss: str | RatioLoss = "jeffreys"
    generator_loss: str | GeneratorLoss = "jeffreys"

    name = "jeffreys"


@dataclass(frozen=True)
class TotalVariationGAN(Adversarial):
    r"""The f-GAN of total variation: a critic between -1/2 and 1/2.

    .. math:: L_C = \mathbb{E}_q[T] - \mathbb{E}_p[T], \quad L_G = -\mathbb{E}_q[T], \quad
        T = \tfrac12 \tanh(v / 2)

    As the critic comes near its optimum, a step, the slope that the generator follows vanishes.
    """

    ratio_loss: str | RatioLoss = "tv"
    generator_loss: str | GeneratorLoss = "tv"

    name = "tv"


@dataclass(frozen=True)
class AlphaGAN(Adversarial):
    r"""The f-GAN of an alpha divergence, between reverse KL and KL.

    The generator's slope is :math:`-r^\alpha`.

    Args:
        alpha: Inside (0, 1), in both losses where they are alpha's; None leaves what they have, by default 1/4.

    Raises:
        ValueError: If ``alpha`` is out of range.
    """

    ratio_loss: str | RatioLoss = "alpha"
    generator_loss: str | GeneratorLoss = "alpha"
    alpha: float | None = None

    name = "alpha"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha is not None:
            for argument in ("ratio_loss", "generator_loss"):
                loss = getattr(self, argument)
                if isinstance(getattr(loss, "divergence", None), Alpha):
                    object.__setattr__(self, argument, replace(loss, divergence=Alpha(self.alpha)))
