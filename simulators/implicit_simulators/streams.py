"""Seeds: every block of simulations owns one random stream, so results do not depend on workers or batches.

A *stream* is made from (seed, block, role) by ``numpy.random.SeedSequence``, whose hashing keeps neighbouring seeds
and blocks independent (O'Neill 2015; the NumPy documentation, "Parallel random number generation"). Block *i* of a run
therefore draws the same numbers with one worker or sixteen, in one run or resumed.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

Seed = int | torch.Generator | None
"""What every function that draws takes: an int repeats a run, a generator is drawn from, None is fresh entropy."""

ROLES = ("prior", "simulate", "observe", "train", "sample", "split")
"""What a stream is used for; each role has its own numbers even at the same seed and block."""


def resolve_seed(seed: Seed) -> int:
    """Turn what a user may pass as ``seed`` into one non-negative integer.

    Args:
        seed: An int, a ``torch.Generator`` (one draw is taken from it) or None (fresh operating-system entropy). The
            global generators of torch and NumPy are never read or written.

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


_GLOBAL_GENERATOR = threading.RLock()


@dataclass(frozen=True)
class Stream:
    """The random numbers of one block: the same key gives torch, NumPy and counter-based generators.

    Args:
        key: A 64-bit integer, unique to (seed, block, role).
    """

    key: int

    @classmethod
    def of(cls, seed: Seed, block: int = 0, role: str = "simulate") -> Stream:
        """The stream of ``block`` under ``seed`` for ``role``.

        Raises:
            ValueError: If ``role`` is not one of ``ROLES`` or ``block`` is negative.
        """
        if role not in ROLES:
            raise ValueError(f"role: expected one of {', '.join(ROLES)}; got {role!r}")
        if block < 0:
            raise ValueError(f"block: expected a non-negative int; got {block}")
        sequence = np.random.SeedSequence(resolve_seed(seed), spawn_key=(ROLES.index(role), block))
        return cls(int(sequence.generate_state(1, np.uint64)[0]))

    def torch(self, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh ``torch.Generator`` on ``device``, at the start of this stream."""
        generator = torch.Generator(device=device)
        return generator.manual_seed(self.key & (2**63 - 1))

    def numpy(self) -> np.random.Generator:
        """A fresh NumPy generator at the start of this stream."""
        return np.random.Generator(np.random.Philox(key=self.key))

    @contextlib.contextmanager
    def forked(self) -> Iterator[None]:
        """Run code that reads the global generators of torch (``torch.distributions``, modules' initialisation).

        Inside, torch's global CPU generator is seeded from this stream; outside, it is as it was before. The
        generators of accelerators are left alone: draw on the CPU and move. Threads take turns.
        """
        with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.key & (2**63 - 1))
            yield
