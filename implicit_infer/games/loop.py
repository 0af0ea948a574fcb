"""Plays a game: step sizes, the averaged generator, the history, progress, and a way back where it diverges."""

from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from implicit_infer.games.base import Game, Optimisers
from implicit_infer.games.duel import Duel
from implicit_infer.games.history import GameHistory
from implicit_infer.games.ranks import Ranks
from implicit_infer.games.state import (
    Remembers,
    State,
    copied,
    evaluating,
    into_memory,
    into_optimiser,
    of_memory,
    of_optimiser,
)
from implicit_infer.games.training import Training
from implicit_infer.progress import track

Watch = Callable[["Play"], dict[str, float]]
"""Called at each mark: may look at the players, and gives the figures that it wants in the history."""

CRITIC, GENERATOR = 0, 1
"""Places of the players in what is summed up between marks."""


class Play:
    """A game under way: everything that a checkpoint must hold.

    Args:
        duel: The players and their losses.
        game: How they are stepped.
        training: How long, and with which steps.
        streams: What the duel draws from, by name: part of the state, so that a game that is put back draws the same.
        remembers: What else has a state (a comparison that remembers its batches), by name.
        ranks: The processes that play it together.
    """

    def __init__(
        self,
        duel: Duel,
        game: Game,
        training: Training,
        *,
        streams: Mapping[str, torch.Generator] | None = None,
        remembers: Mapping[str, Remembers] | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.duel, self.game, self.training = duel, game, training
        self.streams, self.remembers = dict(streams or {}), dict(remembers or {})
        self.ranks = Ranks() if ranks is None else ranks
        for player in (duel.generator, duel.critic):
            if player is not None:
                self.ranks.follow_first([*player.parameters(), *player.buffers()])
        self.averaged: nn.Module = copy.deepcopy(duel.generator).requires_grad_(False)
        # found once: walking through modules costs as much as a small layer
        self._weights: tuple[list[Tensor], list[Tensor]] = (
            list(self.averaged.parameters()),
            list(duel.generator.parameters()),
        )
        self._buffered = any(True for _ in duel.generator.buffers())
        critic = duel.critic_parameters()
        self.optimisers = Optimisers(
            _adam(duel.generator_parameters(), training.learning_rate, training.betas),
            _adam(critic, training.critic_learning_rate, training.betas) if critic else None,
        )
        self.history = GameHistory()
        self.step = 0
        self.device = next(duel.generator.parameters()).device
        self.sums = torch.zeros(3, 2, device=self.device)  # losses, squared gradients and steps of both players
        self._meet(self.optimisers.generator, GENERATOR)
        if self.optimisers.critic is not None:
            self._meet(self.optimisers.critic, CRITIC)

    def _meet(self, optimiser: torch.optim.Optimizer, player: int) -> None:
        """Let each step follow the mean gradient of all ranks, and sum up its square on the device."""

        def before(optimiser: torch.optim.Optimizer, *_: Any) -> None:
            parts = [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
            self.ranks.average(parts)
            self.sums[1, player] += torch.stack(torch._foreach_norm(parts)).square().sum()
            self.sums[2, player] += 1

        optimiser.register_step_pre_hook(before)

    def run(
        self,
        *,
        name: str = "game",
        progress: bool = True,
        watch: Watch | None = None,
        before: Callable[[float], None] | None = None,
        keep: Callable[[Play], None] | None = None,
        stop: threading.Event | None = None,
        seconds: float | None = None,
    ) -> GameHistory:
        """Play on from where the game stands to its last step, or until a loss or a weight is not finite.

        A game that diverges goes back to its last finite mark: players, optimisers and streams are those of that mark,
        while the history shows what came after it.

        Args:
            name: What the progress bar says.
            progress: Whether to show progress.
            watch: Called at each mark, after the losses are in the history.
            before: Called before each step with the share of the game that has been played.
            keep: Called at each mark and at the end, to write a checkpoint.
            stop: Stops the game after the step in hand once it is set. With it, an interruption inside a step goes back
                to the last mark and ends the game; without it, that is raised.
            seconds: Stops the game after so much time.

        Returns:
            The history.
        """
        training, history = self.training, self.history
        end = math.inf if seconds is None else time.monotonic() + seconds
        stretch = max(1, training.steps // training.marks)
        history.stopped = history.stopped if history.stopped == "diverged" else "no"
        good, played = self.state(), False
        with track(name, total=training.steps, show=progress and self.ranks.rank == 0) as bar:
            bar.update(self.step)
            try:
                while self.step < training.steps and history.stopped == "no":
                    if before is not None:
                        before(self.step / training.steps)
                    self._step()
                    played = True
                    if self.step % stretch == 0 or self.step == training.steps:
                        self._mark(watch)
                        bar.update(self.step - bar.done, **history.shown())
                        if history.stopped == "diverged":
                            self.put_back(good)
                        else:
                            good = self.state()
                        if keep is not None and self.step < training.steps:
                            keep(self)
                    if history.stopped == "no" and self.step < training.steps:
                        self._ask(stop, end)
            except KeyboardInterrupt:
                if stop is None:
                    raise
                self.put_back(good)
                history.cut(self.step)
                history.stopped = "interrupted"
        if self.step == training.steps:
            history.stopped = "end"
        if keep is not None and played:
            keep(self)
        return history

    def _ask(self, stop: threading.Event | None, end: float) -> None:
        """Whether somebody wants the game to stop here."""
        if stop is not None and self.ranks.any(stop.is_set(), self.device):
            self.history.stopped = "interrupted"
        elif end < math.inf and self.ranks.any(time.monotonic() > end, self.device):
            self.history.stopped = "time"

    def _step(self) -> None:
        self.step += 1
        rate = self.training.rate(self.step)
        _set_rate(self.optimisers.generator, self.training.learning_rate * rate)
        if self.optimisers.critic is not None:
            _set_rate(self.optimisers.critic, self.training.critic_learning_rate * rate)
        losses = self.game.step(self.duel, self.optimisers)
        self.sums[0] += torch.stack(losses)  # stays on the device between marks
        self._follow(min(self.training.average, self.step / (self.step + 10)))

    @torch.no_grad()
    def _follow(self, decay: float) -> None:
        torch._foreach_lerp_(*self._weights, 1 - decay)
        if self._buffered:  # looked up each time, for a module may put another tensor in a buffer's place
            for mine, theirs in zip(self.averaged.buffers(), self.duel.generator.buffers(), strict=True):
                mine.copy_(theirs)

    @torch.no_grad()
    def _mark(self, watch: Watch | None) -> None:
        history = self.history
        self.ranks.average([self.sums])
        weights = [*self.duel.generator_parameters(), *self.duel.critic_parameters()]
        sizes = torch.stack(torch._foreach_norm(weights)).sum()
        critic, generator, critic_square, square, critic_steps, steps, size = torch.cat(
            [self.sums.flatten(), sizes.to(self.sums.dtype).reshape(1)]
        ).tolist()
        made = self.step - (history.steps[-1] if history.steps else 0)
        self.sums.zero_()
        history.steps.append(self.step)
        history.critic.append(critic / made)
        history.generator.append(generator / made)
        figures = {"generator_gradient": math.sqrt(square / max(steps, 1))}
        if self.optimisers.critic is not None:
            figures["critic_gradient"] = math.sqrt(critic_square / max(critic_steps, 1))
        history.finite = math.isfinite(critic) and math.isfinite(generator) and math.isfinite(size)
        if watch is not None:
            with evaluating(self.duel.generator, self.duel.critic):
                figures |= watch(self)
        for key, value in figures.items():
            history.figures.setdefault(key, []).append(value)
        if not history.finite:
            history.stopped = "diverged"

    def state(self) -> State:
        """A copy of everything that the next step depends on."""
        parts = {
            "generator": copied(self.duel.generator.state_dict()),
            "averaged": copied(self.averaged.state_dict()),
            "generator_optimiser": of_optimiser(self.optimisers.generator),
            "memory": of_memory(self.optimisers.memory),
            "streams": {name: stream.get_state() for name, stream in self.streams.items()},
            "sums": copied({"sums": self.sums}),
        }
        if self.duel.critic is not None:
            parts["critic"] = copied(self.duel.critic.state_dict())
        if self.optimisers.critic is not None:
            parts["critic_optimiser"] = of_optimiser(self.optimisers.critic)
        for name, one in self.remembers.items():
            parts[name] = copied(one.state_dict())
        return State(self.step, self.duel.critic_steps_made, parts)

    def put_back(self, state: State) -> None:
        """Play on from ``state``: the next steps are those that followed it, bit by bit."""
        parts = state.parts
        self.step, self.duel.critic_steps_made = state.step, state.critic_steps_made
        self.duel.generator.load_state_dict(parts["generator"])
        self.averaged.load_state_dict(parts["averaged"])
        into_optimiser(self.optimisers.generator, parts["generator_optimiser"])
        into_memory(self.optimisers.memory, parts.get("memory", {}), self.device)
        if self.duel.critic is not None:
            self.duel.critic.load_state_dict(parts.get("critic", {}))
        if self.optimisers.critic is not None:
            into_optimiser(self.optimisers.critic, parts["critic_optimiser"])
        for name, stream in self.streams.items():
            stream.set_state(parts["streams"][name].cpu())
        for name, one in self.remembers.items():
            one.load_state_dict({key: value.clone() for key, value in parts.get(name, {}).items()})
        self.sums.copy_(parts["sums"]["sums"])


def _adam(parameters: list[Tensor], learning_rate: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)
    return torch.optim.Adam(parameters, lr=learning_rate, betas=betas, fused=fused)


def _set_rate(optimiser: torch.optim.Optimizer, learning_rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = learning_rate
