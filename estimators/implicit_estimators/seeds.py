"""Seeds: what every function that draws takes, turned into generators without touching the global random state."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator

import numpy as np
import torch

Seed = int | torch.Generator | None
"""An int repeats a run, a generator is drawn from, None is fresh entropy."""

ROLES = ("initialise", "split", "batches", "draws", "validate", "subsample")
"""What random numbers are used for; each role has its own stream even at the same seed."""


def resolve_seed(seed: Seed) -> int:
    """Turn ``seed`` into one non-negative integer, reading neither torch's nor NumPy's global generator.

    Args:
        seed: An int, a ``torch.Generator`` (one draw is taken from it) or None (operating-system entropy).

    Returns:
        An int in [0, 2**63).

    Raises:
        TypeError: If ``seed`` is none of these.
        ValueError: If an int seed is negative.
    """
    if seed is None:
        return secrets.randbits(63)
    if isinstance(seed, torch.Generator):
        return int(torch.randint(2**63 - 1, (), generator=seed, device=seed.device))
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"seed: expected an int, a torch.Generator or None; got {type(seed).__name__}")
    if seed < 0:
        raise ValueError(f"seed: expected a non-negative int; got {seed}")
    return int(seed)


def stream(seed: int, role: str, device: torch.device | str = "cpu", *key: int) -> torch.Generator:
    """A generator for one role under ``seed``; roles are independent of one another (NumPy's ``SeedSequence``).

    So are the streams of one role with different ``key``: the number of a process, of a step.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(ROLES.index(role), *key))
    start = int(sequence.generate_state(1, np.uint64)[0]) & (2**63 - 1)
    return torch.Generator(device=device).manual_seed(start)


def generator(seed: Seed, device: torch.device | str) -> torch.Generator:
    """A generator on ``device``: the one that was passed if it lives there, else a new one seeded from ``seed``."""
    device = torch.device(device)
    if isinstance(seed, torch.Generator) and seed.device.type == device.type:
        return seed
    return torch.Generator(device=device).manual_seed(resolve_seed(seed))


@contextlib.contextmanager
def forked(seed: int, role: str = "initialise") -> Iterator[None]:
    """Run code that reads torch's global CPU generator (modules' initialisation) under ``seed``, and put it back."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream(seed, role).initial_seed())
        yield
