"""Approximate Bayesian computation: keep the simulations that look like the data."""

from implicit_infer.abc.adjusted import AdjustedABC
from implicit_infer.abc.bolfi import BOLFI
from implicit_infer.abc.distances import Distance, Mahalanobis, PNorm
from implicit_infer.abc.forest import ForestABC, MarginalForestABC
from implicit_infer.abc.mcmc import ABCMCMC
from implicit_infer.abc.model_choice import ForestChoice, ModelChoice, RejectionChoice, SMCChoice
from implicit_infer.abc.pseudo_marginal import ChainSettings
from implicit_infer.abc.rejection import RejectionABC
from implicit_infer.abc.replenishment import ReplenishmentABC
from implicit_infer.abc.scoring_rule import ScoringRuleBayes
from implicit_infer.abc.scoring_rules import EnergyScore, KernelScore
from implicit_infer.abc.smc import SMCABC
from implicit_infer.abc.synthetic import BSL, SemiBSL, UnbiasedBSL

__all__ = [
    "ABCMCMC",
    "BOLFI",
    "BSL",
    "SMCABC",
    "AdjustedABC",
    "ChainSettings",
    "Distance",
    "EnergyScore",
    "ForestABC",
    "ForestChoice",
    "KernelScore",
    "Mahalanobis",
    "MarginalForestABC",
    "ModelChoice",
    "PNorm",
    "RejectionABC",
    "RejectionChoice",
    "ReplenishmentABC",
    "SMCChoice",
    "ScoringRuleBayes",
    "SemiBSL",
    "UnbiasedBSL",
]
