r"""Any amortised posterior, corrected by a classifier that tells its draws from the truth.

Let q be what some method learned. A classifier between :math:`(\theta, x)` of the joint law and
:math:`(\theta' \sim q(\cdot \mid x), x)` has, at its optimum, the logit

.. math:: h(\theta, x) = \log \frac{p(\theta \mid x)}{q(\theta \mid x)},

so that draws of q, weighted by :math:`e^{\lambda h}`, are draws of the posterior at any x, for any q that can be drawn
from: it needs no density. How well the classifier does on simulations that it has not learned from is the certificate
of how wrong q was, and the same simulations choose the factor :math:`\lambda \in [0, 1]`, which is 0 where the
classifier finds nothing: a right q stays as it is.

A q that has overfitted is nearer to the truth on the simulations that it learned from than on others, so the
classifier must not look at those. The simulations are dealt into folds; q is learned K times, each time without one of
them, and held against that one (cross-fitting). All simulations then serve both ends, and the answer is the mixture of
the K corrected posteriors. ``fits=1`` learns q once and keeps one fold for the classifier, at a K-th of the price.

References:
    | Bias correction of learned generative models using likelihood-free importance weighting (Grover et al., 2019)
    | https://arxiv.org/abs/1906.09531
    | Discriminative calibration (Yao & Domke, 2023)
    | https://arxiv.org/abs/2305.14593
    | Likelihood-free MCMC with amortized approximate ratio estimators (Hermans et al., 2020), where q is the prior
    | https://arxiv.org/abs/1903.04057
    | Double/debiased machine learning (Chernozhukov et al., 2018), for cross-fitting
    | https://arxiv.org/abs/1608.00060
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from implicit_infer.catalogue import resolve_method
from implicit_infer.posteriors.base import Posterior
from implicit_infer.posteriors.coordinates import Coordinates
from implicit_infer.posteriors.corrected_certificate import Certificate
from implicit_infer.posteriors.corrected_classifier import Classifier, LogRatio, described, inputs_of
from implicit_infer.posteriors.corrected_sampling import Reweighting, log_mean_exp
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.progress import track
from implicit_infer.runs import Runs
from implicit_simulators import Seed, Stream, resolve_seed

if TYPE_CHECKING:
    from implicit_infer.stored import StoredRuns

OBSERVATIONS = 500
"""Observations that q is drawn from at once."""

DRAWS = 2**18
"""Weighted draws that are held at once, over observations."""


@dataclass(frozen=True)
class RatioCorrected(Method):
    """Another method's posterior, corrected by a classifier between its draws and the truth.

    Args:
        base: The method: a name of ``ii.methods()`` or a method; one whose posterior is amortised.
        folds: Folds that the simulations are dealt into; a base learns from all but one.
        fits: Bases that are learned, each with another fold left out; as many as folds if None, 1 for the cheapest.
        classifier: The classifier's settings.
        reweighting: How weighted draws become draws.

    Raises:
        ValueError: If there is no such method, its posterior is not amortised, or a count is out of its range.
    """

    base: str | Method = "npe"
    folds: int = 5
    fits: int | None = None
    classifier: Classifier = field(default_factory=Classifier)
    reweighting: Reweighting = field(default_factory=Reweighting)

    name = "corrected"

    def __post_init__(self) -> None:
        if self.folds < 2 or not 1 <= (self.fits or self.folds) <= self.folds:
            raise ValueError(
                "folds, fits: expected at least 2 folds, and between 1 and as many fits as folds; got "
                f"{self.folds} and {self.fits}"
            )
        base = resolve_method(self.base)
        if not base.amortised:
            raise ValueError(
                f"base: expected a method whose posterior answers for any x; {base.name!r} answers for one"
            )

    def infer(self, question: Question) -> CorrectedPosterior:
        """Learn the bases and the classifier from ``question.budget`` simulations from the prior."""
        method, runs = resolve_method(self.base), question.runs()
        theta, x = runs.valid()
        fold = torch.randperm(len(theta), generator=Stream.of(question.seed, role="split").torch()) % self.folds
        bases, held_out = [], []
        for k in range(self.fits or self.folds):
            learn = fold != k
            bank = Runs(theta[learn], x[learn], runs.seed, {}, question.simulator.parameter_names)
            # a method may use the seeds beside the one that it is given
            seed = Stream.of(question.seed, k, "train").key >> 1
            bases.append(method.infer(replace(question, bank=bank, budget=len(bank), seed=seed)))
            held_out.append((theta[~learn], x[~learn]))
        return _corrected(
            bases,
            held_out,
            Coordinates(question.simulator, theta, x),
            self.classifier,
            self.reweighting,
            observed=question.observed,
            seed=question.seed,
            device=question.device,
            progress=question.progress,
            method=self.name,
            simulations=len(runs),
            failed=int(runs.failed.sum()),
        )


def correct(
    posterior: Posterior,
    runs: Runs | StoredRuns,
    *,
    classifier: Classifier | None = None,
    reweighting: Reweighting | None = None,
    seed: Seed = 0,
    device: str = "cpu",
    progress: bool = True,
) -> CorrectedPosterior:
    """Correct a posterior that is there already, and say how wrong it was.

    Args:
        posterior: An amortised posterior.
        runs: Simulations from the prior that it has **not** learned from: a posterior that has overfitted looks right
            on those that it has.
        classifier: The classifier's settings.
        reweighting: How weighted draws become draws.
        seed: An int, a ``torch.Generator`` or None.
        device: Where the classifier is trained.
        progress: Whether to show progress.

    Returns:
        The corrected posterior, with the ``certificate``.

    Raises:
        TypeError: If ``posterior`` is none of ours.
        ValueError: If there are too few simulations, or they are of another simulator.
    """
    if not isinstance(posterior, Posterior):
        raise TypeError(f"posterior: expected a Posterior; got {type(posterior).__name__}")
    theta, x = runs.valid()
    simulator = posterior.simulator
    if theta.shape[1:] != (simulator.dim,) or x.shape[1:] != simulator.event_shape:
        raise ValueError(
            f"runs: expected theta and x of shapes (n, {simulator.dim}) and (n, *{tuple(simulator.event_shape)}), as "
            f"the posterior has them; got {tuple(theta.shape)} and {tuple(x.shape)}"
        )
    return _corrected(
        [posterior],
        [(theta, x)],
        Coordinates(simulator, theta, x),
        classifier or Classifier(),
        reweighting or Reweighting(),
        observed=posterior.observed,
        seed=resolve_seed(seed),
        device=device,
        progress=progress,
        method=f"corrected {posterior.method}",
        simulations=posterior.simulations + len(runs),
        failed=int(runs.failed.sum()),
    )


class CorrectedPosterior(Posterior):
    """The mixture of posteriors, each weighted by its ratio to the truth; a potential where all of them have a density.

    Attributes:
        bases: The posteriors.
        ratio: The estimated log-ratio.
    """

    def __init__(
        self,
        *args: Any,
        bases: Sequence[Posterior],
        coordinates: Coordinates,
        ratio: LogRatio,
        classifier: Classifier,
        reweighting: Reweighting,
        seed: int,
        **about: Any,
    ) -> None:
        super().__init__(*args, **about)
        self.bases = list(bases)
        self.coordinates = coordinates
        self.ratio = ratio
        self.classifier = classifier
        self.reweighting = reweighting
        self.seed = seed

    @property
    def certificate(self) -> Certificate:
        """How wrong the posteriors were before the correction."""
        return Certificate.from_figures(self.figures["certificate"])

    @torch.no_grad()
    def _sample(self, n: int, x: Tensor, stream: Stream, progress: bool) -> Tensor:
        generator = stream.torch()
        if n == 0:
            return torch.empty(0, len(x), self.coordinates.parameters_dim)
        size = max(1, DRAWS // (self.reweighting.oversample * n))
        parts, figures = [], []
        with track("sampling", total=len(x), show=progress) as bar:
            for some in x.split(min(size, OBSERVATIONS)):
                if self.ratio.factor == 0:
                    parts.append(self._mixture(n, some, generator))
                else:
                    drawn, found = self.reweighting.draw(self._proposal(some, generator), n, len(some), generator)
                    parts.append(drawn)
                    figures.append(found)
                bar.update(len(some))
        for name in figures[0] if figures else ():
            worst = min if name != "repeated" else max
            self.figures[name] = worst(found[name] for found in figures)
        return torch.cat(parts, 1)

    def _mixture(self, n: int, x: Tensor, generator: torch.Generator) -> Tensor:
        """As many draws of each base as of the others, in random order: (n, B, d)."""
        shares = [len(part) for part in torch.arange(n).tensor_split(len(self.bases))]
        drawn = [
            base.sample_batched((share,), x, seed=generator)
            for base, share in zip(self.bases, shares, strict=True)
            if share
        ]
        return torch.cat(drawn)[torch.randperm(n, generator=generator)]

    def _proposal(self, x: Tensor, generator: torch.Generator) -> Any:
        """Weighted draws of all bases at B observations, for ``Reweighting.draw``."""
        s = self.coordinates.summaries(x)
        about = [self._described(k, x, s) for k in range(len(self.bases))]

        def propose(m: int, rows: Tensor) -> tuple[Tensor, Tensor]:
            share = -(-m // len(self.bases))
            theta, log_weight = [], []
            for base, (location, scale) in zip(self.bases, about, strict=True):
                drawn = base.sample_batched((share,), x[rows], seed=generator)
                v = _free(self.coordinates, drawn, s[rows])
                inputs = inputs_of(v.transpose(0, 1), location[rows], scale[rows], s[rows])
                theta.append(drawn)
                log_weight.append(self.ratio(inputs).T)
            order = torch.randperm(share * len(self.bases), generator=generator)
            return torch.cat(theta)[order], torch.cat(log_weight)[order]

        return propose

    def _described(self, k: int, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Location and scale of base k at each x; the same whenever it is asked, as a density must be."""
        drawn = self.bases[k].sample_batched((self.classifier.described_by,), x, seed=self.seed)
        return described(_free(self.coordinates, drawn, s))

    @torch.no_grad()
    def log_ratio(self, theta: Tensor, x: Tensor, k: int = 0) -> Tensor:
        """The log-ratio that corrects base ``k``, with shape (n,) for theta (n, d) in the support and one x."""
        s = self.coordinates.summaries(x[None])
        location, scale = self._described(k, x[None], s)
        v = _free(self.coordinates, theta[:, None], s).transpose(0, 1)
        return self.ratio(inputs_of(v, location, scale, s))[0]

    def _log_prob(self, theta: Tensor, x: Tensor) -> Tensor:
        if self.ratio.factor:
            raise NotImplementedError(f"a {self.method} posterior has no normalised density; see potential")
        return log_mean_exp([base.log_prob(theta, x) for base in self.bases])

    def _potential(self, theta: Tensor, x: Tensor) -> Tensor:
        if len(self.bases) == 1:
            values = [self.bases[0].potential(theta, x)]
        else:  # a mixture needs densities that are normalised
            values = [base.log_prob(theta, x) for base in self.bases]
        if self.ratio.factor == 0:
            return log_mean_exp(values)
        inside, legal = self.coordinates.legal(theta)
        weighted = [value + self.log_ratio(legal, x, k) for k, value in enumerate(values)]
        return torch.where(inside, log_mean_exp(weighted), -torch.inf)


def _corrected(
    bases: list[Posterior],
    held_out: list[tuple[Tensor, Tensor]],
    coordinates: Coordinates,
    classifier: Classifier,
    reweighting: Reweighting,
    *,
    observed: Tensor,
    seed: int,
    device: str,
    progress: bool,
    method: str,
    simulations: int,
    failed: int,
) -> CorrectedPosterior:
    """Train the classifier on simulations that each base has not seen."""
    stream = Stream.of(seed, role="train")
    random = stream.torch()
    joint, drawn = [], []
    rows = sum(len(x) for _, x in held_out)
    with track("drawing from what is to be corrected", total=rows, show=progress) as bar:
        for base, (theta, x) in zip(bases, held_out, strict=True):
            for some, given in zip(theta.split(OBSERVATIONS), x.split(OBSERVATIONS), strict=True):
                s = coordinates.summaries(given)
                count = classifier.described_by + classifier.contrasts
                draws = _free(coordinates, base.sample_batched((count,), given, seed=random), s)
                location, scale = described(draws[: classifier.described_by])
                truth = _free(coordinates, some[None], s).transpose(0, 1)
                joint.append(inputs_of(truth, location, scale, s)[:, 0])
                rivals = draws[classifier.described_by :].transpose(0, 1)
                drawn.append(inputs_of(rivals, location, scale, s))
                bar.update(len(some))
    with track("training the classifier", total=classifier.epochs, show=progress) as bar:
        ratio, certificate = classifier.fit(
            torch.cat(joint).to(device),
            torch.cat(drawn).to(device),
            seed,
            lambda epoch, figures: bar.update(1, **figures),
        )
    ratio.module.cpu()
    base = bases[0]
    warnings = [sentence for one in bases for sentence in one.warnings]
    if certificate.told_apart:
        warnings.append(f"{base.method} alone was off, and its draws are corrected: {certificate}")
    return CorrectedPosterior(
        base.simulator,
        observed,
        bases=bases,
        coordinates=coordinates,
        ratio=ratio,
        classifier=classifier,
        reweighting=reweighting,
        seed=stream.key >> 1,
        method=method,
        simulations=simulations,
        figures={
            "failed_simulations": failed,
            "certificate": certificate.figures(),
            "base": base.method,
            "base_figures": [one.figures for one in bases],
        },
        warnings=list(dict.fromkeys(warnings)),
    )


def _free(coordinates: Coordinates, theta: Tensor, s: Tensor) -> Tensor:
    """V of shape (m, B, d) at theta of that shape and s (B, k)."""
    m, batch, d = theta.shape
    u = coordinates.transform.inv(theta.reshape(-1, d))
    v = coordinates.free(u, s.expand(m, -1, -1).reshape(m * batch, -1))
    # a draw on the very edge of the prior's support is infinitely far out
    return torch.nan_to_num(v, nan=0.0, posinf=1e6, neginf=-1e6).reshape(m, batch, d)
