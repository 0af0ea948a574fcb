"""The state of a game as tensors and a few numbers: taken to go back to, and to be written to a checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Remembers(Protocol):
    """Whatever has a state of tensors."""

    def state_dict(self) -> dict[str, Tensor]:
        """The state, by name."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> Any:
        """Put it back."""


@dataclass(frozen=True)
class State:
    """Everything that the next step of a game depends on.

    Attributes:
        step: Generator steps made.
        critic_steps_made: Critic steps made.
        parts: Tensors by part (a network, an optimiser, the streams) and name.
    """

    step: int
    critic_steps_made: int
    parts: dict[str, dict[str, Tensor]]


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A copy that nothing changes."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def of_optimiser(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimiser remembers of each parameter, named ``number.what``."""
    state = optimiser.state_dict()["state"]
    return copied({f"{i}.{what}": value for i, entry in state.items() for what, value in entry.items()})


def into_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what :func:`of_optimiser` took."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in copied(tensors).items():
        i, _, what = name.partition(".")
        state.setdefault(int(i), {})[what] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def of_memory(memory: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
    """What a game remembers, named ``what.number``."""
    return copied({f"{what}.{i}": tensor for what, tensors in memory.items() for i, tensor in enumerate(tensors)})


def into_memory(memory: dict[str, list[Tensor]], tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Put back what :func:`of_memory` took."""
    memory.clear()
    numbered = [(*name.rpartition(".")[::2], tensor) for name, tensor in tensors.items()]
    for what, _, tensor in sorted(numbered, key=lambda entry: int(entry[1])):
        memory.setdefault(what, []).append(tensor.detach().to(device, copy=True))


@contextlib.contextmanager
def evaluating(*modules: nn.Module | None) -> Iterator[None]:
    """Modules in evaluation mode, each part of them put back to its own mode afterwards."""
    parts = [part for module in modules if module is not None for part in module.modules()]
    modes = [part.training for part in parts]
    try:
        for part in parts:
            part.training = False
        yield
    finally:
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode
