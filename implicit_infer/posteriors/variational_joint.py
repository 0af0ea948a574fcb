r"""Joint-contrastive variational inference: an implicit q(theta | x) that needs simulations and no likelihood.

.. math:: \mathrm{KL}\left(p_D(x) \, q(\theta \mid x) \,\|\, p(x, \theta)\right) =
    \mathbb{E}_{p_D(x) q(\theta \mid x)} \left[\log \frac{p_D(x) \, q(\theta \mid x)}{p(x, \theta)}\right]

A classifier tells (theta, x) of the sampler from (theta, x) of the simulator; its logit is the bracket, and the sampler
descends its mean: the reverse Kullback-Leibler divergence itself, where a GAN descends another function of the logit.
So q is drawn to where the posterior is, and may leave some of it out.

The simulator is what it is, so :math:`p_D` can be any law of x, if the joint law is restricted as q is: with A a set
of x, :math:`p(x, \theta \mid x \in A) = p(x \mid x \in A) \, p(\theta \mid x)` has the same posterior. For one
observation A is its neighbourhood, the share of the simulations that is nearest to it, and neither network spends
itself on what is far from the question.

References:
    | Variational Inference using Implicit Distributions (Huszár, 2017), section 4 (JC-Adv)
    | https://arxiv.org/abs/1702.08235
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.comparisons import Adversarial
from implicit_estimators.critics import ConditionalCritic
from implicit_estimators.penalties import R1
from implicit_infer.games import Play, Training
from implicit_infer.games import game as game_of
from implicit_infer.posteriors.coordinates import Coordinates
from implicit_infer.posteriors.gatsbi_duel import Rows, conditional_duel
from implicit_infer.posteriors.gatsbi_networks import ConditionalGenerator, Sight
from implicit_infer.posteriors.gatsbi_points import Given, exchangeable
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.posteriors.training_rows import coordinates_of, endless
from implicit_infer.posteriors.variational import VariationalPosterior
from implicit_infer.runs import Runs
from implicit_infer.stored import StoredRuns
from implicit_simulators import Stream

FEWEST = 200
"""Simulations that a neighbourhood holds at least, where there are so many."""


@dataclass(frozen=True)
class JointContrastive(Method):
    """An implicit variational posterior by the ratio of joint laws; see the module for the objective.

    Args:
        nearest: Share of the simulations, nearest to the observation in standardised summaries, that are learned from.
        latent: Width of the noise; twice the number of parameters if None.
        hidden: Widths of the hidden layers of sampler and classifier.
        activation: Their activation.
        batch_size: Rows of a batch.
        critic_steps: Classifier steps for each step of the sampler.
        penalty_weight: Weight of the penalty on the classifier's slope at the simulations (R1), which keeps the sampler
            from following it beyond what it knows; 0 for none.
        epochs: Most passes over the simulations of the neighbourhood.
        training: Steps, step sizes and averaging.

    Raises:
        ValueError: If a number is out of its range.
    """

    nearest: float = 0.25
    latent: int | None = None
    hidden: tuple[int, ...] = (64, 64)
    activation: str = "leaky_relu"
    batch_size: int = 256
    critic_steps: int = 2
    penalty_weight: float = 0.1
    epochs: int = 400
    training: Training = field(default_factory=lambda: Training(3000, 5e-4, 1e-3))

    name = "joint-contrastive"
    amortised = False

    def __post_init__(self) -> None:
        if not 0 < self.nearest <= 1:
            raise ValueError(f"nearest: expected a share in (0, 1]; got {self.nearest}")
        for argument in ("batch_size", "critic_steps", "epochs"):
            if getattr(self, argument) < 1:
                raise ValueError(f"{argument}: expected a positive int; got {getattr(self, argument)}")
        if not self.penalty_weight >= 0:
            raise ValueError(f"penalty_weight: expected a number that is not negative; got {self.penalty_weight}")

    def infer(self, question: Question) -> VariationalPosterior:
        """Fit q around the observation, with ``question.budget`` simulations from the prior."""
        return self._fit(question, question.runs())

    def _fit(self, question: Question, runs: Runs | StoredRuns) -> VariationalPosterior:
        """Fit q around the observation, with simulations that are there already."""
        simulator, observed = question.simulator, question.observed
        device = torch.device(question.device)
        seen_as = exchangeable(simulator)
        theta, x = self._near(coordinates_of(seen_as, runs), runs, observed)
        coordinates = Coordinates(seen_as, theta, x)
        given = Given(simulator, coordinates, x)
        known = given.rows(x)
        v = coordinates.free(coordinates.transform.inv(theta), given.linear(known))
        sight = Sight(coordinates, v, given.linear(known)).to(device)
        latent = 2 * simulator.dim if self.latent is None else self.latent
        generator = ConditionalGenerator(
            coordinates, latent, known.shape[1], self.hidden, self.activation, question.seed
        ).to(device)
        critic = ConditionalCritic(
            simulator.dim,
            known.shape[1],
            self.hidden,
            activation=self.activation,
            seed=question.seed + 1,
            device=device,
        )
        penalty = R1(weight=self.penalty_weight) if self.penalty_weight else None
        game = Adversarial("log", "reverse-kl", penalty)
        random = Stream.of(question.seed, role="train").torch(device)
        drawn = endless((v.to(device), known.to(device)), self.batch_size, random)

        def batch() -> Rows:
            v, known = drawn()
            return [v, given.shuffled(known, random)]

        duel = conditional_duel(generator, critic, game, sight, given.linear, batch, random)
        passes = max(1, self.epochs * len(v) // self.batch_size)
        training = replace(self.training, steps=min(self.training.steps, passes))
        play = Play(duel, game_of("alternating", critic_steps=self.critic_steps), training)
        history = play.run(name=f"fitting {self.name}", progress=question.progress)
        fitted: Any = play.averaged.to("cpu").eval()
        row = given.rows(observed[None].to(x))

        def draw(n: int, random: torch.Generator) -> Tensor:
            known = given.shuffled(row.expand(n, -1), random)
            made = fitted(torch.randn((n, latent), generator=random), known)
            return coordinates.transform(coordinates.bound(made, given.linear(known)))

        warnings = [] if history.finite else ["the game diverged: a loss was not finite, and training stopped there"]
        return VariationalPosterior(
            simulator,
            observed,
            draw=draw,
            again=lambda x, seed: self._fit(replace(question, observed=x, seed=seed, progress=False), runs),
            method=self.name,
            simulations=len(runs),
            figures={
                "failed_simulations": int(runs.failed.sum()),
                "neighbours": len(theta),
                "generator_steps": history.steps[-1],
                "divergence": history.generator[-1],
                "history": {"steps": history.steps, "critic": history.critic, "generator": history.generator},
            },
            warnings=warnings,
        )

    def _near(self, coordinates: Coordinates, runs: Runs | StoredRuns, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Theta and x of the neighbourhood."""
        theta, x = runs.valid()
        distance = (coordinates.summaries(x) - coordinates.summaries(observed[None].to(x))).norm(dim=1)
        count = min(len(x), max(FEWEST, round(self.nearest * len(x))))
        rows = distance.topk(count, largest=False).indices.sort().values
        return theta[rows], x[rows]
