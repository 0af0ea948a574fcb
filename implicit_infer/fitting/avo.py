r"""Adversarial variational optimisation: a Gaussian over parameters that moves until its draws pass for data.

Where a simulator has no gradient, one is made by spreading theta: with a proposal :math:`q_\psi(\theta)`, the law of
what is simulated at its draws is a smooth function of :math:`\psi`, and the expected loss of draws has the gradient

.. math:: \nabla_\psi U = \mathbb{E}_{\theta \sim q_\psi} \mathbb{E}_{x \mid \theta}
    [h(x) \, \nabla_\psi \log q_\psi(\theta)] + \gamma \nabla_\psi H(q_\psi),

with h what a draw adds to the comparison's loss (:mod:`~implicit_infer.fitting.row_losses`). The critic learns between
the steps to tell draws of the whole proposal from data. Where one theta alone makes the data, the proposal shrinks onto
it; the entropy penalty :math:`\gamma H` makes it do so sooner.

What is the paper's: the objective, the critic with zero slope at the data (R1), baselines of least variance, the
entropy penalty. What is ours: any comparison in place of the critic; the proposal in unconstrained space with a full
covariance; natural steps in its own frame (:mod:`~implicit_infer.fitting.proposal`), scaled by the spread of h; Sobol
draws with independent halves as each other's baseline; critics that also see the draws of the last few steps; and an
average over late iterates.

The entropy penalty is no ornament. Where the spread of a location is as good an explanation of scattered data as the
simulator's own noise, a wide proposal with little noise makes the same law as a narrow one with much, and the loss is
the same; the penalty decides for the narrow one. Too large a penalty, with natural steps, which are in units of the
proposal's width, stops it before it has arrived.

The proposal is no posterior, and its width no standard error. Standard errors come from simulated data instead
(:mod:`~implicit_infer.fitting.spread`), for trained critics and for kernels.

References:
    | Adversarial variational optimization of non-differentiable simulators (Louppe, Hermans & Cranmer, 2019)
    | https://arxiv.org/abs/1707.07113
    | Which training methods for GANs do actually converge? (Mescheder, Geiger & Nowozin, 2018)
    | https://arxiv.org/abs/1801.04406
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from implicit_estimators.comparisons import Comparison
from implicit_estimators.penalties import Penalty
from implicit_infer.checks import check_count
from implicit_infer.fitting import spread
from implicit_infer.fitting.base import Fit, FitMethod, Trace
from implicit_infer.fitting.opponent import Opponent, held_comparison, late
from implicit_infer.fitting.proposal import Baseline, Draws, Gaussian, local_gradient, noise
from implicit_infer.fitting.question import FitQuestion
from implicit_infer.fitting.space import Space
from implicit_infer.fitting.verdict import judge, reserved
from implicit_infer.fitting.view import View
from implicit_infer.progress import track
from implicit_simulators import Stream

SHRINK = 2.5
"""By how much the default entropy penalty lowers the logarithm of the proposal's width."""

AVERAGE_RATE = 0.825
"""The mean over a fit of the factor on its step sizes."""

TRUST = 0.1
"""The furthest that one natural step moves the proposal, in nats."""

MOST = 1000
"""Most simulations of each side in a matrix of kernels."""

ROWS = 32
"""Most rows of one simulation that a step looks at."""


@dataclass(frozen=True)
class AVO(FitMethod):
    r"""Adversarial variational optimisation: a Gaussian over the parameters that moves until its draws pass for data.

    References:
        | Adversarial variational optimization of non-differentiable simulators (Louppe, Hermans & Cranmer, 2019)
        | https://arxiv.org/abs/1707.07113

    Args:
        comparison: What tells draws from data: a name of ``ii.comparisons()``, or a comparison with its settings.
        penalty: In place of the comparison's own. "default" is its own, or R1 for a critic that nothing keeps smooth.
        entropy: :math:`\gamma`, in units of the comparison's loss. None takes as much as shrinks the proposal
            twelvefold over the fit, by itself.
        draws_per_step: Draws of theta in a step, each simulated once.
        draws: "sobol", "antithetic" or "independent".
        baseline: "leave-out", "optimal" or "none".
        step: "natural", or "adam" on the plain gradients in mean and root.
        learning_rate: Step size of the mean, in standard deviations of the proposal.
        covariance_rate: Step size of the covariance.
        width: Standard deviation of the first proposal, in units of the prior's, all in unconstrained space.
        critic_steps: Critic steps for each step.
        critic_learning_rate: Adam's step size of the critic.
        memory: Steps whose draws the critic sees, this one among them.
        hidden: Widths of the critic's hidden layers.
        batch: Rows of each side in a critic's step.
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
    entropy: float | None = None
    draws_per_step: int = 64
    draws: Draws = "sobol"
    baseline: Baseline = "leave-out"
    step: Literal["natural", "adam"] = "natural"
    learning_rate: float = 0.5
    covariance_rate: float = 0.25
    width: float = 0.3
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

    name = "avo"
    compares = True

    def __post_init__(self) -> None:
        for argument, least in (("draws_per_step", 4), ("critic_steps", 1), ("memory", 1), ("batch", 2)):
            check_count(getattr(self, argument), argument, least)
        if self.draws != "independent" and self.draws_per_step % 2:
            raise ValueError(f"draws_per_step: expected an even number for {self.draws}; got {self.draws_per_step}")
        for argument in ("learning_rate", "covariance_rate", "width", "critic_learning_rate"):
            if not 0 < getattr(self, argument) < math.inf:
                raise ValueError(f"{argument}: expected a positive number; got {getattr(self, argument)}")
        if self.entropy is not None and not 0 <= self.entropy < math.inf:
            raise ValueError(f"entropy: expected a number that is not negative, or None; got {self.entropy}")
        if not 0 < self.average <= 1:
            raise ValueError(f"average: expected a share in (0, 1]; got {self.average}")
        choices = {
            "draws": ("sobol", "antithetic", "independent"),
            "baseline": ("leave-out", "optimal", "none"),
            "step": ("natural", "adam"),
        }
        for argument, known in choices.items():
            if getattr(self, argument) not in known:
                raise ValueError(f"{argument}: expected one of {', '.join(known)}; got {getattr(self, argument)!r}")
        held_comparison(self.comparison, self.penalty)

    def fit(self, question: FitQuestion) -> Fit:
        """Move the proposal until the budget is spent, and test where it ends.

        Raises:
            ValueError: If the budget is too small for ten steps, or the data are too few rows.
        """
        kept, around = reserved(question, self.test_share), int(self.uncertainty_share * question.budget)
        steps = (question.left - kept - around) // self.draws_per_step
        if steps < 10:
            least = math.ceil(10 * self.draws_per_step / (1 - self.test_share - self.uncertainty_share))
            raise ValueError(f"budget: expected {least} simulations or more for ten steps; got {question.budget}")
        play = _Play(self, question, steps)
        with track(f"avo against {play.opponent.comparison.name}", steps, show=question.progress) as bar:
            for i in range(steps):
                bar.update(1, **play.step(i))
        proposal = play.averaged()
        theta = play.space.theta(proposal.mean[None])[0]
        covariance = play.covariance(proposal.mean, around)
        figures, warnings = judge(question, theta, kept)
        if covariance is not None:
            warnings += spread.untold(covariance, question.simulator.parameter_names)
        figures |= {"comparison": play.opponent.comparison.name, "steps": steps, "entropy": float(proposal.entropy)}
        # where the loss does not tell how sure the estimate is, the proposal is all that there is
        figures["uncertainty"] = "the proposal's spread, which is no standard error"
        draws, spread_theta = spread.through(play.space, proposal.mean, proposal.covariance, question.seed)
        if covariance is not None:
            figures["uncertainty"] = "sandwich covariance from simulated data"
            figures["proposal_sd"] = draws.std(0).tolist()
            draws, spread_theta = spread.through(play.space, proposal.mean, covariance, question.seed)
        if play.failed:
            warnings.append(f"{play.failed} of {question.spent} simulations failed")
        return Fit(
            question.simulator,
            question.data,
            theta,
            method=self.name,
            simulations=question.spent,
            trace=play.trace,
            covariance=None if covariance is None else spread_theta,
            draws=draws,
            figures=figures,
            warnings=warnings,
        )


@dataclass
class _Play:
    """One fit under way."""

    method: AVO
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
        d = self.space.dim
        self.proposal = Gaussian(self.space.start(question.start), method.width * torch.eye(d))
        self.random = Stream.of(question.seed, role="train").torch()
        self.seen: deque[Tensor] = deque(maxlen=method.memory)
        self.spread = 0.0
        self.means: list[Tensor] = []
        self.roots: list[Tensor] = []
        self.adam: Any = None

    def step(self, i: int) -> dict[str, float]:
        """Draw, simulate, let the critic learn, and move."""
        method = self.method
        z, blocks = noise(method.draws_per_step, self.space.dim, method.draws, self.random)
        x = self.question.simulate(self.space.theta(self.proposal.at(z)))
        finite = torch.isfinite(x.flatten(1)).all(1)
        self.failed += int((~finite).sum())
        factor = late((i + 1) / self.steps)
        losses = torch.zeros(len(z))
        if int(finite.sum()) >= 3:
            rows = self._some(self.view(x[finite]).to(self.question.device))
            self.seen.append(rows.flatten(0, 1))
            self.opponent.rate(factor, method.critic_learning_rate)
            # the first critic has everything to learn
            self.opponent.learn(torch.cat(list(self.seen)), method.critic_steps * (20 if i == 0 else 1))
            found = self.opponent.draw_losses(rows).float().cpu()
            losses[finite] = found
            losses[~finite] = found.max()  # what fails is no better than the worst that does not
        self._move(losses, z, blocks, i)
        self.trace.note(
            self.question.spent,
            self.space.theta(self.proposal.mean[None])[0],
            loss=float(losses.mean()),
            entropy=float(self.proposal.entropy),
        )
        if i >= self.steps - max(1, round(method.average * self.steps)):
            self.means.append(self.proposal.mean)
            self.roots.append(self.proposal.covariance)
        return {"entropy": float(self.proposal.entropy)}

    def _move(self, losses: Tensor, z: Tensor, blocks: Tensor, i: int) -> None:
        method, d, factor = self.method, self.space.dim, late((i + 1) / self.steps)
        wide = float(losses.std())
        if not math.isfinite(wide):
            return
        self.spread = wide if self.spread == 0 else 0.9 * self.spread + 0.1 * wide
        g, big = local_gradient(losses, z, blocks, method.baseline)
        gamma = method.entropy
        if gamma is None:
            gamma = SHRINK * self.spread / (AVERAGE_RATE * self.steps * method.covariance_rate / 2)
        big = big + gamma * torch.eye(d)
        if method.step == "natural":
            unit = max(self.spread, 1e-12)
            rates = factor * method.learning_rate, factor * method.covariance_rate
            self.proposal = self.proposal.natural_step(g / unit, big / unit, *rates, most=TRUST)
            return
        if self.adam is None:
            self.held = [self.proposal.mean.clone(), self.proposal.root.clone()]
            self.adam = torch.optim.Adam(self.held, lr=method.learning_rate, betas=(0.5, 0.9))
        for group in self.adam.param_groups:
            group["lr"] = factor * 0.1 * method.learning_rate
        for tensor, gradient in zip(self.held, self.proposal.gradient(g, big), strict=True):
            tensor.grad = gradient
        self.adam.step()
        self.proposal = Gaussian(self.held[0].clone(), self.held[1].clone())

    def covariance(self, v: Tensor, budget: int) -> Tensor | None:
        """The covariance of v from simulations around it; None where the comparison has no way to tell."""
        dim, random = self.space.dim, Stream.of(self.question.seed, role="observe").torch()
        n = 2 * (min(budget, self.question.left) // 2)
        if n < 40 * (dim + 1) or not (self.opponent.trained or self.opponent.has_kernel):
            return None
        delta = spread.offsets(n, dim, random)
        x = self.question.simulate(self.space.theta(v + delta.to(v)))
        finite = torch.isfinite(x.flatten(1)).all(1)
        rows, delta, m = (
            self._some(self.view(x[finite])).to(self.question.device),
            delta[finite],
            len(self.question.data),
        )
        if self.opponent.trained:
            return spread.of_features(self.opponent.features(rows), delta, m)
        half = min(len(rows) // 2, MOST)
        across = self.opponent.kernel_means(rows[:half], rows[half : 2 * half])
        return spread.of_kernel(across, delta[:half], delta[half : 2 * half], m)

    def averaged(self) -> Gaussian:
        """The late iterates' average: of the means, and of the covariances."""
        covariance = torch.stack(self.roots).mean(0).double()
        values, vectors = torch.linalg.eigh(covariance)
        root = vectors * values.clamp_min(0).sqrt()
        return Gaussian(torch.stack(self.means).mean(0), root.float())

    def _some(self, rows: Tensor) -> Tensor:
        """At most ``ROWS`` rows of each simulation, of all of them the same places."""
        if rows.shape[1] <= ROWS:
            return rows
        return rows[:, torch.randperm(rows.shape[1], generator=self.random)[:ROWS].to(rows.device)]
