"""Distances between whole data sets."""

from implicit_infer.abc.discrepancies.amortised import AmortisedClassifier
from implicit_infer.abc.discrepancies.base import SetDistance
from implicit_infer.abc.discrepancies.classifier import Classifier
from implicit_infer.abc.discrepancies.cramer_von_mises import CramerVonMises
from implicit_infer.abc.discrepancies.energy import Energy
from implicit_infer.abc.discrepancies.kullback_leibler import NearestNeighbourKL
from implicit_infer.abc.discrepancies.mmd import KernelMMD
from implicit_infer.abc.discrepancies.sinkhorn import Sinkhorn
from implicit_infer.abc.discrepancies.wasserstein import Hilbert, Wasserstein

__all__ = [
    "AmortisedClassifier",
    "Classifier",
    "CramerVonMises",
    "Energy",
    "Hilbert",
    "KernelMMD",
    "NearestNeighbourKL",
    "SetDistance",
    "Sinkhorn",
    "Wasserstein",
]
