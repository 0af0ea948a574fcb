r"""Relativistic GANs: the critic tells which of a datum and a draw is the datum, and the generator turns the answer.

References:
    | The relativistic discriminator: a key element missing from standard GAN (Jolicoeur-Martineau, 2019)
    | https://arxiv.org/abs/1807.00734
"""

from __future__ import annotations

from dataclasses import dataclass

from implicit_estimators.comparisons.adversarial import Adversarial
from implicit_estimators.generator_losses import GeneratorLoss
from implicit_estimators.penalties import Penalty
from implicit_estimators.ratio_losses import RatioLoss


@dataclass(frozen=True)
class RelativisticGAN(Adversarial):
    r"""The relativistic GAN over pairs of a datum and a draw (RSGAN).

    .. math:: L_C = \mathbb{E}_{p, q}[\operatorname{softplus}(c(y) - c(x))], \quad
        L_G = \mathbb{E}_{p, q}[\operatorname{softplus}(c(x) - c(y))], \quad x \sim p, \; y \sim q

    Every draw is held against all data of the batch, so a generator that gives up a mode is paid less for the rest.
    """

    ratio_loss: str | RatioLoss = "relativistic"
    generator_loss: str | GeneratorLoss = "relativistic"

    name = "relativistic"


@dataclass(frozen=True)
class RelativisticAverageGAN(Adversarial):
    r"""The relativistic average GAN: a datum against the average draw, a draw against the average datum (RaSGAN)."""

    ratio_loss: str | RatioLoss = "relativistic-average"
    generator_loss: str | GeneratorLoss = "relativistic-average"

    name = "relativistic-average"


@dataclass(frozen=True)
class R3GAN(RelativisticGAN):
    r"""The relativistic pairing game with zero-centred penalties at data and draws (R3GAN), which converges locally.

    References:
        | The GAN is dead; long live the GAN! A Modern Baseline GAN (Huang et al., 2024)
        | https://arxiv.org/abs/2501.05441
    """

    penalty: str | Penalty | None = "r1+r2"

    name = "r3gan"
