r"""Critics whose means are compared: Wasserstein GANs bound the critic's slope, Fisher GAN bounds its size.

.. math:: L_C = \mathbb{E}_q[c] - \mathbb{E}_p[c], \quad L_G = -\mathbb{E}_q[c]

The losses are the same in all; what holds the critic differs. The generator follows a critic near its optimum, hence
five critic steps for each of its own where the slope is bounded.

References:
    | Wasserstein Generative Adversarial Networks (Arjovsky, Chintala and Bottou, 2017)
    | https://arxiv.org/abs/1701.07875
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from implicit_estimators.comparisons.adversarial import Adversarial
from implicit_estimators.generator_losses import GeneratorLoss
from implicit_estimators.penalties import Penalty, WassersteinPenalty
from implicit_estimators.ratio_losses import RatioLoss

LIGHT = WassersteinPenalty(0.1)
"""The penalty of :class:`WassersteinGP`, which says why."""


@dataclass(frozen=True)
class WassersteinGAN(Adversarial):
    r"""The Wasserstein GAN with clipped weights, which keep the critic's slope within some bound.

    The bound is none that one could name: what is estimated is a multiple of the Wasserstein distance over a small set
    of critics. The paper steps by RMSprop at 5e-5.
    """

    ratio_loss: str | RatioLoss = "wasserstein"
    generator_loss: str | GeneratorLoss = "critic"
    clip: float | None = 0.01
    critic_steps: int = 5

    name = "wgan-clip"


@dataclass(frozen=True)
class WassersteinGP(Adversarial):
    r"""The Wasserstein GAN with a penalty on slopes other than 1 between data and draws.

    The weight is 0.1, that of the authors' code for toy problems, and not the 10 of the paper's text: in few columns a
    critic that must have slope 1 everywhere cannot turn round, for it would have to pass through slope 0, and the
    generator runs away. For images, give ``WassersteinPenalty(10)``; ``one_sided=True`` lets a large
    weight turn round, too.

    References:
        | Improved Training of Wasserstein GANs (Gulrajani et al., 2017)
        | https://arxiv.org/abs/1704.00028
        | On the regularization of Wasserstein GANs (Petzka, Fischer and Lukovnikov, 2018), for the one-sided penalty
        | https://arxiv.org/abs/1709.08894

    Args:
        one_sided: Whether slopes below 1 go free; None leaves it to the penalty, whose default is that they do not.

    Raises:
        ValueError: If ``one_sided`` is given with a penalty that has no sides.
    """

    ratio_loss: str | RatioLoss = "wasserstein"
    generator_loss: str | GeneratorLoss = "critic"
    penalty: str | Penalty | None = LIGHT
    critic_steps: int = 5
    one_sided: bool | None = None

    name = "wgan-gp"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.one_sided is not None:
            if not isinstance(self.penalty, WassersteinPenalty):
                raise ValueError(f"one_sided: expected None with the penalty {self.penalty}; got {self.one_sided}")
            object.__setattr__(self, "penalty", replace(self.penalty, one_sided=self.one_sided))


@dataclass(frozen=True)
class WassersteinSN(Adversarial):
    r"""The Wasserstein GAN with spectrally normalised layers, which bound the critic's slope by 1.

    References:
        | Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018)
        | https://arxiv.org/abs/1802.05957
    """

    ratio_loss: str | RatioLoss = "wasserstein"
    generator_loss: str | GeneratorLoss = "critic"
    spectral_norm: bool = True
    critic_steps: int = 5

    name = "wgan-sn"


@dataclass(frozen=True)
class FisherGAN(Adversarial):
    r"""Fisher GAN: the critic's second moment is held at 1 by a multiplier, its slope is free.

    The multiplier belongs to what the comparison remembers (``state_dict``).

    References:
        | Fisher GAN (Mroueh and Sercu, 2017)
        | https://arxiv.org/abs/1705.09675
    """

    ratio_loss: str | RatioLoss = "fisher"
    generator_loss: str | GeneratorLoss = "critic"

    name = "fisher"
