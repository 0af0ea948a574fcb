"""Posteriors: by ratio, by adversarial training, by density."""

from implicit_infer.posteriors.auto import Auto
from implicit_infer.posteriors.avb import AVB
from implicit_infer.posteriors.base import Posterior
from implicit_infer.posteriors.corrected import CorrectedPosterior, RatioCorrected, correct
from implicit_infer.posteriors.corrected_certificate import Certificate
from implicit_infer.posteriors.corrected_classifier import Classifier
from implicit_infer.posteriors.corrected_sampling import Reweighting
from implicit_infer.posteriors.flow_matching import FMPE
from implicit_infer.posteriors.gatsbi import GATSBI
from implicit_infer.posteriors.gatsbi_paired import PairedRelativistic
from implicit_infer.posteriors.lfvi import LFVI
from implicit_infer.posteriors.mcmc import EnsembleSampler
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.posteriors.nle import NLE
from implicit_infer.posteriors.npe import NPE
from implicit_infer.posteriors.nre import NRE
from implicit_infer.posteriors.nre_a import NREA
from implicit_infer.posteriors.nre_b import NREB
from implicit_infer.posteriors.nre_balanced import BNRE
from implicit_infer.posteriors.nre_c import NREC
from implicit_infer.posteriors.reference import ReferencePosterior, nuts, reference_posterior
from implicit_infer.posteriors.sbi_peers import SbiFMPE, SbiNLE, SbiNPE, SbiNRE
from implicit_infer.posteriors.sequential import SNLE, TSNPE
from implicit_infer.posteriors.several import SeveralPosterior, several_observations
from implicit_infer.posteriors.tmnre import TMNRE
from implicit_infer.posteriors.variational_joint import JointContrastive
from implicit_infer.posteriors.variational_prior import PriorContrastive

__all__ = [
    "AVB",
    "BNRE",
    "FMPE",
    "GATSBI",
    "LFVI",
    "NLE",
    "NPE",
    "NRE",
    "NREA",
    "NREB",
    "NREC",
    "SNLE",
    "TMNRE",
    "TSNPE",
    "Auto",
    "Certificate",
    "Classifier",
    "CorrectedPosterior",
    "EnsembleSampler",
    "JointContrastive",
    "Method",
    "PairedRelativistic",
    "Posterior",
    "PriorContrastive",
    "Question",
    "RatioCorrected",
    "ReferencePosterior",
    "Reweighting",
    "SbiFMPE",
    "SbiNLE",
    "SbiNPE",
    "SbiNRE",
    "SeveralPosterior",
    "correct",
    "nuts",
    "reference_posterior",
    "several_observations",
]
