"""Critics with nothing to train."""

from implicit_estimators.discrepancies.energy import EnergyDistance
from implicit_estimators.discrepancies.mmd import MMD, mmd_squared
from implicit_estimators.discrepancies.mmd_features import FeatureMMD
from implicit_estimators.discrepancies.mmd_linear import BlockMMD, LinearMMD
from implicit_estimators.discrepancies.mmd_permutation import MMDTest, mmd_test
from implicit_estimators.discrepancies.mmd_power import mmd_variance, most_powerful, power_criterion
from implicit_estimators.discrepancies.moments import MomentDistance
from implicit_estimators.discrepancies.sinkhorn import SinkhornDivergence, Transport
from implicit_estimators.discrepancies.sliced import SlicedWasserstein

__all__ = [
    "MMD",
    "BlockMMD",
    "EnergyDistance",
    "FeatureMMD",
    "LinearMMD",
    "MMDTest",
    "MomentDistance",
    "SinkhornDivergence",
    "SlicedWasserstein",
    "Transport",
    "mmd_squared",
    "mmd_test",
    "mmd_variance",
    "most_powerful",
    "power_criterion",
]
