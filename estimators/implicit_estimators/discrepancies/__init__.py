"""Critics with nothing to train."""

from implicit_estimators.discrepancies.energy import EnergyDistance
from implicit_estimators.discrepancies.mmd import MMD
from implicit_estimators.discrepancies.moments import MomentDistance
from implicit_estimators.discrepancies.sinkhorn import SinkhornDivergence, Transport
from implicit_estimators.discrepancies.sliced import SlicedWasserstein

__all__ = ["MMD", "EnergyDistance", "MomentDistance", "SinkhornDivergence", "SlicedWasserstein", "Transport"]
