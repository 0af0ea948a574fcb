"""What tells two sample sets apart: divergences, ratios, critics and distances, on tensors alone."""

from implicit_estimators.critics import ConditionalCritic
from implicit_estimators.discrepancies import MMD
from implicit_estimators.divergences import DIVERGENCES, Divergence, divergence
from implicit_estimators.estimate import Estimate
from implicit_estimators.generator_losses import (
    GENERATOR_LOSSES,
    DivergenceLoss,
    GeneratorLoss,
    NonSaturating,
    Saturating,
    generator_loss,
)
from implicit_estimators.networks import MLP, Standardiser
from implicit_estimators.networks.train import History, train
from implicit_estimators.penalties import (
    PENALTIES,
    R1,
    R2,
    Dragan,
    Penalty,
    WassersteinPenalty,
    ZeroCentred,
)
from implicit_estimators.ratio import RATIO_ESTIMATORS, LogisticRatio, RatioCheck, RatioEstimator, check_ratio
from implicit_estimators.ratio_losses import (
    RATIO_LOSSES,
    BrierLoss,
    FDivergenceLoss,
    LogLoss,
    RatioLoss,
    ratio_loss,
)
from implicit_estimators.seeds import Seed

__all__ = [
    "DIVERGENCES",
    "GENERATOR_LOSSES",
    "MLP",
    "MMD",
    "PENALTIES",
    "R1",
    "R2",
    "RATIO_ESTIMATORS",
    "RATIO_LOSSES",
    "BrierLoss",
    "ConditionalCritic",
    "Divergence",
    "DivergenceLoss",
    "Dragan",
    "Estimate",
    "FDivergenceLoss",
    "GeneratorLoss",
    "History",
    "LogLoss",
    "LogisticRatio",
    "NonSaturating",
    "Penalty",
    "RatioCheck",
    "RatioEstimator",
    "RatioLoss",
    "Saturating",
    "Seed",
    "Standardiser",
    "WassersteinPenalty",
    "ZeroCentred",
    "check_ratio",
    "divergence",
    "generator_loss",
    "ratio_loss",
    "train",
]
