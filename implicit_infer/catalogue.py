"""The names of everything there is, each leading to the class behind it, imported when it is asked for.

To add a method, write its class and add one line to the dict below.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from implicit_estimators.comparisons import Comparison
    from implicit_infer.fitting.base import FitMethod
    from implicit_infer.posteriors.method import Method

METHODS = {
    "rejection-abc": "implicit_infer.abc:RejectionABC",
    "adjusted-abc": "implicit_infer.abc:AdjustedABC",
    "smc-abc": "implicit_infer.abc:SMCABC",
    "replenishment-abc": "implicit_infer.abc:ReplenishmentABC",
    "abc-mcmc": "implicit_infer.abc:ABCMCMC",
    "bsl": "implicit_infer.abc.synthetic:BSL",
    "unbiased-bsl": "implicit_infer.abc.synthetic:UnbiasedBSL",
    "semi-bsl": "implicit_infer.abc.synthetic:SemiBSL",
    "scoring-rule": "implicit_infer.abc.scoring_rule:ScoringRuleBayes",
    "forest-abc": "implicit_infer.abc.forest:ForestABC",
    "rf-abc": "implicit_infer.abc.forest:MarginalForestABC",
    "bolfi": "implicit_infer.abc.bolfi:BOLFI",
    "nre": "implicit_infer.posteriors.nre:NRE",
    "nre-a": "implicit_infer.posteriors.nre_a:NREA",
    "nre-b": "implicit_infer.posteriors.nre_b:NREB",
    "nre-c": "implicit_infer.posteriors.nre_c:NREC",
    "bnre": "implicit_infer.posteriors.nre_balanced:BNRE",
    "tmnre": "implicit_infer.posteriors.tmnre:TMNRE",
    "gatsbi": "implicit_infer.posteriors.gatsbi:GATSBI",
    "avb": "implicit_infer.posteriors.avb:AVB",
    "prior-contrastive": "implicit_infer.posteriors.variational_prior:PriorContrastive",
    "joint-contrastive": "implicit_infer.posteriors.variational_joint:JointContrastive",
    "lfvi": "implicit_infer.posteriors.lfvi:LFVI",
    "auto": "implicit_infer.posteriors.auto:Auto",
    "npe": "implicit_infer.posteriors.npe:NPE",
    "tsnpe": "implicit_infer.posteriors.sequential:TSNPE",
    "nle": "implicit_infer.posteriors.nle:NLE",
    "snle": "implicit_infer.posteriors.sequential:SNLE",
    "fmpe": "implicit_infer.posteriors.flow_matching:FMPE",
    "corrected": "implicit_infer.posteriors.corrected:RatioCorrected",
    "sbi-npe": "implicit_infer.posteriors.sbi_peers:SbiNPE",
    "sbi-nle": "implicit_infer.posteriors.sbi_peers:SbiNLE",
    "sbi-nre": "implicit_infer.posteriors.sbi_peers:SbiNRE",
    "sbi-fmpe": "implicit_infer.posteriors.sbi_peers:SbiFMPE",
}
"""Inference methods, in the order in which comparisons list them."""

FIT_METHODS = {
    "auto": "implicit_infer.fitting.auto:Auto",
    "pathwise": "implicit_infer.fitting.pathwise:Pathwise",
    "avo": "implicit_infer.fitting.avo:AVO",
    "local-surrogate": "implicit_infer.fitting.local_surrogate:LocalSurrogate",
    "emulator": "implicit_infer.fitting.emulated:EmulatedFit",
    "ratio-likelihood": "implicit_infer.fitting.ratio_likelihood:RatioLikelihood",
    "synthetic-likelihood": "implicit_infer.fitting.synthetic_likelihood:SyntheticLikelihood",
    "cma-es": "implicit_infer.fitting.search:CMAES",
    "nelder-mead": "implicit_infer.fitting.search:NelderMead",
}
"""Ways to fit a simulator's parameters to data."""

COMPARISONS = {
    "gan": "implicit_estimators.comparisons.gans:GAN",
    "gan-r1": "implicit_estimators.comparisons.gans:R1GAN",
    "minimax": "implicit_estimators.comparisons.gans:MinimaxGAN",
    "ml-gan": "implicit_estimators.comparisons.gans:MLGAN",
    "dragan": "implicit_estimators.comparisons.gans:DRAGAN",
    "brier": "implicit_estimators.comparisons.scores:BrierGAN",
    "lsgan": "implicit_estimators.comparisons.scores:LSGAN",
    "hinge": "implicit_estimators.comparisons.scores:HingeGAN",
    "exponential": "implicit_estimators.comparisons.scores:ExponentialGAN",
    "kl": "implicit_estimators.comparisons.f_gans:KLGAN",
    "reverse-kl": "implicit_estimators.comparisons.f_gans:ReverseKLGAN",
    "js": "implicit_estimators.comparisons.f_gans:JensenShannonGAN",
    "pearson": "implicit_estimators.comparisons.f_gans:PearsonGAN",
    "neyman": "implicit_estimators.comparisons.f_gans:NeymanGAN",
    "hellinger": "implicit_estimators.comparisons.f_gans:HellingerGAN",
    "jeffreys": "implicit_estimators.comparisons.f_gans:JeffreysGAN",
    "tv": "implicit_estimators.comparisons.f_gans:TotalVariationGAN",
    "alpha": "implicit_estimators.comparisons.f_gans:AlphaGAN",
    "lsif": "implicit_estimators.comparisons.ratios:LSIFGAN",
    "kliep": "implicit_estimators.comparisons.ratios:KLIEPGAN",
    "donsker-varadhan": "implicit_estimators.comparisons.ratios:DonskerVaradhanGAN",
    "wgan-clip": "implicit_estimators.comparisons.wasserstein:WassersteinGAN",
    "wgan-gp": "implicit_estimators.comparisons.wasserstein:WassersteinGP",
    "wgan-sn": "implicit_estimators.comparisons.wasserstein:WassersteinSN",
    "fisher": "implicit_estimators.comparisons.wasserstein:FisherGAN",
    "relativistic": "implicit_estimators.comparisons.relativistic:RelativisticGAN",
    "relativistic-average": "implicit_estimators.comparisons.relativistic:RelativisticAverageGAN",
    "r3gan": "implicit_estimators.comparisons.relativistic:R3GAN",
    "mmd": "implicit_estimators.comparisons.mmd:MMDMatching",
    "mmd-gan": "implicit_estimators.comparisons.mmd_gan:MMDGAN",
    "energy": "implicit_estimators.comparisons.energy:EnergyMatching",
    "sliced-wasserstein": "implicit_estimators.comparisons.transport:SlicedMatching",
    "sinkhorn": "implicit_estimators.comparisons.transport:SinkhornMatching",
    "moments": "implicit_estimators.comparisons.moments:MomentMatching",
    "feature-matching": "implicit_estimators.comparisons.moments:FeatureMatching",
    "cramer": "implicit_estimators.comparisons.cramer:CramerGAN",
}
"""What a model is held against data by, in the order of ``implicit_estimators.comparisons.COMPARISONS``."""

DENSITIES = {"mle": "implicit_infer.generators.likelihood:MaximumLikelihood"}
"""What a model that has a density can be held against data by, besides."""

GAMES = {
    "alternating": "implicit_infer.games.alternating:Alternating",
    "simultaneous": "implicit_infer.games.simultaneous:Simultaneous",
    "extragradient": "implicit_infer.games.extragradient:Extragradient",
    "optimistic": "implicit_infer.games.optimistic:Optimistic",
    "consensus": "implicit_infer.games.consensus:Consensus",
    "unrolled": "implicit_infer.games.unrolled:Unrolled",
}
"""Ways to step a game of two networks, in the order of ``implicit_infer.games.GAMES``."""

GENERATORS = {
    "mlp": "implicit_infer.generators.networks.mlp:MLPGenerator",
    "flow": "implicit_infer.generators.networks.flow:FlowGenerator",
    "conv": "implicit_infer.generators.networks.conv:ConvGenerator",
    "pyramid": "implicit_infer.generators.networks.pyramid:PyramidGenerator",
}
"""Networks that draw, in the order of ``implicit_infer.generators.networks.GENERATORS``."""

RATIO_METHODS = {
    "auto": "implicit_estimators.ratio.auto:AutoRatio",
    "logistic": "implicit_estimators.ratio.classifiers.logistic:LogisticRatio",
    "brier": "implicit_estimators.ratio.classifiers.brier:BrierRatio",
    "exponential": "implicit_estimators.ratio.classifiers.exponential:ExponentialRatio",
    "f-divergence": "implicit_estimators.ratio.classifiers.f_divergence:FDivergenceRatio",
    "nwj": "implicit_estimators.ratio.classifiers.nwj:NWJRatio",
    "donsker-varadhan": "implicit_estimators.ratio.classifiers.donsker_varadhan:DonskerVaradhanRatio",
    "smile": "implicit_estimators.ratio.classifiers.smile:SmileRatio",
    "lsif": "implicit_estimators.ratio.classifiers.lsif:LSIFRatio",
    "relative": "implicit_estimators.ratio.classifiers.relative:RelativeRatio",
    "multinomial": "implicit_estimators.ratio.classifiers.multinomial:MultinomialRatio",
    "classifier": "implicit_estimators.ratio.classifiers.scikit:ClassifierRatio",
    "ensemble": "implicit_estimators.ratio.ensemble:EnsembleRatio",
    "kernel-logistic": "implicit_estimators.ratio.kernels.logistic:KernelLogisticRatio",
    "ulsif": "implicit_estimators.ratio.kernels.ulsif:ULSIFRatio",
    "rulsif": "implicit_estimators.ratio.kernels.rulsif:RuLSIFRatio",
    "kliep": "implicit_estimators.ratio.kernels.kliep:KLIEPRatio",
    "gaussian": "implicit_estimators.ratio.densities.gaussian:GaussianRatio",
    "quadratic": "implicit_estimators.ratio.densities.quadratic:QuadraticRatio",
    "mixture": "implicit_estimators.ratio.densities.mixture:MixtureRatio",
    "flow": "implicit_estimators.ratio.densities.flows:FlowRatio",
    "featurised": "implicit_estimators.ratio.densities.featurised:FeaturisedRatio",
    "telescoping": "implicit_estimators.ratio.bridges.telescoping:TelescopingRatio",
    "dre-infinity": "implicit_estimators.ratio.bridges.time_score:InfinityRatio",
    "conditional-path": "implicit_estimators.ratio.bridges.conditional_paths:ConditionalPathRatio",
}
"""Density-ratio estimators; "auto" is the first."""


class Catalogue(Mapping[str, Any]):
    """A read-only mapping from names to classes; looking a name up imports its module, listing the names does not.

    Args:
        kind: What the names are names of, for messages ("method").
        entries: Name to ``"module:Class"``.
    """

    def __init__(self, kind: str, entries: Mapping[str, str]) -> None:
        self.kind = kind
        self.entries = dict(entries)

    def __getitem__(self, name: str) -> Any:
        module, _, attribute = self.entries[name].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, name: object) -> bool:
        # Mapping's own would import the module to find out
        return name in self.entries

    def __repr__(self) -> str:
        return f"<{len(self)} {self.kind}s: {', '.join(self)}>"


def methods() -> Catalogue:
    """Inference methods by name: what ``ii.infer`` and ``ii.compare`` take."""
    return Catalogue("method", METHODS)


def fit_methods() -> Catalogue:
    """Fitting methods by name: what ``ii.fit`` takes."""
    return Catalogue("fit method", FIT_METHODS)


def comparisons() -> Catalogue:
    """Comparisons by name: what ``ii.learn`` takes."""
    return Catalogue("comparison", COMPARISONS | DENSITIES)


def games() -> Catalogue:
    """Ways to step a game by name: what ``ii.learn`` takes."""
    return Catalogue("game", GAMES)


def generators() -> Catalogue:
    """Generator networks by name: what ``ii.learn`` takes."""
    return Catalogue("generator", GENERATORS)


def ratio_methods() -> Catalogue:
    """Density-ratio estimators by name: what ``ii.estimate_ratio`` takes."""
    return Catalogue("ratio method", RATIO_METHODS)


def simulators() -> Mapping[str, Any]:
    """Simulators that ship with the package, by name: what the command line takes."""
    from implicit_simulators.catalogue import simulators

    return simulators()


def find(name: object, known: Mapping[str, Any], argument: str) -> Any:
    """The entry ``name`` of ``known``, or a ``ValueError`` that names the closest one and lists all.

    Args:
        name: What the user asked for.
        known: What there is, by name.
        argument: Name of the argument, for the message.

    Raises:
        ValueError: If there is none of that name.
    """
    if isinstance(name, str) and name in known:
        return known[name]
    near = difflib.get_close_matches(str(name).lower().replace("_", "-"), list(known), n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ValueError(f"{argument}: expected one of {', '.join(known)}; got {name!r}{hint}")


def resolve_method(method: str | Method | type[Method]) -> Method:
    """A method from its name (with its default settings), from its class, or as it is.

    Raises:
        ValueError: If there is no method of that name.
        TypeError: If ``method`` is neither a name nor a method.
    """
    from implicit_infer.posteriors.method import Method

    if isinstance(method, str):
        method = find(method, methods(), "method")
    if isinstance(method, type) and issubclass(method, Method):
        method = method()
    if not isinstance(method, Method):
        raise TypeError(f"method: expected a name or a Method such as NRE(...); got {type(method).__name__}")
    return method


def resolve_fit_method(
    method: str | FitMethod | type[FitMethod], comparison: str | Comparison | type[Comparison] | None = None
) -> FitMethod:
    """A fitting method from its name or its class, with its default settings and the comparison, or as it is.

    Args:
        method: A name of ``ii.fit_methods()``, a class, or a method with its settings, which brings its own comparison.
        comparison: What a method that is named holds draws against data by, in place of its own; others ignore it.

    Raises:
        ValueError: If there is no method or comparison of that name, or both a method with its settings and another
            comparison than its own are given.
        TypeError: If ``method`` is neither a name nor a fitting method.
    """
    from implicit_estimators.comparisons import Comparison
    from implicit_infer.fitting.base import FitMethod

    if isinstance(comparison, str):
        find(comparison, Catalogue("comparison", COMPARISONS), "comparison")
    elif comparison is not None and not (
        isinstance(comparison, Comparison) or (isinstance(comparison, type) and issubclass(comparison, Comparison))
    ):
        raise TypeError(f"comparison: expected a name or a Comparison; got {type(comparison).__name__}")
    if isinstance(method, str):
        method = find(method, fit_methods(), "method")
    if isinstance(method, type) and issubclass(method, FitMethod):
        settings: dict[str, Any] = {"comparison": comparison} if method.compares and comparison is not None else {}
        return method(**settings)
    if not isinstance(method, FitMethod):
        raise TypeError(f"method: expected a name or a FitMethod such as AVO(...); got {type(method).__name__}")
    own = getattr(method, "comparison", None)
    if method.compares and comparison is not None and comparison != own:
        raise ValueError(f"comparison: {type(method).__name__} brings its own ({own!r}); got {comparison!r} besides")
    return method
