"""Kernels, and their sums over all pairs of samples."""

from implicit_estimators.kernels.base import Kernel
from implicit_estimators.kernels.distances import LADDER, ladder, median_distance, squared_distances
from implicit_estimators.kernels.gaussian import Gaussian
from implicit_estimators.kernels.laplace import Laplace
from implicit_estimators.kernels.negative_distance import NegativeDistance
from implicit_estimators.kernels.pairs import pair_sum
from implicit_estimators.kernels.polynomial import Polynomial
from implicit_estimators.kernels.rational_quadratic import RationalQuadratic

KERNELS: dict[str, type[Kernel]] = {
    kernel.name: kernel for kernel in (Gaussian, RationalQuadratic, Laplace, NegativeDistance, Polynomial)
}
"""Kernels by name."""

__all__ = [
    "KERNELS",
    "LADDER",
    "Gaussian",
    "Kernel",
    "Laplace",
    "NegativeDistance",
    "Polynomial",
    "RationalQuadratic",
    "ladder",
    "median_distance",
    "pair_sum",
    "squared_distances",
]
