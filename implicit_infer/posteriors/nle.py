r"""NLE: the likelihood of simulations learned by a density of x given theta, and the posterior sampled from it.

.. math:: \min_\phi \; -\mathbb{E}\,[\log q_\phi(x \mid \theta)], \qquad
    p(\theta \mid x) \propto p(\theta) \prod_{i} q_\phi(x_i \mid \theta)

The parameters may come from any law, so that simulations of several rounds need no correction. Where the simulator says
that x consists of independent points (``Simulator.points``), the density is that of one point and is learned from all
of them: n simulations of m points are n m rows. Sampling anneals walkers from the prior to the posterior, so that they
find all modes in proportion, and goes on with the ensemble sampler.

The density is a conditional normal bent by a flow of zuko's; see :mod:`implicit_infer.posteriors.density.flow`. What is
normal given theta after a change of scale is learned by a regression, and no flow is used.

References:
    | Sequential neural likelihood (Papamakarios, Sterratt & Murray, 2019)
    | https://arxiv.org/abs/1805.07226
    | Likelihood-free inference with emulator networks (Lueckmann et al., 2019)
    | https://arxiv.org/abs/1805.09294
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from implicit_infer.posteriors.base import Posterior
from implicit_infer.posteriors.coordinates import Coordinates
from implicit_infer.posteriors.density.annealing import anneal
from implicit_infer.posteriors.density.ensemble import ROWS, Ensemble
from implicit_infer.posteriors.density.fitting import DensitySettings, fit_density
from implicit_infer.posteriors.density.observables import Observables
from implicit_infer.posteriors.density.training import Recipe, train_ensemble
from implicit_infer.posteriors.mcmc import EnsembleSampler
from implicit_infer.posteriors.method import Method, Question
from implicit_simulators import Simulator, Stream

TRIAL = Recipe(epochs=10, learning_rate=2e-3, steps=60, patience=10)
"""The short training that says on which scale data are more nearly normal."""


class LearnedLikelihood(nn.Module):
    """An ensemble's log-likelihood of theta, in unconstrained space.

    Args:
        observables: The maps of theta and x.
        ensemble: Densities of w given f.
    """

    def __init__(self, observables: Observables, ensemble: Ensemble) -> None:
        super().__init__()
        self.observables, self.ensemble = observables, ensemble

    @torch.no_grad()
    def forward(self, u: Tensor, raw: Tensor) -> Tensor:
        """Log-likelihood up to a constant in theta, with shape (B, W).

        Args:
            u: Unconstrained parameters with shape (B, W, d).
            raw: The observations' points, with shape (B, points, m).
        """
        batch, count, d = u.shape
        f = self.observables.features(u).reshape(-1, d)
        # in the middle of a whole number's cell; one row of conditions serves all points
        seen = (raw + 0.5 * self.observables.whole).transpose(0, 1).repeat_interleave(count, 1)
        parts = zip(seen.split(ROWS, 1), f.split(ROWS), strict=True)
        values = [self.ensemble(self.observables.free(y, c), c).sum(1).mean(0) for y, c in parts]
        return torch.cat(values).reshape(batch, count)


@dataclass(frozen=True)
class NLE(Method):
    """Neural likelihood estimation by an ensemble of conditional normals and flows.

    Args:
        density: The ensemble and its training.
        walkers: Walkers that are annealed for each observation.
        sweeps: Sweeps at each temperature.
        sampler: What goes on from there; its number of walkers is ``walkers``.
    """

    density: DensitySettings = field(default_factory=lambda: DensitySettings(transforms=2))
    walkers: int = 1000
    sweeps: int = 4
    sampler: EnsembleSampler = field(default_factory=lambda: EnsembleSampler(warmup=30, thin=20))

    name = "nle"

    def alone(self) -> NLE:
        """The same with one member: for rounds that only say where to simulate next."""
        return replace(self, density=replace(self.density, members=1))

    def infer(self, question: Question) -> NLEPosterior:
        """Train on ``question.budget`` simulations from the prior."""
        runs = question.runs()
        theta, x = runs.valid()
        likelihood, figures = self.learn(
            question.simulator, theta, x, seed=question.seed, device=question.device, progress=question.progress
        )
        return NLEPosterior(
            question.simulator,
            question.observed,
            likelihood=likelihood,
            settings=self,
            method=self.name,
            simulations=len(runs),
            figures={"failed_simulations": int(runs.failed.sum()), **figures},
            warnings=[] if figures["finite"] else ["training stopped at a loss that was not finite"],
        )

    def learn(
        self, simulator: Simulator, theta: Tensor, x: Tensor, *, seed: int, device: str = "cpu", progress: bool = True
    ) -> tuple[LearnedLikelihood, dict[str, Any]]:
        """The likelihood learned from simulations at any parameters, on the CPU, and figures on how that went."""
        observables = self._scale(simulator, theta, x, seed, device)
        ensemble, figures = self._fit(observables, theta, x, seed, device, progress)
        if observables.reduction is not None and observables.reduction.note:
            figures["reduction"] = observables.reduction.note
        return LearnedLikelihood(observables, ensemble).cpu().eval(), figures

    def _rows(self, observables: Observables, theta: Tensor, x: Tensor, device: str) -> tuple[Any, ...]:
        f = observables.features(observables.transform.inv(theta)).repeat_interleave(observables.points, 0)
        raw = observables.rows(x)
        groups = torch.arange(len(theta)).repeat_interleave(observables.points) if observables.points > 1 else None
        m = raw.shape[1]
        if not bool(observables.whole.any()):
            return observables.free(raw, f).to(device), f.to(device), groups, None
        both, maps = torch.cat((raw, f), 1).to(device), observables.to(device)

        def fresh(rows: Tensor, generator: torch.Generator) -> Tensor:
            return maps.free(maps.noisy(rows[..., :m], generator), rows[..., m:])

        return both, f.to(device), groups, fresh

    def _ensemble(self, observables: Observables, members: int, seed: int, device: str) -> Ensemble:
        width, condition = len(observables.whole), len(observables.centre)
        made: list[nn.Module] = [self.density.density(width, condition, seed + k) for k in range(members)]
        return Ensemble(made).to(device)

    def _scale(self, simulator: Simulator, theta: Tensor, x: Tensor, seed: int, device: str) -> Observables:
        """The data as they are, or bent column by column: whichever a conditional normal fits better."""
        bent = Observables(simulator, theta, x)
        if not bool(bent.kind.any()):
            return bent
        plain = Observables(simulator, theta, x, bend=False)
        losses = []
        for observables in (plain, bent):
            y, c, groups, fresh = self._rows(observables, theta, x, device)
            trial = self._ensemble(observables, 1, seed, device)
            trial.template.bent = False
            course = train_ensemble(trial, y, c, TRIAL, seed, groups=groups, fresh=fresh)
            raw = observables.rows(x)
            losses.append(course.best[0] - float(observables.log_det(raw + 0.5 * observables.whole).mean()))
        return (plain if losses[0] <= losses[1] else bent).cpu()

    def _fit(
        self, observables: Observables, theta: Tensor, x: Tensor, seed: int, device: str, progress: bool
    ) -> tuple[Ensemble, dict[str, Any]]:
        y, c, groups, fresh = self._rows(observables, theta, x, device)
        ensemble = self._ensemble(observables, self.density.members, seed, device)
        figures = fit_density(
            ensemble, y, c, self.density, seed, groups=groups, fresh=fresh, name=self.name, progress=progress
        )
        return ensemble, figures


class NLEPosterior(Posterior):
    """The prior times a learned likelihood, sampled by annealing and MCMC; with an unnormalised density."""

    def __init__(self, *args: Any, likelihood: LearnedLikelihood, settings: NLE, **about: Any) -> None:
        super().__init__(*args, **about)
        self.likelihood = likelihood
        self.settings = settings

    def log_prior(self, u: Tensor) -> Tensor:
        r"""The prior's log density of unconstrained parameters (\*, d), with shape (\*,)."""
        return log_prior(self.simulator, self.likelihood.observables, u)

    @torch.no_grad()
    def _sample(self, n: int, x: Tensor, stream: Stream, progress: bool) -> Tensor:
        generator, observables, settings = stream.torch(), self.likelihood.observables, self.settings
        walkers = min(settings.walkers, max(2 * (self.simulator.dim + 1), n + n % 2))
        walkers = max(walkers, 200)
        raw = observables.rows(x).unflatten(0, (len(x), observables.points))
        prior = self.simulator.sample_prior(walkers * len(x), seed=generator)
        start = observables.transform.inv(prior).unflatten(0, (len(x), walkers))

        def target(u: Tensor) -> Tensor:
            return self.log_prior(u) + self.likelihood(u, raw)

        state, temperatures = anneal(self.log_prior, target, start, generator, sweeps=settings.sweeps)
        sampler = replace(settings.sampler, walkers=walkers)
        draws, acceptance = sampler.sample(target, state, n, generator, progress)
        self.figures |= {"mcmc_acceptance": acceptance, "temperatures": temperatures}
        return observables.transform(draws)

    @torch.no_grad()
    def _potential(self, theta: Tensor, x: Tensor) -> Tensor:
        observables = self.likelihood.observables
        inside = self.simulator.prior.support.check(theta)  # type: ignore[union-attr]  # unconstrained() has refused a prior without
        u = observables.transform.inv(torch.where(inside[:, None], theta, self.simulator.prior.mean))
        raw = observables.rows(x[None])[None]
        density = self.likelihood(u[None], raw)[0] + self.simulator.prior.log_prob(observables.transform(u))
        return torch.where(inside, density, -torch.inf)


def log_prior(simulator: Simulator, maps: Observables | Coordinates, u: Tensor) -> Tensor:
    r"""The prior's log density of unconstrained parameters (\*, d), with shape (\*,)."""
    flat = u.reshape(-1, u.shape[-1])
    theta = maps.transform(flat)
    value = simulator.prior.log_prob(theta) + maps.transform.log_abs_det_jacobian(flat, theta)
    return value.reshape(u.shape[:-1])
