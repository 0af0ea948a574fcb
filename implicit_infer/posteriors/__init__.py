"""Posteriors: by ratio, by adversarial training, by density."""

from implicit_infer.posteriors.base import Posterior
from implicit_infer.posteriors.gatsbi import GATSBI
from implicit_infer.posteriors.mcmc import EnsembleSampler
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.posteriors.npe import NPE
from implicit_infer.posteriors.nre import NRE
from implicit_infer.posteriors.reference import ReferencePosterior, nuts, reference_posterior
from implicit_infer.posteriors.sbi_peers import SbiFMPE, SbiNLE, SbiNPE, SbiNRE

__all__ = [
    "GATSBI",
    "NPE",
    "NRE",
    "EnsembleSampler",
    "Method",
    "Posterior",
    "Question",
    "ReferencePosterior",
    "SbiFMPE",
    "SbiNLE",
    "SbiNPE",
    "SbiNRE",
    "nuts",
    "reference_posterior",
]
