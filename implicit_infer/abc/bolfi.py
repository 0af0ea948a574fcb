r"""BOLFI: for simulators of which only hundreds of runs can be paid, a model of the discrepancy says where to run next.

A Gaussian process is fitted to discrepancies :math:`\Delta_i` (their logarithms unless told otherwise) between the
observation and simulations at :math:`\theta_i`. The next parameters are where the process may be low, by the lower
confidence bound

.. math:: \theta_{t+1} = \arg\min_\theta \; \mu_t(\theta) - \sqrt{\eta_t^2 v_t(\theta)}, \qquad
    \eta_t^2 = 2 \log\left( t^{d/2 + 2}\, \frac{\pi^2}{3 \epsilon_\eta} \right),

with a random step added, so that no place is taken twice. As it is a posterior that is wanted, and not a minimum, half
of each batch is not chosen so, but drawn from the posterior as it stands (``explore=1`` is the paper's). At the end the
likelihood is taken for the chance that a simulation is nearer than h,

.. math:: p(\theta \mid x_o) \propto p(\theta)\, \Phi\left(
    \frac{h - \mu(\theta)}{\sqrt{v(\theta) + \sigma_n^2}} \right), \qquad h = \min_\theta \mu(\theta),

and sampled by an ensemble of walkers. The process sees parameters whose range is bounded as they are, and others in
unconstrained space; walkers move in unconstrained space. The answer is that of rejection ABC at the tolerance h: as
wide as a discrepancy of the size of its own noise makes it, which a smaller ``threshold`` narrows and a poor fit of the
process in its tail then decides.

References:
    | Bayesian optimization for likelihood-free inference of simulator-based statistical models (Gutmann & Corander,
    | 2016)
    | https://arxiv.org/abs/1501.03291
    | Gaussian process optimization in the bandit setting (Srinivas, Krause, Kakade & Seeger, 2010)
    | https://arxiv.org/abs/0912.3995
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from implicit_infer.abc.bolfi_process import GaussianProcess, lowest
from implicit_infer.abc.distances import Distance, PNorm
from implicit_infer.abc.space import UnconstrainedPrior
from implicit_infer.executors import run_blocks
from implicit_infer.posteriors.base import Posterior
from implicit_infer.posteriors.density.annealing import anneal
from implicit_infer.posteriors.mcmc import EnsembleSampler
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.progress import track
from implicit_infer.runs import Runs
from implicit_infer.stored import StoredRuns
from implicit_simulators import Stream

CANDIDATES = 1000
"""Prior draws among which the acquisition's minimum is looked for first."""

STARTS = 2
"""Candidates that a gradient method goes on from."""

GROWTH = 1.1
"""The process's parameters are fitted again when it has this many times the points."""


@dataclass(frozen=True)
class BOLFI(Method):
    r"""Bayesian optimisation of the discrepancy, and the posterior that its Gaussian process implies.

    Args:
        evaluations: The most simulations; a larger budget is not spent, as a Gaussian process costs the cube of it.
        initial: Simulations from the prior before the first choice; None takes a fifth of all, at least 10 and at most
            50.
        batch: Parameters that are chosen and simulated together.
        distance: The discrepancy; its scales are fitted to the simulations from the prior.
        log: Whether the process models the discrepancy's logarithm.
        epsilon: :math:`\epsilon_\eta`, in (0, 1): the smaller, the more is explored.
        explore: Share of each batch that is chosen by the bound, in (0, 1]; the rest is drawn from the posterior as it
            stands.
        step: Standard deviation of the random step, in those of the prior.
        threshold: h, in units of the discrepancy; None takes the lowest mean of the process.
        sampler: What samples the posterior.

    Raises:
        ValueError: If a setting is out of its range.
    """

    name: ClassVar[str] = "bolfi"
    amortised: ClassVar[bool] = False

    evaluations: int = 500
    initial: int | None = None
    batch: int = 4
    distance: Distance = field(default_factory=PNorm)
    log: bool = True
    epsilon: float = 0.1
    explore: float = 0.5
    step: float = 0.1
    threshold: float | None = None
    sampler: EnsembleSampler = field(default_factory=lambda: EnsembleSampler(walkers=200, warmup=20, thin=10))

    def __post_init__(self) -> None:
        if self.evaluations < 10:
            raise ValueError(f"evaluations: expected an int of at least 10; got {self.evaluations}")
        if self.initial is not None and self.initial < 5:
            raise ValueError(f"initial: expected an int of at least 5 or None; got {self.initial}")
        if self.batch < 1:
            raise ValueError(f"batch: expected a positive int; got {self.batch}")
        if not 0 < self.epsilon < 1:
            raise ValueError(f"epsilon: expected a number in (0, 1); got {self.epsilon}")
        if not 0 < self.explore <= 1:
            raise ValueError(f"explore: expected a number in (0, 1]; got {self.explore}")
        if not self.step >= 0:
            raise ValueError(f"step: expected a non-negative number; got {self.step}")
        if self.threshold is not None and not self.threshold > 0:
            raise ValueError(f"threshold: expected a positive number or None; got {self.threshold}")

    def infer(self, question: Question) -> BOLFIPosterior:
        """Choose and simulate at ``question.observed``; spends at most ``question.budget`` simulations.

        Where simulations were made before, the first of them are those from the prior.

        Raises:
            ValueError: If the budget is below 10, most simulations from the prior failed, or the observation's
                summaries are not finite.
            TypeError: If the prior has no density on a continuous support.
        """
        return BOLFIPosterior(self, question)


class Inputs:
    """What the process sees of parameters: the bounded ones as they are, others unconstrained; standardised.

    Args:
        prior: The prior in unconstrained space.
        phi: Draws of it with shape (m, p).
    """

    def __init__(self, prior: UnconstrainedPrior, phi: Tensor) -> None:
        self.prior = prior
        theta = prior.transform(phi)
        ends = prior.transform(torch.stack((phi.new_full((phi.shape[1],), -30.0), phi.new_full((phi.shape[1],), 30.0))))
        width = (ends[1] - ends[0]).abs()
        # phi may have fewer columns than theta (a simplex): then there is no pairing one by one
        paired = theta.shape == phi.shape
        self.natural = (width < 50 * theta.std(0)) if paired else torch.zeros(phi.shape[1], dtype=torch.bool)
        values = torch.where(self.natural, theta, phi) if paired else phi
        self.centre, self.scale = values.mean(0), values.std(0).clamp_min(1e-12)

    def __call__(self, phi: Tensor) -> Tensor:
        """Inputs with shape (n, p) of unconstrained points (n, p)."""
        values = torch.where(self.natural, self.prior.transform(phi), phi) if self.natural.any() else phi
        return (values - self.centre) / self.scale


class Search:
    """One run: simulations, and the process fitted to them."""

    process: GaussianProcess

    def __init__(self, settings: BOLFI, question: Question) -> None:
        self.settings, self.question = settings, question
        self.prior = UnconstrainedPrior(question.simulator)
        self.total = min(settings.evaluations, question.budget)
        if self.total < 10:
            raise ValueError(f"budget: expected at least 10 simulations; got {question.budget}")
        self.root = Stream.of(question.seed, 3, "sample").key
        self.random = Stream.of(question.seed, 4, "sample").torch()
        self.pool = self.prior.to(question.simulator.sample_prior(CANDIDATES, question.seed, 5))
        self.inputs = Inputs(self.prior, self.pool)
        self.low, self.high = self.pool.min(0).values, self.pool.max(0).values
        self.blocks = self.failed = self.fitted = 0
        with track(settings.name, total=self.total, show=question.progress) as bar:
            self._begin()
            bar.update(len(self.phi))
            while len(self.phi) < self.total:
                n = min(settings.batch, self.total - len(self.phi))
                self._observe(self._choose(n))
                bar.update(n, lowest=float(self.discrepancies[torch.isfinite(self.discrepancies)].min()))
        self.lowest = float(self._lowest())

    def _begin(self) -> None:
        n = self.settings.initial or min(50, max(10, self.total // 5))
        n = min(n, self.total)
        bank = None if self.question.bank is None else self.question.bank.first(n)
        runs = bank.in_memory() if isinstance(bank, StoredRuns) else bank
        theta = self.question.simulator.sample_prior(n, self.question.seed, 6) if runs is None else runs.theta
        self.phi, self.discrepancies = self.prior.to(theta[:0]), torch.zeros(0, dtype=torch.float64)
        distance, simulator = self.settings.distance, self.question.simulator
        self.observed = distance.features(simulator, self.question.observed[None])[0]
        if not torch.isfinite(self.observed).all():
            raise ValueError("observed: its summary statistics are not finite")
        x = runs.x if isinstance(runs, Runs) else self._simulate(theta)
        features = distance.features(simulator, x)
        if int(torch.isfinite(features).all(1).sum()) < 5:
            raise ValueError(f"simulator: fewer than 5 of {n} simulations from the prior are finite")
        phi = self.prior.to(theta)
        self.measure = distance.fit(features, phi)
        self.begun = len(phi)
        self._take(phi, features)

    def _simulate(self, theta: Tensor) -> Tensor:
        # one block each: for a slow simulator every run may go to a worker of its own
        numbered = list(enumerate(theta.split(1), start=self.blocks))
        self.blocks += len(numbered)
        made = run_blocks(self.question.simulator, numbered, self.root, workers=self.question.workers)
        return torch.cat([block.x for block in sorted(made, key=lambda block: block.index)])

    def _observe(self, phi: Tensor) -> None:
        x = self._simulate(self.prior.back(phi))
        self._take(phi, self.settings.distance.features(self.question.simulator, x))

    def _take(self, phi: Tensor, features: Tensor) -> None:
        """Add simulations, and condition the process on all that did not fail."""
        found = self.measure(features, self.observed).double()
        self.failed += int((~torch.isfinite(found)).sum())
        self.phi, self.discrepancies = torch.cat((self.phi, phi)), torch.cat((self.discrepancies, found))
        fine = torch.isfinite(self.discrepancies)
        y = self.discrepancies[fine]
        # a failed simulation is told to the process as one of the worst, so that the search turns away from there
        worst = torch.where(fine, self.discrepancies, torch.quantile(y, 0.95))
        values = worst.clamp_min(1e-6 * float(y.median()) + 1e-300).log() if self.settings.log else worst
        known = self.process.log_parameters if self.fitted else None
        self.process = GaussianProcess(self.inputs(self.phi), values, known)
        if len(self.phi) >= GROWTH * self.fitted or len(self.phi) >= self.total:
            self.process.fit()
            self.fitted = len(self.phi)

    def bound(self, phi: Tensor) -> Tensor:
        """The lower confidence bound at unconstrained points (n, p), with shape (n,)."""
        t, d = max(1, len(self.phi) - self.begun), phi.shape[1]
        eta = 2 * math.log(t ** (d / 2 + 2) * math.pi**2 / (3 * self.settings.epsilon))
        mean, variance = self.process.predict(self.inputs(phi))
        return mean - (eta * variance).sqrt()

    def _choose(self, n: int) -> Tensor:
        """The next points: the acquisition's minimum with a random step each, within the range of the prior's draws."""
        exploring = math.ceil(self.settings.explore * n)
        places = [self._minimised(self.bound).expand(exploring, -1)]
        if n > exploring:
            likelihood = self.log_likelihood(self.pool, float(self.process.predict(self.inputs(self.pool))[0].min()))
            drawn = torch.multinomial(likelihood.softmax(0), n - exploring, replacement=True, generator=self.random)
            places.append(self.pool[drawn])
        noise = torch.randn((n, self.pool.shape[1]), generator=self.random, dtype=torch.float64)
        moved = torch.cat(places) + self.settings.step * self.pool.std(0) * noise
        return moved.clamp(self.low, self.high)

    def log_likelihood(self, phi: Tensor, h: float) -> Tensor:
        """Log chance that a simulation at unconstrained points (n, p) is nearer than h, with shape (n,)."""
        mean, variance = self.process.predict(self.inputs(phi))
        return torch.special.log_ndtr((h - mean) / (variance + self.process.noise.square()).sqrt())

    def _lowest(self) -> Tensor:
        """The lowest mean of the process."""
        best = self._minimised(lambda phi: self.process.predict(self.inputs(phi))[0])
        return self.process.predict(self.inputs(best[None]))[0][0]

    def _minimised(self, function: Any) -> Tensor:
        """Where a function of points (n, p) is lowest, with shape (p,): the best of many, improved by gradients."""
        near = self.phi[self.discrepancies.argsort()[:10]]
        steps = torch.randn((10, *near.shape), generator=self.random, dtype=torch.float64)
        local = (near + 0.1 * self.pool.std(0) * steps).flatten(0, 1)
        candidates = torch.cat((self.pool, near, local)).clamp(self.low, self.high)
        with torch.no_grad():
            order = function(candidates).argsort()[:STARTS]

        return lowest(lambda at: function(at[None])[0], candidates[order], self.low, self.high, 20)

    def h(self) -> float:
        """The threshold, in units of what the process models."""
        given = self.settings.threshold
        if given is None:
            return self.lowest
        return math.log(given) if self.settings.log else given


class BOLFIPosterior(Posterior):
    """A posterior that a Gaussian process of the discrepancy implies; for another observation all is run again.

    ``simulations`` counts those of further runs, too.

    Args:
        settings: The method.
        question: What was asked.
    """

    def __init__(self, settings: BOLFI, question: Question) -> None:
        super().__init__(question.simulator, question.observed, method=settings.name, simulations=0)
        self.settings, self.question = settings, replace(question, bank=None)
        search = self._run(question)
        self._keep(search)
        self.figures.update(
            evaluations=len(search.phi),
            lowest=float(search.discrepancies.nan_to_num(posinf=math.inf).min()),
            threshold=math.exp(search.h()) if settings.log else search.h(),
            noise=float(search.process.noise),
            failed=search.failed,
        )
        if question.budget > settings.evaluations:
            self.warnings.append(
                f"{settings.evaluations} of {question.budget} simulations were spent: more are of little use to a "
                "Gaussian process; with so large a budget other methods answer better"
            )
        if search.failed:
            self.warnings.append(f"{search.failed} of {len(search.phi)} simulations failed and count as far off")

    def _run(self, question: Question) -> Search:
        search = Search(self.settings, question)
        self.simulations += len(search.phi)
        return search

    def _keep(self, search: Search) -> None:
        self.process, self.inputs, self.threshold = search.process, search.inputs, search.h()

    def _state(self) -> dict[str, Any]:
        # the prior is the simulator's
        inputs = {name: value for name, value in vars(self.inputs).items() if name != "prior"}
        return {name: value for name, value in super()._state().items() if name != "inputs"} | {"inputs_of": inputs}

    def _of_state(self, state: dict[str, Any]) -> None:
        inputs = state.pop("inputs_of")
        super()._of_state(state)
        self.inputs = Inputs.__new__(Inputs)
        vars(self.inputs).update(inputs, prior=UnconstrainedPrior(self.simulator))

    def _log_density(self, phi: Tensor) -> Tensor:
        """Of unconstrained points (..., p), up to a constant."""
        flat = phi.reshape(-1, phi.shape[-1])
        mean, variance = self.process.predict(self.inputs(flat))
        t = (self.threshold - mean) / (variance + self.process.noise.square()).sqrt()
        value = self.inputs.prior.log_prob(flat) + torch.special.log_ndtr(t)
        return value.reshape(phi.shape[:-1])

    def _potential(self, theta: Tensor, x: Tensor) -> Tensor:
        if not torch.equal(x, self.observed):
            raise ValueError("x: a BOLFI posterior has a density at the observation that it was run for")
        phi = self.inputs.prior.to(theta)
        jacobian = self.inputs.prior.transform.log_abs_det_jacobian(phi, theta.double())
        return (self._log_density(phi) - jacobian).to(theta.dtype)

    def _sample(self, n: int, x: Tensor, stream: Stream, progress: bool) -> Tensor:
        draws = x.new_empty((n, len(x), self.simulator.dim))
        for i, one in enumerate(x):
            own = self
            if not torch.equal(one, self.observed):
                own = BOLFIPosterior.__new__(BOLFIPosterior)
                vars(own).update(vars(self))
                seed = Stream.of(stream.key, i, "sample").key
                own._keep(self._run(replace(self.question, observed=one, seed=seed, progress=False)))
            draws[:, i] = own._draw(n, Stream.of(stream.key, i, "split"), progress)
        return draws

    @torch.no_grad()
    def _draw(self, n: int, stream: Stream, progress: bool) -> Tensor:
        random, sampler = stream.torch(), self.settings.sampler
        prior = self.inputs.prior
        start = prior.to(self.simulator.sample_prior(sampler.walkers, stream.key))[None]
        flat = start.shape[-1]

        def log_prior(phi: Tensor) -> Tensor:
            return prior.log_prob(phi.reshape(-1, flat)).reshape(phi.shape[:-1])

        walkers, _ = anneal(log_prior, self._log_density, start, random)
        phi, acceptance = sampler.sample(self._log_density, walkers, n, random, progress)
        self.figures["acceptance"] = acceptance
        return prior.back(phi[:, 0])
