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
from implicit_estimators.kl_bounds import KL_BOUNDS, kl_bound
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
from implicit_estimators.ratio import (
    RATIO_ESTIMATORS,
    BrierRatio,
    DonskerVaradhanRatio,
    EnsembleRatio,
    ExponentialRatio,
    FDivergenceRatio,
    LogisticRatio,
    LSIFRatio,
    NWJRatio,
    RatioCheck,
    RatioEstimator,
    RelativeRatio,
    SmileRatio,
    check_ratio,
)
from implicit_estimators.ratio_losses import (
    RATIO_LOSSES,
    AlphaLoss,
    BrierLoss,
    DonskerVaradhanLoss,
    FDivergenceLoss,
    LeastSquaresLoss,
    LogLoss,
    RatioLoss,
    SmileLoss,
    ratio_loss,
)
from implicit_estimators.seeds import Seed

__all__ = [
    "DIVERGENCES",
    "GENERATOR_LOSSES",
    "KL_BOUNDS",
    "MLP",
    "MMD",
    "PENALTIES",
    "R1",
    "R2",
    "RATIO_ESTIMATORS",
    "RATIO_LOSSES",
    "AlphaLoss",
    "BrierLoss",
    "BrierRatio",
    "ConditionalCritic",
    "Divergence",
    "DivergenceLoss",
    "DonskerVaradhanLoss",
    "DonskerVaradhanRatio",
    "Dragan",
    "EnsembleRatio",
    "Estimate",
    "ExponentialRatio",
    "FDivergenceLoss",
    "FDivergenceRatio",
    "GeneratorLoss",
    "History",
    "LSIFRatio",
    "LeastSquaresLoss",
    "LogLoss",
    "LogisticRatio",
    "NWJRatio",
    "NonSaturating",
    "Penalty",
    "RatioCheck",
    "RatioEstimator",
    "RatioLoss",
    "RelativeRatio",
    "Saturating",
    "Seed",
    "SmileLoss",
    "SmileRatio",
    "Standardiser",
    "WassersteinPenalty",
    "ZeroCentred",
    "check_ratio",
    "divergence",
    "generator_loss",
    "kl_bound",
    "ratio_loss",
    "train",
]
