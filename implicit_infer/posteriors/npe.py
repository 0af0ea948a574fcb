r"""NPE: the posterior as a density of parameters given data, learned from simulations by an ensemble of flows.

.. math:: \min_\phi \; -\mathbb{E}_{p(\theta) p(x \mid \theta)} [\log q_\phi(\theta \mid x)], \qquad
    q(\theta \mid x) = \frac1K \sum_k q_{\phi_k}(\theta \mid x)

The networks see parameters in unconstrained coordinates with the linear regression on x taken out
(:mod:`implicit_infer.posteriors.coordinates`), so that no mass leaks outside the prior and no draw needs rejecting; the
density of theta follows from the exact change of variables. The density is a conditional normal bent by a flow of
zuko's (:mod:`implicit_infer.posteriors.density.flow`); the K members are trained in one program, each with other
simulations held out. ``sbi-npe`` is the same method by sbi's trainer.

References:
    | Fast ε-free inference of simulation models (Papamakarios & Murray, 2016)
    | https://arxiv.org/abs/1605.06376
    | Automatic posterior transformation for likelihood-free inference (Greenberg et al., 2019)
    | https://arxiv.org/abs/1905.07488
    | Truncated proposals for scalable and hassle-free simulation-based inference (Deistler et al., 2022)
    | https://arxiv.org/abs/2210.04815
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from implicit_estimators.networks.train import train
from implicit_infer.posteriors.base import Posterior
from implicit_infer.posteriors.coordinates import Coordinates
from implicit_infer.posteriors.density import stacked
from implicit_infer.posteriors.density.ensemble import Ensemble
from implicit_infer.posteriors.density.fitting import DensitySettings, density_of, fit_density
from implicit_infer.posteriors.density.flow import ConditionalDensity
from implicit_infer.posteriors.density.reduction import Reduction
from implicit_infer.posteriors.embeddings import EmbeddedSummaries
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.posteriors.training_rows import coordinates_of, head, training_rows
from implicit_infer.progress import track
from implicit_infer.stored import StoredRuns
from implicit_simulators import Simulator, Stream

SHOWN = 1000
"""Rows that an embedding's inputs are scaled by, where simulations are on disk."""


class Seen(nn.Module):
    """A density of v given what a view makes of the rows: summaries left out or projected, or an embedding of x.

    Args:
        view: From (n, given) to (n, k): ``EmbeddedSummaries``, or a ``Reduction`` of the summaries.
        density: The density of v given that.
    """

    def __init__(self, view: nn.Module, density: ConditionalDensity) -> None:
        super().__init__()
        self.view, self.density = view, density

    def forward(self, v: Tensor, given: Tensor) -> Tensor:
        """Log density of v, with shape (n,)."""
        return self.density(v, self.view(given))

    def together(self, state: stacked.State, v: Tensor, given: Tensor) -> Tensor:
        """What ``forward`` says for K members with stacked weights, with shape (K, n), of rows (K, n, ...)."""
        seen = stacked.called(self.view, stacked.part(state, "view"), given)
        return self.density.together(stacked.part(state, "density"), v, seen)

    def whiten(self, v: Tensor, given: Tensor) -> Tensor:
        """What is left of v when the conditional normal is taken out."""
        return self.density.whiten(v, self.view(given))

    def invert(self, z: Tensor, given: Tensor) -> Tensor:
        """The v that belongs to standard normal z."""
        return self.density.invert(z, self.view(given))


@dataclass(frozen=True)
class NPE(Method):
    """Neural posterior estimation by an ensemble of conditional normals and flows.

    Args:
        density: The ensemble and its training.
        embedding: A network that looks at x itself, trained with the density: None, a name of
            ``ii.posteriors.embeddings.EMBEDDINGS``, "auto", a mapping with settings, or a module.
        reduce: Whether summaries that seem to say nothing of theta are left out, where there are many of them.
    """

    density: DensitySettings = field(default_factory=DensitySettings)
    embedding: str | Mapping[str, Any] | nn.Module | None = None
    reduce: bool = True

    name = "npe"

    def infer(self, question: Question) -> NPEPosterior:
        """Train on ``question.budget`` simulations from the prior."""
        runs = question.runs()
        if isinstance(runs, StoredRuns) and not runs.fits:
            ensemble, coordinates, figures = self._stream(question, runs)
        else:
            theta, x = runs.valid()
            ensemble, coordinates, figures = self.learn(
                question.simulator, theta, x, seed=question.seed, device=question.device, progress=question.progress
            )
        return NPEPosterior(
            question.simulator,
            question.observed,
            coordinates=coordinates,
            ensemble=ensemble,
            method=self.name,
            simulations=len(runs),
            figures={"failed_simulations": int(runs.failed.sum()), **figures},
            warnings=[] if figures["finite"] else ["training stopped at a loss that was not finite"],
        )

    def learn(
        self, simulator: Simulator, theta: Tensor, x: Tensor, *, seed: int, device: str = "cpu", progress: bool = True
    ) -> tuple[Ensemble, EmbeddedSummaries, dict[str, Any]]:
        """The ensemble learned from simulations in memory, the view of x it is given, and figures on the training."""
        coordinates = Coordinates(simulator, theta, x)
        given, v, view, members, note = self._parts(coordinates, theta, x, seed)
        ensemble = Ensemble(members, keep=simulator).to(device)
        figures = fit_density(
            ensemble, v.to(device), given.to(device), self.density, seed, name=self.name, progress=progress
        )
        return ensemble.cpu().eval(), view, figures | note

    def _parts(
        self, coordinates: Coordinates, theta: Tensor, x: Tensor, seed: int
    ) -> tuple[Tensor, Tensor, EmbeddedSummaries, list[nn.Module], dict[str, str]]:
        """Rows of both kinds, the view of x, and untrained members."""
        view = EmbeddedSummaries(coordinates, self.embedding, x[:SHOWN], seed)
        given = view.given(x)
        u = coordinates.transform.inv(theta)
        v = coordinates.free(u, view.linear(given))
        width = v.shape[1]
        seeds = range(seed, seed + self.density.members)
        if self.embedding is not None:
            views = [EmbeddedSummaries(coordinates, self.embedding, x[:SHOWN], k) for k in seeds]
            made = zip(views, seeds, strict=True)
            return given, v, view, [Seen(one, self.density.density(width, one.width, k)) for one, k in made], {}
        reduction = Reduction(given, u) if self.reduce else None
        if reduction is None or not reduction.note:
            return given, v, view, [self.density.density(width, given.shape[1], k) for k in seeds], {}
        members: list[nn.Module] = [Seen(reduction, self.density.density(width, reduction.width, k)) for k in seeds]
        return given, v, view, members, {"reduction": reduction.note}

    def _stream(self, question: Question, runs: StoredRuns) -> tuple[Ensemble, EmbeddedSummaries, dict[str, Any]]:
        """The same from disk: all members see the same batches, and are stopped together."""
        coordinates = coordinates_of(question.simulator, runs)
        theta, x = head(runs, SHOWN)
        _, _, view, members, note = self._parts(coordinates, theta, x, question.seed)
        ensemble = Ensemble(members, keep=question.simulator).to(question.device)

        def rows(theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            given = view.given(x)
            return coordinates.free(coordinates.transform.inv(theta), view.linear(given)), given

        def loss(v: Tensor, given: Tensor, *, generator: torch.Generator) -> Tensor:
            return -ensemble(v, given).mean()

        data = training_rows(runs, rows, question.device)
        recipe = self.density.bending
        density_of(ensemble.template).bent = self.density.flow != "none"
        with track("training npe", total=recipe.epochs, show=question.progress) as bar:
            history = train(
                ensemble,
                loss,
                [data] if isinstance(data, tuple) else data,
                validation=recipe.validation,
                epochs=recipe.epochs,
                batch_size=recipe.batch_size,
                learning_rate=recipe.learning_rate,
                weight_decay=recipe.weight_decay,
                patience=recipe.patience,
                average=recipe.average,
                seed=question.seed,
                progress=lambda epoch, figures: bar.update(1, **figures),
            )
        figures = {"epochs": history.epochs, "validation_loss": history.best, "finite": history.stopped != "non-finite"}
        return ensemble.cpu().eval(), view, figures | note


class NPEPosterior(Posterior):
    """An ensemble's mixture over v given s, amortised over x, with a density."""

    def __init__(self, *args: Any, coordinates: EmbeddedSummaries, ensemble: Ensemble, **about: Any) -> None:
        super().__init__(*args, **about)
        self.view = coordinates
        self.ensemble = ensemble

    @property
    def coordinates(self) -> Coordinates:
        """The maps of theta and x."""
        return self.view.coordinates

    @torch.no_grad()
    def _sample(self, n: int, x: Tensor, stream: Stream, progress: bool) -> Tensor:
        u = self.free_draws(n, x, stream.torch())
        return self.coordinates.transform(u)

    @torch.no_grad()
    def free_draws(self, n: int, x: Tensor, generator: torch.Generator) -> Tensor:
        r"""Unconstrained draws with shape (n, B, d) at B observations."""
        given = self.view.given(x)
        rows = given.repeat(n, 1)
        v = self.ensemble.draw(rows, generator, self.simulator.dim)
        return self.coordinates.bound(v, self.view.linear(rows)).reshape(n, len(x), -1)

    @torch.no_grad()
    def free_log_prob(self, u: Tensor, x: Tensor) -> Tensor:
        """Log density of unconstrained u with shape (B, W, d) at B observations, with shape (B, W)."""
        given = self.view.given(x).repeat_interleave(u.shape[1], 0)
        v = self.coordinates.free(u.flatten(0, 1), self.view.linear(given))
        return (self.ensemble.mixture(v, given) - self.coordinates.log_volume).reshape(u.shape[:2])

    @torch.no_grad()
    def _log_prob(self, theta: Tensor, x: Tensor) -> Tensor:
        inside, legal = self.coordinates.legal(theta)
        u = self.coordinates.transform.inv(legal)
        density = self.free_log_prob(u[None], x[None])[0]
        density = density - self.coordinates.transform.log_abs_det_jacobian(u, legal)
        return torch.where(inside, density, -torch.inf)
