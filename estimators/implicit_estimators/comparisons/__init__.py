"""Comparisons: what tells a model's draws from data, and what the model descends."""

from __future__ import annotations

from typing import Any

from implicit_estimators.comparisons.adversarial import Adversarial
from implicit_estimators.comparisons.base import Comparison
from implicit_estimators.comparisons.cramer import CramerGAN
from implicit_estimators.comparisons.energy import EnergyMatching
from implicit_estimators.comparisons.f_gans import (
    KLGAN,
    AlphaGAN,
    HellingerGAN,
    JeffreysGAN,
    JensenShannonGAN,
    NeymanGAN,
    PearsonGAN,
    ReverseKLGAN,
    TotalVariationGAN,
)
from implicit_estimators.comparisons.gans import DRAGAN, GAN, MLGAN, R1GAN, MinimaxGAN
from implicit_estimators.comparisons.mmd import MMDMatching
from implicit_estimators.comparisons.mmd_gan import MMDGAN, WitnessPenalty
from implicit_estimators.comparisons.moments import FeatureMatching, MomentMatching
from implicit_estimators.comparisons.ratios import KLIEPGAN, LSIFGAN, DonskerVaradhanGAN
from implicit_estimators.comparisons.relativistic import R3GAN, RelativisticAverageGAN, RelativisticGAN
from implicit_estimators.comparisons.scores import LSGAN, BrierGAN, ExponentialGAN, HingeGAN
from implicit_estimators.comparisons.transport import SinkhornMatching, SlicedMatching
from implicit_estimators.comparisons.wasserstein import FisherGAN, WassersteinGAN, WassersteinGP, WassersteinSN
from implicit_estimators.names import named

COMPARISONS: dict[str, type[Comparison]] = {
    "gan": GAN,
    "gan-r1": R1GAN,
    "minimax": MinimaxGAN,
    "ml-gan": MLGAN,
    "dragan": DRAGAN,
    "brier": BrierGAN,
    "lsgan": LSGAN,
    "hinge": HingeGAN,
    "exponential": ExponentialGAN,
    "kl": KLGAN,
    "reverse-kl": ReverseKLGAN,
    "js": JensenShannonGAN,
    "pearson": PearsonGAN,
    "neyman": NeymanGAN,
    "hellinger": HellingerGAN,
    "jeffreys": JeffreysGAN,
    "tv": TotalVariationGAN,
    "alpha": AlphaGAN,
    "lsif": LSIFGAN,
    "kliep": KLIEPGAN,
    "donsker-varadhan": DonskerVaradhanGAN,
    "wgan-clip": WassersteinGAN,
    "wgan-gp": WassersteinGP,
    "wgan-sn": WassersteinSN,
    "fisher": FisherGAN,
    "relativistic": RelativisticGAN,
    "relativistic-average": RelativisticAverageGAN,
    "r3gan": R3GAN,
    "mmd": MMDMatching,
    "mmd-gan": MMDGAN,
    "energy": EnergyMatching,
    "sliced-wasserstein": SlicedMatching,
    "sinkhorn": SinkhornMatching,
    "moments": MomentMatching,
    "feature-matching": FeatureMatching,
    "cramer": CramerGAN,
}
"""Every comparison there is, by name."""


def comparison(name: str | Comparison | type[Comparison], **settings: Any) -> Comparison:
    """The comparison called ``name``, or the one that is given, with ``settings`` in place of its own.

    Args:
        name: A name in ``COMPARISONS``, a comparison, or a class of comparisons.
        **settings: What its class takes.

    Returns:
        The comparison.

    Raises:
        ValueError: If there is none of that name, or it has no such setting.
        TypeError: If ``name`` is none of these.

    Example:
        >>> comparison("gan", penalty="r1").regulariser
        R1(weight=1.0)
    """
    return named(name, COMPARISONS, Comparison, settings)


__all__ = [
    "COMPARISONS",
    "DRAGAN",
    "GAN",
    "KLGAN",
    "KLIEPGAN",
    "LSGAN",
    "LSIFGAN",
    "MLGAN",
    "MMDGAN",
    "R1GAN",
    "R3GAN",
    "Adversarial",
    "AlphaGAN",
    "BrierGAN",
    "Comparison",
    "CramerGAN",
    "DonskerVaradhanGAN",
    "EnergyMatching",
    "ExponentialGAN",
    "FeatureMatching",
    "FisherGAN",
    "HellingerGAN",
    "HingeGAN",
    "JeffreysGAN",
    "JensenShannonGAN",
    "MMDMatching",
    "MinimaxGAN",
    "MomentMatching",
    "NeymanGAN",
    "PearsonGAN",
    "RelativisticAverageGAN",
    "RelativisticGAN",
    "ReverseKLGAN",
    "SinkhornMatching",
    "SlicedMatching",
    "TotalVariationGAN",
    "WassersteinGAN",
    "WassersteinGP",
    "WassersteinSN",
    "WitnessPenalty",
    "comparison",
]
