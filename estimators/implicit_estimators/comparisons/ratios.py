"""Comparisons by a ratio that no classifier tells: least squares of it, or likelihood under a constraint."""

from __future__ import annotations

from dataclasses import dataclass

from implicit_estimators.comparisons.adversarial import Adversarial
from implicit_estimators.generator_losses import GeneratorLoss
from implicit_estimators.ratio_losses import RatioLoss


@dataclass(frozen=True)
class LSIFGAN(Adversarial):
    r"""Least squares of the ratio for the critic, Pearson's divergence for the generator.

    .. math:: L_C = \tfrac12 \mathbb{E}_q[r^2] - \mathbb{E}_p[r], \quad L_G = \mathbb{E}_q[(r - 1)^2], \quad
        r = \operatorname{softplus}(v)

    Half of the f-GAN "pearson" in another parameter: gradients grow like r here.

    References:
        | Learning in Implicit Generative Models (Mohamed and Lakshminarayanan, 2017), section 3.3
        | https://arxiv.org/abs/1610.03483
    """

    ratio_loss: str | RatioLoss = "lsif"
    generator_loss: str | GeneratorLoss = "pearson"

    name = "lsif"


@dataclass(frozen=True)
class KLIEPGAN(Adversarial):
    r"""A ratio normalised over the draws for the critic, maximum likelihood for the generator.

    .. math:: L_C = -\mathbb{E}_p[\log r] + \log \mathbb{E}_q[r], \quad \nabla L_G = -\sum_i w_i \nabla \log r(x_i),
        \quad w_i \propto r(x_i) = \operatorname{softplus}(v_i)

    Both players see r up to a factor only.
    """

    ratio_loss: str | RatioLoss = "kliep"
    generator_loss: str | GeneratorLoss = "maximum-likelihood"

    name = "kliep"


@dataclass(frozen=True)
class DonskerVaradhanGAN(Adversarial):
    r"""The bound of Donsker and Varadhan on KL, which the critic raises and the generator lowers.

    .. math:: \min_q \max_T \; \mathbb{E}_p[T] - \log \mathbb{E}_q[e^T]

    Both players see T up to a constant only. The critic's gradient is the one that MINE corrects.

    References:
        | Mutual Information Neural Estimation (Belghazi et al., 2018)
        | https://arxiv.org/abs/1801.04062
    """

    ratio_loss: str | RatioLoss = "donsker-varadhan"
    generator_loss: str | GeneratorLoss = "maximum-likelihood"

    name = "donsker-varadhan"
