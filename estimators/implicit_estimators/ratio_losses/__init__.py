r"""How a ratio is learned: losses of a network's outputs at samples of p and q, least where they tell :math:`\log p/q`.

Most have the form :math:`\mathbb{E}_p[a(v)] + \mathbb{E}_q[b(v)]` of a free output v, and :math:`v \mapsto \log r`
where the minimum lies: the log and Brier scores of the classifier :math:`D = \sigma(v)`, which are bounded in their
gradients and safe everywhere, and the variational bounds of the f-divergences, whose gradients grow like r. Those of
Donsker and Varadhan, SMILE and KLIEP hold the logarithm of a mean over q besides, the relativistic one is a mean over
pairs, and all four tell the ratio up to a factor.

Beside them stand critic losses that tell no ratio (``CRITIC_LOSSES``): their ``log_ratio`` is the critic's output as it
is, and ``tells_ratio`` is False. A model can be moved by them; a ratio cannot be read from them.

Several were invented more than once. What is the same up to a factor and a constant is one object here:

- "exponential" is "hellinger": the loss of boosting, :math:`\mathbb{E}_p[e^{-v/2}] + \mathbb{E}_q[e^{v/2}]`, is 2 less
  twice the bound of squared Hellinger.
- "nwj" is "kl": the bound of Nguyen, Wainwright and Jordan is that of KL, here with a centred f; as a Bregman
  divergence of r it is the unnormalised KL, which KLIEP minimises under the constraint :math:`\mathbb{E}_q[r] = 1`.
- "itakura-saito" is "reverse-kl": :math:`\mathbb{E}_p[1/r] + \mathbb{E}_q[\log r]`.
- "alpha", with its default of 1/4, is the bound of that divergence; ``AlphaLoss`` has its :math:`\alpha` as a setting.
- "smoothed" is "log" with the label 0.9.
- "relative" is "brier" with the prior :math:`\alpha` = 0.1: with :math:`r_\alpha = \frac{p}{\alpha p + (1 - \alpha) q}
  = \sigma(v) / \alpha`, the least squares of RuLSIF are :math:`\frac{1}{2 \alpha^2} (\alpha \mathbb{E}_p[(1 - D)^2] +
  (1 - \alpha) \, \mathbb{E}_q[D^2])` less a constant. At :math:`\alpha = n_p / (n_p + n_q)` that is the Brier score of
  the samples; a small :math:`\alpha` looks harder at large r.

References:
    | Learning in Implicit Generative Models (Mohamed and Lakshminarayanan, 2017)
    | https://arxiv.org/abs/1610.03483
    | Linking losses for density ratio and class-probability estimation (Menon and Ong, 2016)
    | https://proceedings.mlr.press/v48/menon16.html
    | Density-ratio matching under the Bregman divergence (Sugiyama, Suzuki and Kanamori, 2012)
    | https://doi.org/10.1007/s10463-011-0343-8
    | Relative Density-Ratio Estimation for Robust Distribution Comparison (Yamada et al., 2013), for "relative"
    | https://arxiv.org/abs/1106.4729
"""

from __future__ import annotations

from dataclasses import replace

from implicit_estimators.divergences import DIVERGENCES
from implicit_estimators.names import unknown
from implicit_estimators.ratio_losses.base import EvenLoss, RatioLoss
from implicit_estimators.ratio_losses.bounds import AlphaLoss, FDivergenceLoss
from implicit_estimators.ratio_losses.brier import BrierLoss
from implicit_estimators.ratio_losses.critics import CriticLoss, HingeLoss, LSGANLoss, WassersteinLoss
from implicit_estimators.ratio_losses.donsker_varadhan import DonskerVaradhanLoss
from implicit_estimators.ratio_losses.fisher import FisherLoss
from implicit_estimators.ratio_losses.kliep import KLIEPLoss
from implicit_estimators.ratio_losses.least_squares import LeastSquaresLoss
from implicit_estimators.ratio_losses.log import LogLoss
from implicit_estimators.ratio_losses.relativistic import RelativisticAverageLoss, RelativisticLoss
from implicit_estimators.ratio_losses.smile import SmileLoss

ALIASES = {"exponential": "hellinger", "nwj": "kl", "itakura-saito": "reverse-kl"}
"""Other names of the bounds of f-divergences; see the module."""

SCORES: dict[str, RatioLoss] = {"log": LogLoss(), "brier": BrierLoss(), "smoothed": LogLoss(label=0.9)}
"""Losses that take the weight of p, by name."""

EVEN: dict[str, RatioLoss] = {
    **{name: FDivergenceLoss(divergence=ALIASES.get(name, name)) for name in (*DIVERGENCES, *ALIASES)},
    "relative": BrierLoss(0.1),
    "lsif": LeastSquaresLoss(),
    "kliep": KLIEPLoss(),
    "donsker-varadhan": DonskerVaradhanLoss(),
    "smile": SmileLoss(),
    "relativistic": RelativisticLoss(),
}
"""Losses whose weights of p and q are their own, by name."""

CRITICS: dict[str, RatioLoss] = {
    "hinge": HingeLoss(),
    "lsgan": LSGANLoss(),
    "wasserstein": WassersteinLoss(),
    "fisher": FisherLoss(),
    "relativistic-average": RelativisticAverageLoss(),
}
"""Losses whose critic tells no ratio, by name."""

RATIO_LOSSES = (*SCORES, *EVEN)
"""Names of the losses whose critic tells the ratio (but for total variation's, which tells where p > q)."""

CRITIC_LOSSES = tuple(CRITICS)
"""Names of the losses whose critic tells no ratio; :func:`ratio_loss` knows them as well."""


def ratio_loss(name: str | RatioLoss, prior: float = 0.5) -> RatioLoss:
    """The ratio or critic loss called ``name``, with the weight ``prior`` of p where the loss has one.

    Raises:
        ValueError: If there is none of that name.
    """
    if isinstance(name, RatioLoss):
        return name
    if name in SCORES:
        return replace(SCORES[name], prior=prior)
    for losses in (EVEN, CRITICS):
        if name in losses:
            return replace(losses[name])
    raise unknown(name, (*RATIO_LOSSES, *CRITIC_LOSSES), "loss")


__all__ = [
    "ALIASES",
    "CRITIC_LOSSES",
    "EVEN",
    "RATIO_LOSSES",
    "AlphaLoss",
    "BrierLoss",
    "CriticLoss",
    "DonskerVaradhanLoss",
    "EvenLoss",
    "FDivergenceLoss",
    "FisherLoss",
    "HingeLoss",
    "KLIEPLoss",
    "LSGANLoss",
    "LeastSquaresLoss",
    "LogLoss",
    "RatioLoss",
    "RelativisticAverageLoss",
    "RelativisticLoss",
    "SmileLoss",
    "WassersteinLoss",
    "ratio_loss",
]
