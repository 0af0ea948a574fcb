r"""The two-player loop that everything adversarial shares: a critic tells draws from data, a generator moves.

A game knows two losses as functions without arguments, each of which draws its own batch, and how the players take
turns. What the losses are made of (ratio loss, generator loss, penalty) is the caller's business, so that any of them
goes with any game.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn

from implicit_infer.progress import track

Loss = Callable[[], Tensor]
Penalty = Callable[[], Tensor]
Generator = TypeVar("Generator", bound=nn.Module)


@dataclass
class GameHistory:
    """What a game looked like on the way, at ``marks`` steps.

    Attributes:
        steps: Generator steps made at each mark.
        critic: Mean critic loss since the mark before, without penalty.
        generator: Mean generator loss since the mark before.
        finite: Whether all losses were finite; a game that diverges stops.
    """

    steps: list[int] = field(default_factory=list)
    critic: list[float] = field(default_factory=list)
    generator: list[float] = field(default_factory=list)
    finite: bool = True


@dataclass(frozen=True)
class Alternating:
    r"""Gradient descent in turns: the critic steps, then the generator answers the new critic.

    Both players use Adam. Step sizes fall by a cosine to zero over the second half of the game, and the generator kept
    is the exponential moving average of its weights (Yazıcı et al., 2019): the iterates of a game circle around the
    equilibrium that their average approaches.

    References:
        | Generative adversarial networks (Goodfellow et al., 2014), algorithm 1
        | https://arxiv.org/abs/1406.2661
        | Analyzing and improving the image quality of StyleGAN (Karras et al., 2020): lazy penalties
        | https://arxiv.org/abs/1912.04958
        | The unusual effectiveness of averaging in GAN training (Yazıcı et al., 2019)
        | https://arxiv.org/abs/1806.04498

    Args:
        steps: Generator steps.
        critic_steps: Critic steps before each generator step.
        learning_rate: Adam's step size of the generator.
        critic_learning_rate: The same of the critic; two time scales (TTUR, Heusel et al., 2017) where it is larger.
        betas: Adam's decay rates.
        average: Decay of the moving average of the generator's weights.
        penalise_every: Critic steps between two evaluations of the penalty, whose weight is multiplied accordingly.
        marks: Points of the history.
    """

    steps: int = 5000
    critic_steps: int = 1
    learning_rate: float = 5e-4
    critic_learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.0, 0.99)
    average: float = 0.998
    penalise_every: int = 4
    marks: int = 100

    def __post_init__(self) -> None:
        for argument in ("steps", "critic_steps", "penalise_every", "marks"):
            if getattr(self, argument) < 1:
                raise ValueError(f"{argument}: expected a positive int; got {getattr(self, argument)}")

    def play(
        self,
        generator: Generator,
        critic: nn.Module,
        generator_loss: Loss,
        critic_loss: Loss,
        penalty: Penalty | None = None,
        *,
        name: str = "game",
        progress: bool = True,
    ) -> tuple[Generator, GameHistory]:
        """Play the game.

        Args:
            generator: The generator; left at its last iterate.
            critic: The critic; trained in place.
            generator_loss: Draws a batch and gives the generator's loss; gradients reach the generator through it.
            critic_loss: Draws a batch and gives the critic's loss; must detach what the generator made.
            penalty: Draws a batch and gives the critic's penalty, or None.
            name: What the progress bar says.
            progress: Whether to show progress.

        Returns:
            The averaged generator in evaluation mode, and the history.
        """
        averaged = copy.deepcopy(generator).requires_grad_(False)
        ours = _Player(generator, self.learning_rate, self.betas)
        theirs = _Player(critic, self.critic_learning_rate, self.betas)
        history = GameHistory()
        stretch = max(1, self.steps // self.marks)
        device = next(generator.parameters()).device
        sums = torch.zeros(2, device=device)  # stays on the device between marks: no host round trip in a step
        made = 0
        with track(name, total=self.steps, show=progress) as bar:
            for step in range(1, self.steps + 1):
                rate = _cosine_tail(step / self.steps)
                for _ in range(self.critic_steps):
                    loss = critic_loss()
                    sums[0] += loss.detach() / self.critic_steps
                    if penalty is not None and made % self.penalise_every == 0:
                        loss = loss + self.penalise_every * penalty()
                    theirs.step(loss, rate)
                    made += 1
                critic.requires_grad_(False)
                loss = generator_loss()
                critic.requires_grad_(True)
                sums[1] += loss.detach()
                ours.step(loss, rate)
                _follow(averaged, generator, min(self.average, step / (step + 10)))
                if step % stretch == 0 or step == self.steps:
                    losses = (sums / (step - (history.steps[-1] if history.steps else 0))).tolist()
                    sums.zero_()
                    history.steps.append(step)
                    history.critic.append(losses[0])
                    history.generator.append(losses[1])
                    bar.update(step - bar.done, critic=losses[0], generator=losses[1])
                    if not (math.isfinite(losses[0]) and math.isfinite(losses[1])):
                        history.finite = False
                        break
        return averaged.eval(), history


class _Player:
    """A network with its optimiser."""

    def __init__(self, module: nn.Module, learning_rate: float, betas: tuple[float, float]) -> None:
        parameters = [p for p in module.parameters() if p.requires_grad]
        self.learning_rate = learning_rate
        self.optimiser = torch.optim.Adam(parameters, lr=learning_rate, betas=betas, fused=True)

    def step(self, loss: Tensor, rate: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate * rate
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()


@torch.no_grad()
def _follow(averaged: nn.Module, module: nn.Module, decay: float) -> None:
    mine: list[Tensor] = list(averaged.parameters())
    theirs: list[Tensor] = list(module.parameters())
    torch._foreach_lerp_(mine, theirs, 1 - decay)
    for mine_buffer, buffer in zip(averaged.buffers(), module.buffers(), strict=True):
        mine_buffer.copy_(buffer)


def _cosine_tail(share: float) -> float:
    """1 for the first half of the game, then a cosine to 0."""
    return 1.0 if share < 0.5 else 0.5 * (1 + math.cos(math.pi * (2 * share - 1)))
