r"""GATSBI: a posterior that is the generator of a conditional GAN.

A generator maps noise and data to parameters, :math:`\theta = f_\phi(z, x)`; a critic sees pairs
:math:`(\theta, x)` and tells those of the joint :math:`p(\theta) p(x \mid \theta)` from those of the generator,

.. math::
    \min_\phi \max_\psi \; \mathbb{E}_{p(\theta) p(x \mid \theta)} [\log D_\psi(\theta, x)]
    + \mathbb{E}_{p(z) p(x)} [\log (1 - D_\psi(f_\phi(z, x), x))],

so that at the optimum the generator draws from :math:`p(\theta \mid x)` for every x at once. The prior appears as its
draws only, and the posterior has draws and no density.

The value above is one comparison of the two laws; any other of ``implicit_estimators.COMPARISONS`` takes its place
(``comparison="minimax"`` is the paper's, "gan" is it with the generator's loss that the paper's code uses).

Where this differs from the paper's experiments, by default: the critic is asked which of two parameters made one x
(:class:`PairedRelativistic`) and penalised for its slope at both, in place of spectral normalisation; it sees bounded
parameters as they are and unbounded ones less what a linear regression explains (:class:`Sight`); both networks have
kinks (leaky rectifiers), without which narrow crescents are blurred; where x is points in no order, nothing depends on
their order; the step sizes fall to 0 and the generator that is kept is an average of its iterates. Each was adopted for
what it did on two moons or SLCP, and all but the first two are settings.

References:
    | GATSBI: generative adversarial training for simulation-based inference (Ramesh et al., 2022)
    | https://arxiv.org/abs/2203.06481
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.comparisons import Comparison
from implicit_estimators.comparisons import comparison as comparison_of
from implicit_estimators.critics import ConditionalCritic
from implicit_infer.games import Game, Play, Training
from implicit_infer.games import game as game_of
from implicit_infer.posteriors.base import Posterior
from implicit_infer.posteriors.coordinates import Coordinates
from implicit_infer.posteriors.gatsbi_duel import Rows, conditional_duel
from implicit_infer.posteriors.gatsbi_networks import ConditionalGenerator, Sight
from implicit_infer.posteriors.gatsbi_paired import PairedRelativistic
from implicit_infer.posteriors.gatsbi_points import Given, exchangeable
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.posteriors.training_rows import coordinates_of, endless, head, training_rows
from implicit_infer.progress import track
from implicit_simulators import Stream

SCALED_BY = 20_000
"""Simulations that the critic's sight and the points' scales are fitted to."""


@dataclass(frozen=True)
class GATSBI(Method):
    """The adversarial posterior; see the module for the objective.

    Args:
        comparison: What tells the generator's pairs from the simulations: a name of ``ii.comparisons()`` that
            ``implicit_estimators`` has, or a comparison with its settings. Spectral normalisation, clipping, the
            penalty and the critic's steps are those that it asks for.
        latent: Width of the noise z; twice the number of parameters if None.
        hidden: Widths of the generator's and the critic's hidden layers.
        activation: Their activation, a name in ``implicit_estimators.networks.mlp.MLP_ACTIVATIONS``.
        batch_size: Rows of a batch.
        epochs: Most passes of the generator over the simulations, which end the game early where they are few: a critic
            that has seen each pair a thousand times knows them by heart, and the generator follows it.
        penalise_every: Critic steps between two evaluations of the penalty, whose weight is multiplied accordingly
            (the lazy penalties of Karras et al., 2020).
        training: Steps, step sizes and averaging.
        game: How the two players are stepped: a name in ``implicit_infer.games.GAMES``, or a game.

    Raises:
        ValueError: If a name is unknown, a number is out of its range, or the game needs a critic where the comparison
            trains none.
        TypeError: If the comparison is none.
    """

    comparison: str | Comparison | type[Comparison] = PairedRelativistic
    latent: int | None = None
    hidden: tuple[int, ...] = (128, 128, 128)
    activation: str = "leaky_relu"
    batch_size: int = 256
    epochs: int = 260
    penalise_every: int = 4
    training: Training = field(default_factory=lambda: Training(10_000, 1e-3, 1e-3))
    game: str | Game = "alternating"

    name = "gatsbi"

    def __post_init__(self) -> None:
        for argument in ("epochs", "penalise_every", "batch_size"):
            if getattr(self, argument) < 1:
                raise ValueError(f"{argument}: expected a positive int; got {getattr(self, argument)}")
        chosen = comparison_of(self.comparison)
        if game_of(self.game).needs_critic and not chosen.trained:
            raise ValueError(f"game: {self.game!r} needs a critic; {chosen.name!r} trains none")

    def infer(self, question: Question) -> GATSBIPosterior:
        """Train on ``question.budget`` simulations from the prior."""
        runs = question.runs()
        device = torch.device(question.device)
        chosen = comparison_of(self.comparison)
        seen_as = exchangeable(question.simulator)
        coordinates = coordinates_of(seen_as, runs)
        theta, x = (part[:SCALED_BY] for part in head(runs, SCALED_BY))
        given = Given(question.simulator, coordinates, x)

        def rows(theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            known = given.rows(x)
            return coordinates.free(coordinates.transform.inv(theta), given.linear(known)), known

        v, known = rows(theta, x)
        sight = Sight(coordinates, v, given.linear(known))
        data = training_rows(runs, rows, question.device)
        latent = 2 * coordinates.parameters_dim if self.latent is None else self.latent
        width = known.shape[1]
        generator = ConditionalGenerator(
            coordinates, latent, width, self.hidden, self.activation, seed=question.seed
        ).to(device)
        critic = None
        if chosen.trained:
            critic = ConditionalCritic(
                coordinates.parameters_dim,
                width,
                self.hidden,
                outputs=chosen.outputs,
                activation=self.activation,
                spectral_norm=chosen.spectral_norm,
                seed=question.seed + 1,
                device=device,
            )
        sight.to(device)
        random = Stream.of(question.seed, role="train").torch(device)
        drawn = endless(data, self.batch_size, random)

        def batch() -> Rows:
            v, known = drawn()
            return [v, given.shuffled(known, random)]

        duel = conditional_duel(generator, critic, chosen, sight, given.linear, batch, random, self.penalise_every)
        simulations = len(data[0]) if isinstance(data, tuple) else len(data)
        passes = math.ceil(self.epochs * simulations / self.batch_size)
        game = game_of(self.game, critic_steps=chosen.critic_steps) if isinstance(self.game, str) else self.game
        training = replace(self.training, steps=min(self.training.steps, passes))
        play = Play(duel, game, training, streams={"train": random}, remembers={"comparison": chosen})
        history = play.run(name=f"training {self.name}", progress=question.progress)
        averaged = play.averaged.to("cpu").eval()
        assert isinstance(averaged, ConditionalGenerator)
        warnings = [] if history.finite else ["the game diverged: a loss was not finite, and training stopped there"]
        return GATSBIPosterior(
            question.simulator,
            question.observed,
            given=given,
            generator=averaged,
            method=self.name,
            simulations=len(runs),
            figures={
                "failed_simulations": int(runs.failed.sum()),
                "comparison": chosen.name,
                "generator_steps": history.steps[-1],
                "critic_loss": history.critic[-1],
                "generator_loss": history.generator[-1],
                "history": {"steps": history.steps, "critic": history.critic, "generator": history.generator},
            },
            warnings=warnings,
        )


class GATSBIPosterior(Posterior):
    """Draws by pushing noise through the generator; amortised over x, without a density."""

    def __init__(self, *args: Any, given: Given, generator: ConditionalGenerator, **about: Any) -> None:
        super().__init__(*args, **about)
        self.given = given
        self.generator = generator

    @property
    def coordinates(self) -> Coordinates:
        """The maps between the generator's v and theta."""
        return self.given.coordinates

    @torch.no_grad()
    def _sample(self, n: int, x: Tensor, stream: Stream, progress: bool) -> Tensor:
        random = stream.torch()
        known = self.given.rows(x)
        draws = []
        with track("sampling", total=len(x), show=progress) as bar:
            for row in known:
                given = self.given.shuffled(row.expand(n, -1), random)
                z = torch.randn((n, self.generator.latent), generator=random)
                u = self.coordinates.bound(self.generator(z, given), self.given.linear(given))
                draws.append(self.coordinates.transform(u))
                bar.update()
        return torch.stack(draws, 1)
