"""Approximate Bayesian computation: keep the simulations that look like the data."""

from implicit_infer.abc.distances import Distance, Mahalanobis, PNorm
from implicit_infer.abc.mcmc import ABCMCMC
from implicit_infer.abc.rejection import RejectionABC
from implicit_infer.abc.replenishment import ReplenishmentABC
from implicit_infer.abc.smc import SMCABC

__all__ = ["ABCMCMC", "SMCABC", "Distance", "Mahalanobis", "PNorm", "RejectionABC", "ReplenishmentABC"]
