"""What a game borrows while it is played, and gives back: torch's global generators, and compiled networks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from implicit_estimators.comparisons import Comparison
from implicit_estimators.seeds import forked, stream


@contextlib.contextmanager
def own_globals(seed: int, device: torch.device) -> Iterator[dict[str, torch.Generator]]:
    """The global generators that networks draw from (dropout), seeded inside and put back afterwards.

    Yields:
        Those generators by name, to be kept in checkpoints.
    """
    with forked(seed, "subsample"):
        found = {"modules": torch.default_generator}
        if device.type != "cuda":
            yield found
            return
        with torch.random.fork_rng(devices=[device]):
            number = torch.cuda.current_device() if device.index is None else device.index
            there = torch.cuda.default_generators[number]
            there.set_state(stream(seed, "subsample", device).get_state())
            yield found | {"device_modules": there}


@contextlib.contextmanager
def compiled(generator: nn.Module, critic: nn.Module | None, asked: bool, comparison: Comparison) -> Iterator[None]:
    """Networks that run compiled inside: a penalty needs second derivatives, which compiled networks do not have."""
    networks = [generator, *([critic] if critic is not None and comparison.regulariser is None else [])]
    try:
        for network in networks if asked else []:
            network.compile()
        yield
    finally:
        for network in networks if asked else []:
            network._compiled_call_impl = None
