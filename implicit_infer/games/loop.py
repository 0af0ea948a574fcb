"""Plays a game: step sizes, the averaged generator, the history, progress, and a stop where it diverges."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from implicit_infer.games.duel import Duel
from implicit_infer.games.game import Game, Optimisers
from implicit_infer.progress import track

Watch = Callable[["Play"], dict[str, float]]
"""Called at each mark: may look at the players, and gives the figures that it wants in the history."""


@dataclass
class GameHistory:
    """What a game looked like on the way, at its marks.

    Attributes:
        steps: Generator steps made at each mark.
        critic: Mean critic loss since the mark before, without penalty.
        generator: Mean generator loss since the mark before.
        figures: Whatever else was watched, by name, one value for each mark.
        finite: Whether all losses were finite; a game that diverges stops.
    """

    steps: list[int] = field(default_factory=list)
    critic: list[float] = field(default_factory=list)
    generator: list[float] = field(default_factory=list)
    figures: dict[str, list[float]] = field(default_factory=dict)
    finite: bool = True


@dataclass(frozen=True)
class Training:
    r"""How long a game is played and with which steps, whichever the game.

    Both players use Adam. The generator that is kept is the exponential moving average of its weights (Yazıcı et al.,
    2019): the iterates of a game circle around the equilibrium that their average approaches.

    References:
        | The unusual effectiveness of averaging in GAN training (Yazıcı et al., 2019)
        | https://arxiv.org/abs/1806.04498

    Args:
        steps: Generator steps.
        learning_rate: Adam's step size of the generator.
        critic_learning_rate: The same of the critic; two time scales (TTUR, Heusel et al., 2017) where it differs.
        betas: Adam's decay rates.
        schedule: "cosine-tail" lowers the step sizes by a cosine to 0 over the second half; "constant" does not.
        average: Decay of the moving average of the generator's weights; 0 keeps the last iterate.
        marks: Points of the history.

    Raises:
        ValueError: If a number is out of its range.
    """

    steps: int = 5000
    learning_rate: float = 5e-4
    critic_learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.0, 0.99)
    schedule: Literal["cosine-tail", "constant"] = "cosine-tail"
    average: float = 0.998
    marks: int = 100

    def __post_init__(self) -> None:
        for argument in ("steps", "marks"):
            if getattr(self, argument) < 1:
                raise ValueError(f"{argument}: expected a positive int; got {getattr(self, argument)}")
        for argument in ("learning_rate", "critic_learning_rate"):
            if not getattr(self, argument) > 0:
                raise ValueError(f"{argument}: expected a positive number; got {getattr(self, argument)}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average: expected a decay in [0, 1); got {self.average}")
        if self.schedule not in ("cosine-tail", "constant"):
            raise ValueError(f"schedule: expected 'cosine-tail' or 'constant'; got {self.schedule!r}")

    def rate(self, step: int) -> float:
        """The factor on the step sizes at a step from 1 to ``steps``."""
        share = step / self.steps
        if self.schedule == "constant" or share < 0.5:
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (2 * share - 1)))


class Play:
    """A game under way: everything that a checkpoint must hold.

    Args:
        duel: The players and their losses.
        game: How they are stepped.
        training: How long, and with which steps.
    """

    def __init__(self, duel: Duel, game: Game, training: Training) -> None:
        self.duel, self.game, self.training = duel, game, training
        self.averaged: nn.Module = copy.deepcopy(duel.generator).requires_grad_(False)
        critic = duel.critic_parameters()
        self.optimisers = Optimisers(
            _adam(duel.generator_parameters(), training.learning_rate, training.betas),
            _adam(critic, training.critic_learning_rate, training.betas) if critic else None,
        )
        self.history = GameHistory()
        self.step = 0
        self._sums = torch.zeros(2, device=next(duel.generator.parameters()).device)

    def run(self, *, name: str = "game", progress: bool = True, watch: Watch | None = None) -> GameHistory:
        """Play on from where the game stands to its last step, or until a loss is not finite.

        Args:
            name: What the progress bar says.
            progress: Whether to show progress.
            watch: Called at each mark, after the losses are in the history.

        Returns:
            The history.
        """
        training, history = self.training, self.history
        stretch = max(1, training.steps // training.marks)
        with track(name, total=training.steps, show=progress) as bar:
            bar.update(self.step)
            while self.step < training.steps and history.finite:
                self._step()
                if self.step % stretch == 0 or self.step == training.steps:
                    figures = self._mark()
                    if watch is not None:
                        figures |= watch(self)
                    for key, value in figures.items():
                        history.figures.setdefault(key, []).append(value)
                    bar.update(self.step - bar.done, critic=history.critic[-1], generator=history.generator[-1])
        return history

    def _step(self) -> None:
        self.step += 1
        rate = self.training.rate(self.step)
        _set_rate(self.optimisers.generator, self.training.learning_rate * rate)
        if self.optimisers.critic is not None:
            _set_rate(self.optimisers.critic, self.training.critic_learning_rate * rate)
        losses = self.game.step(self.duel, self.optimisers)
        for total, loss in zip(self._sums, losses, strict=True):  # stays on the device between marks
            total += loss
        _follow(self.averaged, self.duel.generator, min(self.training.average, self.step / (self.step + 10)))

    def _mark(self) -> dict[str, float]:
        history = self.history
        critic, generator = (self._sums / (self.step - (history.steps[-1] if history.steps else 0))).tolist()
        self._sums.zero_()
        history.steps.append(self.step)
        history.critic.append(critic)
        history.generator.append(generator)
        history.finite = math.isfinite(critic) and math.isfinite(generator)
        return {}


def _adam(parameters: list[Tensor], learning_rate: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)
    return torch.optim.Adam(parameters, lr=learning_rate, betas=betas, fused=fused)


def _set_rate(optimiser: torch.optim.Optimizer, learning_rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = learning_rate


@torch.no_grad()
def _follow(averaged: nn.Module, module: nn.Module, decay: float) -> None:
    mine: list[Tensor] = list(averaged.parameters())
    theirs: list[Tensor] = list(module.parameters())
    torch._foreach_lerp_(mine, theirs, 1 - decay)
    for mine_buffer, buffer in zip(averaged.buffers(), module.buffers(), strict=True):
        mine_buffer.copy_(buffer)
