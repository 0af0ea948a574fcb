"""Density-ratio estimators: ``fit(p, q)``, ``log_ratio(x)``, ``divergence(name)``, ``check()``."""

from implicit_estimators.ratio.auto import AutoRatio
from implicit_estimators.ratio.base import RatioEstimator
from implicit_estimators.ratio.bridges.conditional_paths import ConditionalPathRatio
from implicit_estimators.ratio.bridges.telescoping import TelescopingRatio
from implicit_estimators.ratio.bridges.time_score import InfinityRatio
from implicit_estimators.ratio.check import RatioCheck, check_ratio
from implicit_estimators.ratio.classifiers.brier import BrierRatio
from implicit_estimators.ratio.classifiers.donsker_varadhan import DonskerVaradhanRatio
from implicit_estimators.ratio.classifiers.exponential import ExponentialRatio
from implicit_estimators.ratio.classifiers.f_divergence import FDivergenceRatio
from implicit_estimators.ratio.classifiers.logistic import LogisticRatio
from implicit_estimators.ratio.classifiers.lsif import LSIFRatio
from implicit_estimators.ratio.classifiers.multinomial import MultinomialRatio
from implicit_estimators.ratio.classifiers.nwj import NWJRatio
from implicit_estimators.ratio.classifiers.relative import RelativeRatio
from implicit_estimators.ratio.classifiers.scikit import ClassifierRatio
from implicit_estimators.ratio.classifiers.smile import SmileRatio
from implicit_estimators.ratio.conditional import ConditionalRatio
from implicit_estimators.ratio.densities.featurised import FeaturisedRatio
from implicit_estimators.ratio.densities.flows import FlowRatio
from implicit_estimators.ratio.densities.gaussian import GaussianRatio
from implicit_estimators.ratio.densities.mixture import MixtureRatio
from implicit_estimators.ratio.densities.quadratic import QuadraticRatio
from implicit_estimators.ratio.ensemble import EnsembleRatio
from implicit_estimators.ratio.kernels.kliep import KLIEPRatio
from implicit_estimators.ratio.kernels.logistic import KernelLogisticRatio
from implicit_estimators.ratio.kernels.rulsif import RuLSIFRatio
from implicit_estimators.ratio.kernels.ulsif import ULSIFRatio
from implicit_estimators.ratio.mutual_information import MutualInformation
from implicit_estimators.ratio.registry import RATIO_ESTIMATORS
from implicit_estimators.ratio.two_sample import TwoSampleTest
from implicit_estimators.ratio.weights import importance_weights

_ESTIMATORS: dict[str, type[RatioEstimator]] = {
    "auto": AutoRatio,
    "logistic": LogisticRatio,
    "brier": BrierRatio,
    "exponential": ExponentialRatio,
    "f-divergence": FDivergenceRatio,
    "nwj": NWJRatio,
    "donsker-varadhan": DonskerVaradhanRatio,
    "smile": SmileRatio,
    "lsif": LSIFRatio,
    "relative": RelativeRatio,
    "multinomial": MultinomialRatio,
    "classifier": ClassifierRatio,
    "ensemble": EnsembleRatio,
    "kernel-logistic": KernelLogisticRatio,
    "ulsif": ULSIFRatio,
    "rulsif": RuLSIFRatio,
    "kliep": KLIEPRatio,
    "gaussian": GaussianRatio,
    "quadratic": QuadraticRatio,
    "mixture": MixtureRatio,
    "flow": FlowRatio,
    "featurised": FeaturisedRatio,
    "telescoping": TelescopingRatio,
    "dre-infinity": InfinityRatio,
    "conditional-path": ConditionalPathRatio,
}
RATIO_ESTIMATORS.update(_ESTIMATORS)

__all__ = [
    "RATIO_ESTIMATORS",
    "AutoRatio",
    "BrierRatio",
    "ClassifierRatio",
    "ConditionalPathRatio",
    "ConditionalRatio",
    "DonskerVaradhanRatio",
    "EnsembleRatio",
    "ExponentialRatio",
    "FDivergenceRatio",
    "FeaturisedRatio",
    "FlowRatio",
    "GaussianRatio",
    "InfinityRatio",
    "KLIEPRatio",
    "KernelLogisticRatio",
    "LSIFRatio",
    "LogisticRatio",
    "MixtureRatio",
    "MultinomialRatio",
    "MutualInformation",
    "NWJRatio",
    "QuadraticRatio",
    "RatioCheck",
    "RatioEstimator",
    "RelativeRatio",
    "RuLSIFRatio",
    "SmileRatio",
    "TelescopingRatio",
    "TwoSampleTest",
    "ULSIFRatio",
    "check_ratio",
    "importance_weights",
]
