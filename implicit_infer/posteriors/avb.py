r"""Adversarial variational Bayes: an implicit posterior for every x, where the likelihood is known.

A sampler :math:`\theta = f_\phi(z, x)` maximises the evidence bound of simulated x, whose one intractable term, the
sampler's own density, is told by a classifier T(theta, x),

.. math:: \max_\phi \; \mathbb{E}_{p(x)} \mathbb{E}_{q_\phi(\theta \mid x)} \left[
    \log p(x \mid \theta) + \log p(\theta) - \log r(\theta \mid x) - T(\theta, x) \right], \quad
    T^* = \log \frac{q_\phi(\theta \mid x)}{r(\theta \mid x)},

and T learns to tell draws of q from draws of the *contrast* r at the same x. With r the prior this is the paper's
algorithm 1. A posterior is seldom near the prior, and then T is sure of itself and its ratio worthless; the *adaptive
contrast* is a normal with the mean and the covariance that q has at x, and T sees draws in units of it, so that what is
left to tell is how q differs from a normal (the paper's algorithm 2). The bound is the same for every r.

The paper takes q's mean and covariance from a special form of the sampler. Here they are a network of x, fitted to the
sampler's draws by maximum likelihood beside T: a function of x alone, as T needs it to be.

References:
    | Adversarial Variational Bayes (Mescheder, Nowozin & Geiger, 2017)
    | https://arxiv.org/abs/1701.04722
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from implicit_estimators.critics import ConditionalCritic
from implicit_estimators.networks.mlp import MLP
from implicit_infer.games import Duel, Play, Training
from implicit_infer.games import game as game_of
from implicit_infer.posteriors.gatsbi import SCALED_BY, GATSBIPosterior
from implicit_infer.posteriors.gatsbi_networks import ConditionalGenerator
from implicit_infer.posteriors.gatsbi_points import Given, exchangeable
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.posteriors.training_rows import coordinates_of, endless, head, training_rows
from implicit_infer.posteriors.variational_likelihood import differentiable_likelihood, tamed
from implicit_simulators import Stream


@dataclass(frozen=True)
class AVB(Method):
    """Adversarial variational Bayes for simulators with a likelihood; see the module for the objective.

    Simulations give the x that the posterior is learned for, and no theta: the likelihood is evaluated at the sampler's
    draws, which the budget does not count.

    Args:
        contrast: "adaptive", or "prior" for the paper's first algorithm.
        latent: Width of the noise; twice the number of parameters if None.
        hidden: Widths of the hidden layers of sampler, classifier and contrast.
        activation: Their activation.
        batch_size: Rows of a batch, one draw for each.
        critic_steps: Classifier steps for each step of the sampler.
        warm_up: Share of the steps over which the weight of likelihood and prior rises from 0 to 1, on a straight line.
        steepest: The largest length of the log likelihood's gradient at a draw, in the coordinates of the sampler.
        training: Steps, step sizes and averaging.

    Raises:
        ValueError: If a number is out of its range, or there is no such contrast.
    """

    contrast: Literal["adaptive", "prior"] = "adaptive"
    latent: int | None = None
    hidden: tuple[int, ...] = (64, 64)
    activation: str = "silu"
    batch_size: int = 256
    critic_steps: int = 2
    warm_up: float = 0.3
    steepest: float = 100.0
    training: Training = field(default_factory=lambda: Training(4000, 5e-4, 1e-3))

    name = "avb"

    def __post_init__(self) -> None:
        if self.contrast not in ("adaptive", "prior"):
            raise ValueError(f"contrast: expected 'adaptive' or 'prior'; got {self.contrast!r}")
        for argument in ("batch_size", "critic_steps", "steepest"):
            if not getattr(self, argument) > 0:
                raise ValueError(f"{argument}: expected a positive number; got {getattr(self, argument)}")
        if not 0 <= self.warm_up < 1:
            raise ValueError(f"warm_up: expected a share in [0, 1); got {self.warm_up}")

    def infer(self, question: Question) -> GATSBIPosterior:
        """Train on the x of ``question.budget`` simulations from the prior.

        Raises:
            ValueError: If the simulator has no log likelihood that is differentiable in theta.
        """
        simulator = question.simulator
        log_likelihood = differentiable_likelihood(simulator, self.name)
        runs = question.runs()
        device = torch.device(question.device)
        coordinates = coordinates_of(exchangeable(simulator), runs)
        given = Given(simulator, coordinates, head(runs, SCALED_BY)[1][:SCALED_BY])

        def rows(theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            known = given.rows(x)
            return coordinates.free(coordinates.transform.inv(theta), given.linear(known)), known, x

        data = training_rows(runs, rows, question.device)
        d, latent = coordinates.parameters_dim, self.latent
        latent = 2 * d if latent is None else latent
        random = Stream.of(question.seed, role="train").torch(device)
        drawn = endless(data, self.batch_size, random)
        width = drawn()[1].shape[1]
        generator = ConditionalGenerator(coordinates, latent, width, self.hidden, self.activation, question.seed)
        generator.to(device)
        critic = Contrast(d, width, self.hidden, self.activation, self.contrast == "adaptive", question.seed + 1)
        critic.to(device)
        weight = torch.zeros((), device=device)

        def batch() -> list[Tensor]:
            v, known, x = drawn()
            return [v, given.shuffled(known, random), x]

        def draw(generator: Any, known: Tensor) -> Tensor:
            v: Tensor = generator(torch.randn((len(known), latent), generator=random, device=device), known)
            return v

        def rivals(rows: list[Tensor]) -> Tensor:
            """Noise of the contrast; draws of the prior at the same x where that is the contrast."""
            if self.contrast == "adaptive":
                return torch.randn((len(rows[0]), d), generator=random, device=device)
            # u of other rows, with the regression of these
            s, turn = given.linear(rows[1]), rows[0].roll(1, 0)
            theirs = s.roll(1, 0)
            return turn + (theirs - s) @ slope.T

        slope = (coordinates.whiten @ coordinates.slope).to(device)

        def critic_loss(generator: Any, critic: Any, rows: list[Tensor]) -> Tensor:
            known = rows[1]
            logit, log_contrast = critic(draw(generator, known), known)
            at_contrast, _ = critic(rivals(rows), known, True)
            fitted = -log_contrast.mean() if self.contrast == "adaptive" else 0.0
            return softplus(-logit).mean() + softplus(at_contrast).mean() + fitted

        def generator_loss(generator: Any, critic: Any, rows: list[Tensor]) -> Tensor:
            _, known, x = rows
            v = draw(generator, known)
            logit, log_contrast = critic(v, known)
            # simulators compute on the CPU
            here, s = v.cpu(), given.linear(known).cpu()
            u = coordinates.bound(here, s)
            fit = tamed(log_likelihood, coordinates.transform, u, x.cpu(), self.steepest / scale).to(device)
            if self.contrast == "prior":
                return logit.mean() - weight * fit
            log_prior = (coordinates.log_prior(u) + coordinates.log_volume).mean().to(device)
            return (logit + log_contrast).mean() - weight * (fit + log_prior)

        scale = float(coordinates.spread.diagonal().mean())

        def warm(share: float) -> None:
            # never 0: with neither likelihood nor prior nothing would bound the sampler
            weight.fill_(1.0 if self.warm_up == 0 else min(1.0, 0.1 + 0.9 * share / self.warm_up))

        game = game_of("alternating", critic_steps=self.critic_steps)
        play = Play(Duel(generator, critic, generator_loss, critic_loss, batch), game, self.training)
        history = play.run(name=f"training {self.name}", progress=question.progress, before=warm)
        averaged = play.averaged.to("cpu").eval()
        assert isinstance(averaged, ConditionalGenerator)
        warnings = [] if history.finite else ["the game diverged: a loss was not finite, and training stopped there"]
        return GATSBIPosterior(
            simulator,
            question.observed,
            given=given,
            generator=averaged,
            method=self.name,
            simulations=len(runs),
            figures={
                "failed_simulations": int(runs.failed.sum()),
                "mean_elbo": -history.generator[-1],
                "history": {"steps": history.steps, "critic": history.critic, "generator": history.generator},
            },
            warnings=warnings,
        )


class Contrast(nn.Module):
    r"""The classifier T, and the normal :math:`r(v \mid x) = N(\mu(x), L(x) L(x)^\top)` that it tells q from.

    Args:
        d: Width of v.
        given: Width of what is given of x.
        hidden: Widths of the hidden layers.
        activation: Name of the activation.
        adaptive: Whether T sees v in units of the normal; if not, it sees v itself, and the normal is idle.
        seed: Seed of the initial weights. The normal starts as the standard one.
    """

    def __init__(self, d: int, given: int, hidden: tuple[int, ...], activation: str, adaptive: bool, seed: int) -> None:
        super().__init__()
        self.d, self.adaptive = d, adaptive
        self.judge = ConditionalCritic(d, given, hidden, activation=activation, seed=seed)
        self.normal = MLP(given, 2 * d + d * (d - 1) // 2, hidden, activation=activation, seed=seed + 1)
        last = self.normal.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, v: Tensor, given: Tensor, contrast: bool = False) -> tuple[Tensor, Tensor]:
        r"""T and log r, each with shape (n,).

        T's own gradient does not reach the normal, nor that of log r the draws' network through the normal: r is one
        for each player, and moves by maximum likelihood alone.

        Args:
            v: Draws of q with shape (n, d); with ``contrast``, standard normal noise of r, or draws of the prior where
                the contrast is not adaptive.
            given: What is given of x, with shape (n, k).
            contrast: Whether v is the contrast's.
        """
        if not self.adaptive:
            return self.judge(v, given), v.new_zeros(len(v))
        if contrast:
            return self.judge(v, given), -0.5 * v.square().sum(1)
        mean, log_diagonal, lower = self.normal(given).split((self.d, self.d, self.d * (self.d - 1) // 2), 1)
        precision = torch.diag_embed(log_diagonal.exp())
        row, column = torch.tril_indices(self.d, self.d, -1, device=v.device)
        precision[:, row, column] = lower
        standard = torch.einsum("nij,nj->ni", precision.detach(), v - mean.detach())
        log_normal = self._log_normal(precision.detach(), log_diagonal.detach(), standard)
        # the value is log r at the draws; its gradient in v holds the normal fixed, that in the normal holds v
        held = torch.einsum("nij,nj->ni", precision, v.detach() - mean)
        learned = self._log_normal(precision, log_diagonal, held)
        return self.judge(standard, given), log_normal + learned - learned.detach()

    def _log_normal(self, precision: Tensor, log_diagonal: Tensor, standard: Tensor) -> Tensor:
        constant = 0.5 * self.d * math.log(2 * math.pi)
        return log_diagonal.sum(1) - 0.5 * standard.square().sum(1) - constant
