r"""Maximum likelihood without a likelihood: a classifier tells draws at theta from draws of a reference.

.. math:: r(x \mid \theta) = \frac{p(x \mid \theta)}{p_{\text{ref}}(x)}, \qquad
    \ell(\theta) = \sum_{i=1}^m \log r(x_i \mid \theta), \qquad
    \hat\theta = \arg\max_\theta \ell(\theta)

The reference does not depend on theta, so that :math:`\ell` is the log-likelihood up to a constant. One classifier with
theta among its inputs learns r for all theta at once, from pairs (theta, x) that belong together and pairs that do not:
the reference is then the law of x over the thetas that were simulated. It is calibrated on simulations that it did not
learn from (:mod:`implicit_infer.fitting.ratio_towers`), since every error of :math:`\log r` counts m times.

Rounds narrow the thetas down to where the maximum is: those of the next round are drawn from the prior times a power of
the estimated likelihood (a tempered posterior), so that they may follow a ridge, or several maxima. Each draw tells
little of a theta in a narrow range: the power is chosen so that the range is some standard errors wide, and never so
narrow that the simulations could not tell its ends apart, or that less than a tenth of the range so far would be left.
Simulations of earlier rounds that lie in the range are kept.

Every classifier leaves out a fold of the simulations. How far their maxima lie apart (the jackknife) is what the
simulations add to the error of the estimate; covariance and confidence regions hold both.

References:
    | Approximating Likelihood Ratios with Calibrated Discriminative Classifiers (Cranmer, Pavez & Louppe, 2015)
    | https://arxiv.org/abs/1506.02169
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_estimators.networks.standardise import Standardiser
from implicit_infer.fitting.base import FitMethod, Trace
from implicit_infer.fitting.likelihood_fit import LikelihoodFit
from implicit_infer.fitting.question import FitQuestion
from implicit_infer.fitting.ratio_towers import LearnedRatio
from implicit_infer.fitting.space import Space
from implicit_infer.fitting.surface import Range, Surface
from implicit_infer.fitting.verdict import reserved
from implicit_infer.posteriors.mcmc import EnsembleSampler
from implicit_infer.progress import track
from implicit_simulators import Simulator, Stream

HEAVY = 10.0
"""Standardised draws beyond this are squashed by arsinh before the classifier sees them."""

MANY = 20
"""Rows of the data from which on they tell their own spread."""

QUICK = 1000
"""Reference draws that are averaged over while thetas of the next round are drawn."""

NARROWING = 0.1
"""The share of a round's thetas that the tempered likelihood must leave in weight: no round narrows by more."""

EARLY = 0.25
"""Steps of all rounds but the last, which only say where to look, as a share of those of the last."""


@dataclass(frozen=True)
class RatioLikelihood(FitMethod):
    """Maximum likelihood by a classifier that knows theta, calibrated; confidence regions by the likelihood ratio.

    Args:
        rounds: Rounds, of which each spends an equal share of the budget; None is d + 2.
        width: Spread of the thetas of the next round, in standard errors of the estimate so far.
        members: Classifiers; each leaves out a fold of the simulations.
        features: Statistics that a classifier learns.
        hidden: Widths of its hidden layers.
        epochs: Most epochs of each round.
        steps: Most steps of the last round; the others, which only say where to look, take half as many.
        learning_rate: AdamW's step size at the start, which falls to zero over the epochs.
        test_share: The share of the budget that is kept for the test at the end.

    Raises:
        ValueError: If a number is out of its range.
    """

    rounds: int | None = None
    width: float = 3.0
    members: int = 4
    features: int = 16
    hidden: tuple[int, ...] = (32, 32)
    epochs: int = 30
    steps: int = 1200
    learning_rate: float = 3e-3
    test_share: float = 0.1

    name = "ratio-likelihood"

    def __post_init__(self) -> None:
        for argument, value, least in (
            ("rounds", 1 if self.rounds is None else self.rounds, 1),
            ("members", self.members, 2),
            ("features", self.features, 1),
            ("epochs", self.epochs, 1),
            ("steps", self.steps, 1),
        ):
            if value < least:
                raise ValueError(f"{argument}: expected an int of at least {least}; got {value}")
        if not self.width > 0 or not self.learning_rate > 0:
            raise ValueError(f"width, learning_rate: expected positive numbers; got {self.width}, {self.learning_rate}")

    def fit(self, question: FitQuestion) -> LikelihoodFit:
        """Round after round, then the maximum."""
        kept = reserved(question, self.test_share)
        rounds = question.simulator.dim + 2 if self.rounds is None else self.rounds
        if (question.budget - kept) // rounds < 20 * self.members:
            raise ValueError(
                f"budget: expected at least {20 * self.members * rounds} simulations for {rounds} rounds of "
                f"{self.members} classifiers; got {question.budget - kept}"
            )
        space = Space.of(question.simulator, question.seed)
        bank, trace = _Bank(question, space), Trace()
        count = (question.budget - kept) // rounds
        v = space.free(question.simulator.sample_prior(count, question.seed, 1)).double()
        if question.start is not None:
            v[0] = space.start(question.start)
        learned: _Round | None = None
        with track(f"fitting by {self.name}", total=rounds, show=question.progress) as bar:
            for number in range(1, rounds + 1):
                if learned is not None:
                    v = learned.propose((question.left - kept) // (rounds - number + 1), self.width)
                bank.add(v)
                learned = _Round(self, bank, v, number, rounds)
                best = learned.highest
                theta = space.theta(best[None])[0].float()
                trace.note(question.spent, theta, slope=learned.ratio.slope, rows=float(learned.rows))
                bar.update(1, slope=learned.ratio.slope)
        assert learned is not None
        return learned.result(trace, bank.failed, kept)


class _Bank:
    """All simulations so far, and how a classifier is shown them."""

    def __init__(self, question: FitQuestion, space: Space) -> None:
        self.question, self.space = question, space
        self.v = torch.zeros(0, space.dim, dtype=torch.float64)
        self.x = torch.zeros(0, *question.simulator.event_shape)
        self.failed = 0

    def add(self, v: Tensor) -> None:
        """Simulate at v."""
        x = self.question.simulate(self.space.theta(v).float()).cpu()
        fine = torch.isfinite(x.flatten(1)).all(1)
        self.failed += int((~fine).sum())
        self.v, self.x = torch.cat((self.v, v[fine])), torch.cat((self.x, x[fine]))

    def rows(self, x: Tensor) -> Tensor:
        """Independent draws of x: its points where it declares several, else its summaries; (n, points, width)."""
        simulator = self.question.simulator
        return x.reshape(len(x), points(simulator), -1) if points(simulator) > 1 else simulator.summarize(x)[:, None]


def effective(log_weight: Tensor) -> float:
    """How many equal weights are as uneven as these, with shape (n,): from 1 to n.

    Example:
        >>> round(effective(torch.zeros(5)), 3)
        5.0
    """
    return float(1 / log_weight.softmax(0).square().sum())


def points(simulator: Simulator) -> int:
    """Independent draws in one x."""
    # an attribute of that name that says something else does not divide x
    count, size = simulator.points, simulator.event_shape.numel()
    return count if count > 0 and size % count == 0 else 1


class _Round:
    """A ratio learned from the simulations in the range of one round's thetas."""

    def __init__(self, method: RatioLikelihood, bank: _Bank, v: Tensor, number: int, rounds: int) -> None:
        self.method, self.bank, self.rounds, question = method, bank, rounds, bank.question
        self.random = Stream.of(question.seed, number, "train").torch()
        v = v[torch.isfinite(v).all(1)]
        self.range = Range.of(v)
        kept = self.range.slack(bank.v) >= 0
        inside = bank.v[kept]
        if len(inside) < 10 * method.members:
            raise ValueError(f"{question.simulator.name}: only {len(inside)} simulations of a round did not fail")
        self.rows = len(inside)
        self.centre, self.spread = inside.mean(0), inside.std(0).clamp_min(1e-12)
        rows = bank.rows(bank.x[kept])
        each = rows.shape[1]
        draws = rows.flatten(0, 1).float()
        data = bank.rows(question.data).flatten(0, 1).float()
        # in the data's units, where they have any: the prior's draws may be wider by orders of magnitude
        units = data if len(data) >= MANY else draws
        self.standardise = Standardiser.fit(units)
        if bool((self.standardise(draws).abs() > HEAVY).any()):
            self.standardise = Standardiser.fit(units, robust=True)
        self.ratio = LearnedRatio.learn(
            self.seen(inside).repeat_interleave(each, 0),
            self.standardise(draws),
            members=method.members,
            features=method.features,
            hidden=method.hidden,
            epochs=method.epochs,
            steps=method.steps if number == rounds else max(1, round(EARLY * method.steps)),
            learning_rate=method.learning_rate,
            seed=Stream.of(question.seed, 100 + number, "train").key & (2**62 - 1),
            device=question.device,
        )
        self.count = len(data)
        self.total = self.ratio.total(self.standardise(data))
        self.inside = inside
        self.draws = len(draws)

    def seen(self, v: Tensor) -> Tensor:
        """V in units of the round's thetas."""
        return (v - self.centre) / self.spread

    def members(self, v: Tensor, thin: int = 1) -> Tensor:
        """Each member's log-likelihood of the data, with shape (K, n), at v with shape (n, d)."""
        return self.ratio.member_log_ratios(self.seen(v), self.total, self.count, thin)

    def log_likelihood(self, v: Tensor) -> Tensor:
        """Their mean, with shape (n,)."""
        return self.members(v).mean(0)

    @torch.no_grad()
    def quick(self, v: Tensor) -> Tensor:
        """The mean, over fewer reference draws; minus infinity outside of the range."""
        value = self.members(v, max(1, self.draws // QUICK)).mean(0)
        return torch.where(self.range.slack(v) >= 0, value, -torch.inf)

    @property
    def highest(self) -> Tensor:
        """The likeliest of the thetas that were simulated in the range, with shape (d,)."""
        some = self.inside[-2000:]
        return some[int(self.quick(some).argmax())]

    def propose(self, count: int, width: float) -> Tensor:
        """Thetas of the next round, with shape (count, d)."""
        # a range that is a few standard errors of as many data as there are simulations can be told apart
        power = min(1 / width**2, count / (self.count * width**2))
        some = self.inside[-2000:]
        value = self.quick(some)
        # a ratio that was learned over a wide range is far from right in it: it may not throw most of it away at once
        while effective(power * value) < NARROWING * len(some):
            power *= 0.85
        space, prior = self.bank.space, self.bank.question.simulator.prior

        def target(v: Tensor) -> Tensor:
            flat = v.reshape(-1, space.dim)
            theta = space.theta(flat).float()
            jacobian = space.transform.log_abs_det_jacobian(space.centre + space.scale * flat.float(), theta)
            density = prior.log_prob(theta).double() + jacobian.double()
            return (density + power * self.quick(flat)).reshape(v.shape[:-1])

        walkers = max(40, 4 * (space.dim + 1))
        chosen = torch.multinomial((power * value).softmax(0) + 1e-30, walkers, replacement=True, generator=self.random)
        jitter = torch.randn(walkers, space.dim, generator=self.random, dtype=torch.float64)
        start = some[chosen] + 0.02 * some.std(0) * jitter
        start = torch.where(self.range.slack(start)[:, None] >= 0, start, some[chosen])
        thin = 4 if count > 10 * walkers else 10
        sampler = EnsembleSampler(walkers=walkers, warmup=40, thin=thin)
        draws, _ = sampler.sample(target, start[None], min(count, 40 * walkers), self.random)
        found = draws[:, 0]
        if len(found) < count:  # a smooth law through the draws, where there are many to simulate
            more = torch.randint(len(found), (count - len(found),), generator=self.random)
            root = torch.linalg.cholesky(torch.cov(found.T).reshape(space.dim, -1) + 1e-12 * torch.eye(space.dim))
            noise = torch.randn(len(more), space.dim, generator=self.random, dtype=torch.float64)
            found = torch.cat((found, found[more] + 0.2 * noise @ root.T))
        return found

    def result(self, trace: Trace, failed: int, kept: int) -> LikelihoodFit:
        """The fit, tested with the simulations that were kept."""
        space, question = self.bank.space, self.bank.question
        some = self.inside[-2000:]
        value = self.quick(some)
        starts = some[value.topk(min(5, len(some))).indices]
        single = Surface(space, self.log_likelihood, self.range, starts)
        noise, steps = self.jackknife(single)
        surface = Surface(space, self.log_likelihood, self.range, single.v[None], noise)
        theta = space.theta(surface.v[None])[0].float()
        trace.note(question.spent, theta, slope=self.ratio.slope, rows=float(self.rows))
        figures = {
            "rounds": self.rounds,
            "rows": self.rows,
            "slope": self.ratio.slope,
            "failed_simulations": failed,
            "member_steps": steps,
        }
        warnings = []
        if surface.inflation > 3:
            warnings.append(
                f"the simulations, not the data, decide how well the parameters are known: their share of the error is "
                f"{surface.inflation - 1:.1f} times that of the data; a larger budget would help"
            )
        return LikelihoodFit(
            question, surface, method=self.method.name, trace=trace, kept=kept, figures=figures, warnings=warnings
        )

    def jackknife(self, surface: Surface) -> tuple[Tensor, float]:
        r"""What leaving out a fold of the simulations does to the maximum: its covariance, and the longest step.

        One step of Newton's method from the common maximum stands for each member's own. A few members tell one number
        alone: by how much the covariance of the data, :math:`H^{-1}`, is to be multiplied.
        """
        v = surface.v.clone().requires_grad_()
        values = self.members(v[None])[:, 0]
        slopes = torch.stack([torch.autograd.grad(value, v, retain_graph=True)[0] for value in values])
        steps = slopes @ surface.inverse
        steps = steps - steps.mean(0)
        k = len(steps)
        lengths = ((steps @ surface.hessian) * steps).sum(1)
        share = (k - 1) / k * float(lengths.sum()) / len(v)
        return share * surface.inverse, float(lengths.max()) ** 0.5
