r"""GATSBI: a posterior that is the generator of a conditional GAN.

A generator maps noise and data to parameters, :math:`\theta = f_\phi(z, x)`; a critic sees pairs
:math:`(\theta, x)` and tells those of the joint :math:`p(\theta) p(x \mid \theta)` from those of the generator,

.. math::
    \min_\phi \max_\psi \; \mathbb{E}_{p(\theta) p(x \mid \theta)} [\log D_\psi(\theta, x)]
    + \mathbb{E}_{p(z) p(x)} [\log (1 - D_\psi(f_\phi(z, x), x))],

so that at the optimum the generator draws from :math:`p(\theta \mid x)` for every x at once. The prior appears as its
draws only, and the posterior has draws and no density.

Where this differs from the paper's experiments: the generator minimises the non-saturating loss by default (the paper's
minimax value has no gradient where the critic is sure), a zero-centred gradient penalty on the parameters replaces
spectral normalisation as what keeps the critic smooth, and the generator that is kept is an average of its iterates.
Each is a setting.

References:
    | GATSBI: generative adversarial training for simulation-based inference (Ramesh et al., 2022)
    | https://arxiv.org/abs/2203.06481
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from implicit_estimators.generator_losses import generator_loss
from implicit_estimators.networks.mlp import MLP
from implicit_estimators.penalties import PENALTIES
from implicit_estimators.ratio_losses import ratio_loss
from implicit_infer.games import Duel, Game, Play, Training
from implicit_infer.games import game as game_of
from implicit_infer.posteriors.base import Posterior
from implicit_infer.posteriors.coordinates import Coordinates
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.posteriors.training_rows import coordinates_of, endless, training_rows
from implicit_infer.progress import track
from implicit_simulators import Stream


class ConditionalGenerator(nn.Module):
    """Noise and summaries to parameters: v = network(z, s) in the coordinates of :class:`Coordinates`."""

    def __init__(self, coordinates: Coordinates, latent: int, hidden: tuple[int, ...], seed: int) -> None:
        super().__init__()
        self.latent = latent
        d, k = coordinates.parameters_dim, coordinates.summaries_dim
        self.network = MLP(latent + k, d, hidden, activation="silu", seed=seed)

    def forward(self, z: Tensor, s: Tensor) -> Tensor:
        """V of shape (n, d) for noise z (n, latent) and summaries s (n, k)."""
        return self.network(torch.cat((z, s), 1))


class ConditionalCritic(nn.Module):
    """A logit for each pair (v, s); it sees u as well, so that the prior's shape is as near as the posterior's."""

    def __init__(self, coordinates: Coordinates, hidden: tuple[int, ...], seed: int) -> None:
        super().__init__()
        d, k = coordinates.parameters_dim, coordinates.summaries_dim
        self.network = MLP(d + k, 1, hidden, activation="silu", seed=seed)

    def forward(self, v: Tensor, s: Tensor) -> Tensor:
        """Logits with shape (n,)."""
        return self.network(torch.cat((v, s), 1))[:, 0]


@dataclass(frozen=True)
class GATSBI(Method):
    """The adversarial posterior; see the module for the objective.

    Args:
        latent: Width of the noise z; twice the number of parameters if None.
        hidden: Widths of the generator's and the critic's hidden layers.
        batch_size: Rows of a batch.
        ratio_loss: How the critic learns: a name in ``implicit_estimators.RATIO_LOSSES``.
        generator_loss: How the generator moves: a name in ``implicit_estimators.GENERATOR_LOSSES``.
        penalty: A name in ``implicit_estimators.PENALTIES``, or None.
        penalty_weight: Its weight; the penalty's own default if None.
        epochs: Most passes of the generator over the simulations, which end the game early where they are few: a critic
            that has seen each pair a thousand times knows them by heart, and the generator follows it.
        penalise_every: Critic steps between two evaluations of the penalty, whose weight is multiplied accordingly
            (the lazy penalties of Karras et al., 2020).
        training: Steps, step sizes and averaging.
        game: How the two players are stepped: a name in ``implicit_infer.games.GAMES``, or a game.
    """

    latent: int | None = None
    hidden: tuple[int, ...] = (128, 128, 128)
    batch_size: int = 256
    ratio_loss: str = "log"
    generator_loss: str = "non-saturating"
    penalty: str | None = "r1"
    penalty_weight: float | None = 1.0
    epochs: int = 130
    penalise_every: int = 4
    training: Training = field(default_factory=lambda: Training(5000, 5e-4, 1e-3))
    game: str | Game = "alternating"

    name = "gatsbi"

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs: expected a positive int; got {self.epochs}")
        ratio_loss(self.ratio_loss)
        generator_loss(self.generator_loss)
        game_of(self.game)
        if self.penalty is not None and self.penalty not in PENALTIES:
            raise ValueError(f"penalty: expected one of {', '.join(PENALTIES)} or None; got {self.penalty!r}")

    def infer(self, question: Question) -> GATSBIPosterior:
        """Train on ``question.budget`` simulations from the prior."""
        runs = question.runs()
        device = torch.device(question.device)
        coordinates = coordinates_of(question.simulator, runs)

        def free(theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            s = coordinates.summaries(x)
            return coordinates.free(coordinates.transform.inv(theta), s), s

        data = training_rows(runs, free, question.device)
        latent = 2 * coordinates.parameters_dim if self.latent is None else self.latent
        generator = ConditionalGenerator(coordinates, latent, self.hidden, seed=question.seed).to(device)
        critic = ConditionalCritic(coordinates, self.hidden, seed=question.seed + 1).to(device)
        random = Stream.of(question.seed, role="train").torch(device)
        critic_wants, generator_wants = ratio_loss(self.ratio_loss), generator_loss(self.generator_loss)
        weight = {} if self.penalty_weight is None else {"weight": self.penalty_weight}
        penalty = None if self.penalty is None else PENALTIES[self.penalty](**weight)

        batch = endless(data, self.batch_size, random)

        def noise(s: Tensor) -> Tensor:
            return torch.randn((len(s), latent), generator=random, device=device)

        def critic_loss(generator: Any, critic: Any, rows: list[Tensor]) -> Tensor:
            v, s = rows
            return critic_wants.loss(critic(v, s), critic(generator(noise(s), s), s))

        def generator_objective(generator: Any, critic: Any, rows: list[Tensor]) -> Tensor:
            _, s = rows
            return generator_wants.loss(critic_wants.log_ratio(critic(generator(noise(s), s), s)))

        def critic_penalty(generator: Any, critic: Any, rows: list[Tensor]) -> Tensor:
            assert penalty is not None
            v, s = batch()
            return penalty.penalty(critic, v, generator(noise(s), s), random, s)

        simulations = len(data[0]) if isinstance(data, tuple) else len(data)
        passes = math.ceil(self.epochs * simulations / self.batch_size)
        duel = Duel(
            generator,
            critic,
            generator_objective,
            critic_loss,
            batch,
            None if penalty is None else critic_penalty,
            self.penalise_every,
        )
        play = Play(duel, game_of(self.game), replace(self.training, steps=min(self.training.steps, passes)))
        history = play.run(name="training gatsbi", progress=question.progress)
        averaged = play.averaged.eval()
        assert isinstance(averaged, ConditionalGenerator)
        warnings = [] if history.finite else ["the game diverged: a loss was not finite, and training stopped there"]
        return GATSBIPosterior(
            question.simulator,
            question.observed,
            coordinates=coordinates,
            generator=averaged,
            method=self.name,
            simulations=len(runs),
            figures={
                "failed_simulations": int(runs.failed.sum()),
                "generator_steps": history.steps[-1],
                "critic_loss": history.critic[-1],
                "generator_loss": history.generator[-1],
                "history": {"steps": history.steps, "critic": history.critic, "generator": history.generator},
            },
            warnings=warnings,
        )


class GATSBIPosterior(Posterior):
    """Draws by pushing noise through the generator; amortised over x, without a density."""

    def __init__(self, *args: Any, coordinates: Coordinates, generator: ConditionalGenerator, **about: Any) -> None:
        super().__init__(*args, **about)
        self.coordinates = coordinates
        self.generator = generator

    @torch.no_grad()
    def _sample(self, n: int, x: Tensor, stream: Stream, progress: bool) -> Tensor:
        random = stream.torch()
        summaries = self.coordinates.summaries(x)
        draws = []
        with track("sampling", total=len(x), show=progress) as bar:
            for s in summaries:
                given = s.expand(n, -1)
                z = torch.randn((n, self.generator.latent), generator=random)
                v = self.generator(z, given)
                draws.append(self.coordinates.transform(self.coordinates.bound(v, given)))
                bar.update()
        return torch.stack(draws, 1)
