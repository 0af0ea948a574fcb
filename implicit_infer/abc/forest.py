r"""Random-forest ABC: a forest that predicts parameters from summaries says which simulations are like the data.

Two methods, which differ in what the forests are grown for:

- :class:`ForestABC` grows one forest for all parameters, so that its weighted simulations are draws of the joint
  posterior. Each split makes the laws of theta on its two sides as different as it can, by the kernel distance (MMD)
  between them. With random Fourier features :math:`\varphi(\theta) = (\cos \omega_f^\top\theta, \sin
  \omega_f^\top\theta)_f`, :math:`\omega_f \sim N(0, \sigma^{-2} I)`, drawn anew for each tree, that is a regression
  tree of least squares with the targets :math:`\varphi`:

  .. math:: \max_{\text{split}} \; \frac{n_L n_R}{(n_L + n_R)^2} \left\| \bar\varphi_L - \bar\varphi_R \right\|^2
      \approx \max_{\text{split}} \; \frac{n_L n_R}{(n_L + n_R)^2} \operatorname{MMD}^2_k(\theta_L, \theta_R)

  This is a distributional random forest (Ćevid et al., 2022), which Dinh et al. (2024) use for ABC; theirs draws the
  features anew at each split and may grow and fill trees with different halves of the data, ours does neither.
- :class:`MarginalForestABC` grows a forest for each parameter (Raynal et al., 2019), which estimates marginals. Its
  joint draws take each parameter from its own forest, independently; or, with ``dependence="joint"``, in the order of
  a joint forest's draws (the Schaake shuffle), which keeps each marginal and takes the copula from there.

Forests need no tolerance and no scale of the summaries, and pass over those that say nothing. The posterior is a
weighted part of the bank, so that it is as narrow as the bank is dense: with many parameters it stays wide.

References:
    | ABC random forests for Bayesian parameter inference (Raynal, Marin, Pudlo, Ribatet, Robert & Estoup, 2019)
    | https://arxiv.org/abs/1605.05537
    | Approximate Bayesian computation sequential Monte Carlo via random forests (Dinh, Liu, Xiang, Liu & Tavaré, 2024)
    | https://arxiv.org/abs/2406.15865
    | Distributional random forests (Ćevid, Michel, Näf, Bühlmann & Meinshausen, 2022)
    | https://jmlr.org/papers/v23/21-0585.html
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from implicit_infer.abc.distances import Distance, inverse, robust_scale
from implicit_infer.abc.forest_trees import Growth, Targets, Trees
from implicit_infer.abc.particles import Particles
from implicit_infer.abc.posterior import ParticlePosterior
from implicit_infer.abc.space import UnconstrainedPrior
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.progress import track
from implicit_infer.runs import Runs
from implicit_infer.stored import StoredRuns
from implicit_simulators import Stream

LITTLE = 0.02
"""Share of a parameter's variance below which the summaries are said to tell nothing of it."""

NEEDED = 20
"""Simulations that did not fail, below which there is nothing to grow a tree on."""


@dataclass(frozen=True)
class ForestABC(Method):
    """One random forest for all parameters: simulations weighted by how often they share the observation's leaf.

    Args:
        growth: Number and size of the trees.
        criterion: What splits tell apart: "distributional", the laws of theta as wholes, or "mean", their means alone
            (a multivariate regression forest on standardised parameters).
        frequencies: Random frequencies of each tree under "distributional".

    Raises:
        ValueError: If ``criterion`` is unknown or ``frequencies`` is not positive.
    """

    name: ClassVar[str] = "forest-abc"
    amortised: ClassVar[bool] = True

    growth: Growth = field(default_factory=Growth)
    criterion: Literal["distributional", "mean"] = "distributional"
    frequencies: int = 5

    def __post_init__(self) -> None:
        if self.criterion not in ("distributional", "mean"):
            raise ValueError(f"criterion: expected 'distributional' or 'mean'; got {self.criterion!r}")
        if self.frequencies < 1:
            raise ValueError(f"frequencies: expected a positive int; got {self.frequencies}")

    def infer(self, question: Question) -> ForestPosterior:
        """Grow the forest on ``question.budget`` simulations from the prior.

        Raises:
            ValueError: If hardly any simulation is finite, or the observation's summaries are not.
            TypeError: If the prior has no continuous support.
        """
        return ForestPosterior(self, question, _held(question))

    def forests(self, phi: Tensor, features: Tensor, seed: int, progress: bool) -> list[Trees]:
        """The forest, for standardised parameters (n, p) and summaries (n, k)."""
        n, p = phi.shape
        some = phi[torch.linspace(0, n - 1, min(n, 1000)).long()]
        width = float(torch.nn.functional.pdist(some).median().clamp_min(1e-12))

        def targets(random: np.random.Generator) -> Tensor:
            if self.criterion == "mean":
                return phi
            angle = phi @ torch.as_tensor(random.normal(size=(p, self.frequencies)) / width)
            return torch.cat((angle.cos(), angle.sin()), 1)

        with track("growing a forest", total=self.growth.trees, show=progress) as bar:
            return [Trees.grow(features, targets, self.growth, seed, bar)]


@dataclass(frozen=True)
class MarginalForestABC(Method):
    """A random forest for each parameter, as in the paper; joint draws take each parameter from its own forest.

    Marginals are estimated best so, as each forest splits by what tells of its parameter. Draws of several parameters
    are independent of one another unless told otherwise.

    Args:
        growth: Number and size of the trees of each forest.
        dependence: "independent" as in the paper, or "joint": draws of each parameter are put into the order that a
            further forest of all parameters, as of ``forest-abc``, gives them.

    Raises:
        ValueError: If ``dependence`` is unknown.
    """

    name: ClassVar[str] = "rf-abc"
    amortised: ClassVar[bool] = True

    growth: Growth = field(default_factory=Growth)
    dependence: Literal["independent", "joint"] = "independent"

    def __post_init__(self) -> None:
        if self.dependence not in ("independent", "joint"):
            raise ValueError(f"dependence: expected 'independent' or 'joint'; got {self.dependence!r}")

    def infer(self, question: Question) -> MarginalForestPosterior:
        """Grow the forests on ``question.budget`` simulations from the prior.

        Raises:
            ValueError: If hardly any simulation is finite, or the observation's summaries are not.
            TypeError: If the prior has no continuous support.
        """
        return MarginalForestPosterior(self, question, _held(question))

    def forests(self, phi: Tensor, features: Tensor, seed: int, progress: bool) -> list[Trees]:
        """One forest for each column of the standardised parameters (n, p), and the joint one if there shall be one."""
        d = phi.shape[1]
        joint = ForestABC(self.growth).forests(phi, features, seed + d, progress) if self.dependence == "joint" else []
        with track("growing forests", total=self.growth.trees * phi.shape[1], show=progress) as bar:
            own = [Trees.grow(features, _column(phi, j), self.growth, seed + j, bar) for j in range(d)]
        return own + joint


class ForestPosterior(ParticlePosterior):
    """A bank of simulations that a forest weighs for whatever observation is asked about.

    Args:
        settings: The method.
        question: What was asked.
        runs: The bank.

    Attributes:
        explained: Share of each parameter's variance that the forest predicts out of bag, in unconstrained space.
    """

    def __init__(self, settings: ForestABC | MarginalForestABC, question: Question, runs: Runs) -> None:
        super().__init__(question.simulator, question.observed, method=settings.name, simulations=len(runs))
        self.settings = settings
        self.prior = UnconstrainedPrior(self.simulator)
        features = Distance().features(self.simulator, runs.x)
        fine = torch.isfinite(features).all(1)
        failed = int((~fine).sum())
        if int(fine.sum()) < NEEDED:
            raise ValueError(f"budget: expected at least {NEEDED} simulations that did not fail; got {int(fine.sum())}")
        self.theta = runs.theta[fine]
        self.phi = self.prior.to(self.theta)
        standard = (self.phi - self.phi.median(0).values) * inverse(robust_scale(self.phi))
        # trees compare summaries only with one another: ranks are all that counts, but float32 must tell them apart
        self.centre = features[fine].double().median(0).values
        self.factor = inverse(robust_scale(features[fine].double()))
        seed = Stream.of(question.seed, 0, "train").key % 2**32
        self.trees = settings.forests(standard, self._scaled(features[fine]), seed, question.progress)
        self.explained = self._explained(standard)
        names = self.simulator.parameter_names
        self.figures.update(
            trees=settings.growth.trees,
            failed=failed,
            explained=dict(zip(names, self.explained.tolist(), strict=True)),
            ess=self.particles().ess,
        )
        if failed:
            self.warnings.append(f"{failed} of {len(runs)} simulations failed and have no weight")
        dark = [name for name, share in zip(names, self.explained.tolist(), strict=True) if share < LITTLE]
        if dark:
            self.warnings.append(
                f"the forest predicts next to nothing of {', '.join(dark)}: summaries do not tell, or too few are given"
            )

    def _state(self) -> dict[str, object]:
        # a function of the simulator
        return {name: value for name, value in super()._state().items() if name != "prior"}

    def _of_state(self, state: dict[str, object]) -> None:
        super()._of_state(state)
        self.prior = UnconstrainedPrior(self.simulator)

    def _scaled(self, features: Tensor) -> Tensor:
        return ((features.double() - self.centre) * self.factor).float()

    def _explained(self, standard: Tensor) -> Tensor:
        return self.trees[0].explained(standard)

    def weights(self, x: Tensor | None = None) -> Tensor:
        """Weights of the bank for one observation, one row for each forest, with shape (forests, n).

        Raises:
            ValueError: If the observation's summaries are not finite.
        """
        x = self.observed if x is None else x
        features = Distance().features(self.simulator, x[None])[0]
        if not torch.isfinite(features).all():
            raise ValueError("observed: its summary statistics are not finite")
        return torch.stack([trees.weights(self._scaled(features)) for trees in self.trees])

    def particles(self, x: Tensor | None = None, seed: int = 0) -> Particles:
        """The simulations that have any weight for one observation."""
        weights = self.weights(x)[0]
        kept = weights > 0
        return Particles(self.theta[kept], weights[kept].log())


class MarginalForestPosterior(ForestPosterior):
    """A bank that each parameter's own forest weighs for whatever observation is asked about."""

    def _explained(self, standard: Tensor) -> Tensor:
        own = zip(self.trees, standard.T, strict=False)  # a joint forest may come last
        return torch.cat([trees.explained(column[:, None]) for trees, column in own])

    def particles(self, x: Tensor | None = None, seed: int = 0) -> Particles:
        """Points whose parameters are drawn each by its own forest: as many as the smallest number of weighted ones."""
        every, d = self.weights(x), self.phi.shape[1]
        weights = every[:d]
        random = Stream.of(seed, 0, "split").torch()
        marginals = [Particles(self.phi, row.log()) for row in weights]
        # systematic draws of each, in random order: more would repeat, fewer would lose
        number = int((weights > 0).sum(1).min())
        columns = [self.phi[marginal.pick(number, random), j] for j, marginal in enumerate(marginals)]
        phi = torch.stack(columns, 1)
        if len(every) > d:
            together = self.phi[Particles(self.phi, every[d].log()).pick(number, random)]
            phi = phi.sort(0).values.gather(0, together.argsort(0).argsort(0))
        return Particles(self.prior.back(phi), torch.zeros(number, dtype=torch.float64))


def _column(phi: Tensor, j: int) -> Targets:
    def column(random: np.random.Generator) -> Tensor:
        return phi[:, j : j + 1]

    return column


def _held(question: Question) -> Runs:
    runs = question.runs()
    return runs.in_memory() if isinstance(runs, StoredRuns) else runs
