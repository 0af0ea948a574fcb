r"""Gradients through the simulator: where x is a differentiable function of theta and noise, theta is simply trained.

.. math:: x = f(\theta, \epsilon), \qquad \nabla_\theta \, \mathbb{E}[\ell(x)] =
    \mathbb{E}\left[\partial_\theta f(\theta, \epsilon)^\top \nabla_x \ell(x)\right]

A simulator whose draws carry gradients is a generator with few parameters, and any comparison that a network can be
learned by fits it. The search is in unconstrained space, in units of the prior
(:mod:`~implicit_infer.fitting.space`), on rows in units of the data (:mod:`~implicit_infer.fitting.view`). One batch of
simulations serves both players: the critic learns from it (and from those of the last few steps), then the parameters
move along its gradient; simulations are what the budget counts. The estimate is the average of late iterates: those of
a game, and of any noisy gradient, circle around what their average approaches (Polyak & Juditsky, 1992).

Standard errors are sandwich estimates from simulated data (:mod:`~implicit_infer.fitting.spread`), and what
``fit.sample`` gives is the normal law in unconstrained space that they describe.

References:
    | Learning in Implicit Generative Models (Mohamed and Lakshminarayanan, 2017)
    | https://arxiv.org/abs/1610.03483
    | Acceleration of stochastic approximation by averaging (Polyak & Juditsky, 1992)
    | https://doi.org/10.1137/0330046
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import torch
from torch import Tensor

from implicit_estimators.comparisons import Comparison
from implicit_estimators.penalties import Penalty
from implicit_infer.checks import check_count
from implicit_infer.fitting import spread
from implicit_infer.fitting.base import Fit, FitMethod, Trace
from implicit_infer.fitting.opponent import Opponent, held_comparison, late
from implicit_infer.fitting.question import FitQuestion
from implicit_infer.fitting.space import Space
from implicit_infer.fitting.verdict import judge, reserved
from implicit_infer.fitting.view import View
from implicit_infer.progress import track
from implicit_simulators import Stream

GROUPS = 60
"""Groups of simulated data whose gradients are regressed."""

ROWS = 2000
"""Most rows on either side of each of their losses."""


@dataclass(frozen=True)
class Pathwise(FitMethod):
    r"""Gradients through a differentiable simulator, against any comparison.

    References:
        | Learning in Implicit Generative Models (Mohamed and Lakshminarayanan, 2017)
        | https://arxiv.org/abs/1610.03483

    Args:
        comparison: What tells draws from data: a name of ``ii.comparisons()``, or a comparison with its settings.
        penalty: In place of the comparison's own. "default" is its own, or R1 for a critic that nothing keeps smooth.
        simulations_per_step: Simulations in a step.
        learning_rate: Adam's step size, in units of the prior's standard deviation in unconstrained space; it falls
            to a third over the second half.
        critic_steps: Critic steps for each step.
        critic_learning_rate: Adam's step size of the critic.
        memory: Steps whose simulations the critic sees, this one among them.
        hidden: Widths of the critic's hidden layers.
        batch: Rows of each side in a critic's step, and rows of data that a loss looks at.
        window: Length of the stretches of x that are compared, for series of which there are few; see
            :mod:`~implicit_infer.fitting.view`.
        summaries: Whether what is compared are the simulator's summary statistics.
        average: The share of steps, from the last back, that the estimate is averaged over.
        uncertainty_share: The share of the budget that goes into standard errors; 0 for none.
        test_share: The share of the budget that is kept for the test at the end.

    Raises:
        ValueError: If a setting is out of its range, or there is no such comparison.
    """

    comparison: str | Comparison | type[Comparison] = "js"
    penalty: str | Penalty | None = "default"
    simulations_per_step: int = 64
    learning_rate: float = 0.05
    critic_steps: int = 5
    critic_learning_rate: float = 2e-3
    memory: int = 4
    hidden: tuple[int, ...] = (64, 64)
    batch: int = 256
    window: int | None = None
    summaries: bool = False
    average: float = 0.5
    uncertainty_share: float = 0.15
    test_share: float = 0.1

    name = "pathwise"
    compares = True
    needs_gradients = True

    def __post_init__(self) -> None:
        for argument, least in (("simulations_per_step", 2), ("critic_steps", 1), ("memory", 1), ("batch", 2)):
            check_count(getattr(self, argument), argument, least)
        for argument in ("learning_rate", "critic_learning_rate"):
            if not 0 < getattr(self, argument) < math.inf:
                raise ValueError(f"{argument}: expected a positive number; got {getattr(self, argument)}")
        if not 0 < self.average <= 1:
            raise ValueError(f"average: expected a share in (0, 1]; got {self.average}")
        if not (self.uncertainty_share >= 0 and 0 <= self.uncertainty_share + self.test_share < 1):
            raise ValueError(
                "uncertainty_share, test_share: expected shares that leave some of the budget; got "
                f"{self.uncertainty_share} and {self.test_share}"
            )
        held_comparison(self.comparison, self.penalty)

    def fit(self, question: FitQuestion) -> Fit:
        """Train theta until the budget is spent, then see how sure it is, and test where it ends.

        Raises:
            ValueError: If the budget is too small for ten steps, or the data are too few rows.
        """
        kept, around = reserved(question, self.test_share), int(self.uncertainty_share * question.budget)
        steps = (question.left - kept - around) // self.simulations_per_step
        if steps < 10:
            share = 1 - self.test_share - self.uncertainty_share
            least = math.ceil(10 * self.simulations_per_step / share)
            raise ValueError(f"budget: expected {least} simulations or more for ten steps; got {question.budget}")
        play = _Play(self, question, steps)
        with track(f"pathwise against {play.opponent.comparison.name}", steps, show=question.progress) as bar:
            for i in range(steps):
                bar.update(1, **play.step(i))
        v = torch.stack(play.iterates).mean(0)
        theta = play.space.theta(v[None])[0]
        covariance = play.covariance(v, around)
        figures, warnings = judge(question, theta, kept)
        if covariance is not None:
            warnings += spread.untold(covariance, question.simulator.parameter_names)
        draws = spread_theta = None
        if covariance is not None:
            draws, spread_theta = spread.through(play.space, v, covariance, question.seed)
        elif around:
            warnings.append("no standard errors: too few simulations for them")
        if play.failed:
            warnings.append(f"{play.failed} of {question.spent} simulations failed")
        return Fit(
            question.simulator,
            question.data,
            theta,
            method=self.name,
            simulations=question.spent,
            trace=play.trace,
            covariance=spread_theta,
            draws=draws,
            figures={
                **figures,
                "comparison": play.opponent.comparison.name,
                "steps": steps,
                "uncertainty": "sandwich covariance from simulated data",
            },
            warnings=warnings,
        )


@dataclass
class _Play:
    """One fit under way."""

    method: Pathwise
    question: FitQuestion
    steps: int
    trace: Trace = field(default_factory=Trace)
    failed: int = 0

    def __post_init__(self) -> None:
        method, question = self.method, self.question
        self.space = Space.of(question.simulator, question.seed)
        self.view = View.of(question.simulator, question.data, window=method.window, summaries=method.summaries)
        self.opponent = Opponent(
            held_comparison(method.comparison, method.penalty),
            self.view(question.data).flatten(0, 1),
            hidden=method.hidden,
            learning_rate=method.critic_learning_rate,
            batch=method.batch,
            seed=question.seed,
            device=question.device,
        )
        self.v = self.space.start(question.start).requires_grad_()
        self.optimiser = torch.optim.Adam([self.v], lr=method.learning_rate, betas=(0.5, 0.99))
        self.random = Stream.of(question.seed, role="train").torch()
        self.seen: deque[Tensor] = deque(maxlen=method.memory)
        self.iterates: list[Tensor] = []

    def rows(self, n: int) -> Tensor:
        """Rows of n simulations at the parameters as they are, with their graph; those that fail are left out."""
        theta = self.space.theta(self.v.expand(n, -1))
        if theta.requires_grad:
            # what failed has a gradient of 0 x NaN
            theta.register_hook(lambda gradient: gradient.nan_to_num(0.0, 0.0, 0.0))
        x = self.question.simulate(theta)
        finite = torch.isfinite(x.flatten(1)).all(1)
        self.failed += int((~finite).sum())
        return self.view(x[finite]).flatten(0, 1).to(self.question.device)

    def step(self, i: int) -> dict[str, float]:
        """Simulate, let the critic learn, and move."""
        method = self.method
        rows = self.rows(method.simulations_per_step)
        factor, loss = late((i + 1) / self.steps), torch.zeros(())
        if len(rows) >= 2:
            self.seen.append(rows.detach())
            self.opponent.rate(factor, method.critic_learning_rate)
            # the first critic has everything to learn
            self.opponent.learn(torch.cat(list(self.seen)), method.critic_steps * (20 if i == 0 else 1))
            loss = self.opponent.loss(rows)
            (gradient,) = torch.autograd.grad(loss, self.v)
            if bool(torch.isfinite(gradient).all()):
                self.v.grad = gradient
                self.optimiser.param_groups[0]["lr"] = factor * method.learning_rate
                self.optimiser.step()
        self.trace.note(self.question.spent, self.space.theta(self.v.detach()[None])[0], loss=float(loss.detach()))
        if i >= self.steps - max(1, round(method.average * self.steps)):
            self.iterates.append(self.v.detach().clone())
        return {"loss": self.trace.figures["loss"][-1]}

    def covariance(self, v: Tensor, budget: int) -> Tensor | None:
        """The covariance of v, from simulations around it."""
        budget = min(budget, self.question.left)
        dim, random = self.space.dim, Stream.of(self.question.seed, role="observe").torch()
        with torch.no_grad():
            self.v.copy_(v)
        if self.opponent.trained:
            delta = spread.offsets(2 * (budget // 2), dim, random)
            if len(delta) < 20 * (dim + 1):
                return None
            rows, finite = self._around(v, delta)
            return spread.of_features(self.opponent.features(rows), delta[finite], len(self.question.data))
        groups = 2 * max(GROUPS // 2, 2 * dim)
        # losses of samples with nothing trained cost the square of their rows
        most = max(2, ROWS // self.view.each)
        per_group = min(budget // 2 // groups, most)
        # the loss of a batch of data, with the model's simulations held where they are
        if per_group * self.view.each < 2 or budget // 2 < 2:
            return None
        model = self.rows(min(budget // 2, most))
        # beside the data itself, so that what a loss takes from its batch of data (units, bandwidths) stays as it is
        base = self.opponent.data[: self.method.batch]
        delta = spread.offsets(groups, dim, random)
        gradients, used = [], []
        for offset in delta:
            rows, finite = self._around(v, offset.expand(per_group, -1))
            if len(rows) * self.view.each < 2 or not finite.all():
                continue
            loss = self.opponent.loss(model, torch.cat([base, rows.flatten(0, 1)]))
            gradients.append(torch.autograd.grad(loss, self.v, retain_graph=True)[0].cpu())
            used.append(offset)
        if len(gradients) < 4 * (dim + 1):
            return None
        return spread.of_gradients(torch.stack(gradients), torch.stack(used), per_group, len(self.question.data))

    def _around(self, v: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of simulations at v + delta, with shape (n, each, width), and which of them did not fail."""
        x = self.question.simulate(self.space.theta(v + delta.to(v)))
        finite = torch.isfinite(x.flatten(1)).all(1)
        return self.view(x[finite]).to(self.question.device), finite
