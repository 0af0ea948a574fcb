"""The prior simulations that every method of a repetition sees: made once, kept in a store, read by all."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from implicit_infer import progress
from implicit_infer.compare.folder import Folder, read_json, write_json
from implicit_infer.compare.plan import Plan
from implicit_infer.compare.run import Bank
from implicit_infer.compare.watch import Watch
from implicit_infer.runs import Runs
from implicit_infer.simulate import simulate


def make(folder: Folder, plan: Plan, repeat: int, workers: int, watch: Watch) -> None:
    """Simulate what the bank of one repetition lacks of the largest budget.

    Raises:
        KeyboardInterrupt: If the simulations were stopped before they were all there.
    """
    path, n = folder.bank(repeat), max(plan.budgets)
    spent = read_json(_clock(path)) or {"n": 0, "seconds": 0.0}
    if spent["n"] >= n:
        return
    began = time.monotonic()
    blocks = -(-n // plan.simulator.block)
    with progress.listening(lambda bar: watch.banking(vars(bar))):
        runs = simulate(
            plan.simulator,
            n,
            seed=plan.seed_of(repeat, "prior"),
            workers=min(workers, blocks),
            store=path,
            progress=False,
        )
    if len(runs) < n:
        raise KeyboardInterrupt
    seconds = spent["seconds"] + time.monotonic() - began
    write_json(_clock(path), {"n": n, "seconds": seconds})
    watch.banked(repeat, n, seconds)


def shared(folder: Folder, plan: Plan, repeat: int) -> Bank:
    """The bank of one repetition, as any process may read it."""
    path = folder.bank(repeat)
    spent = read_json(_clock(path))
    return Bank(_read(path, spent["n"], plan.seed_of(repeat, "prior")), spent["seconds"])


@functools.lru_cache(maxsize=1)
def _read(path: Path, n: int, seed: int) -> Runs:
    """The first ``n`` simulations of a store that nobody writes to any more; kept for the next run of this process."""
    import zarr

    store: Any = zarr.open_group(path, mode="r")
    theta, x = (torch.from_numpy(np.ascontiguousarray(store[name][:n])) for name in ("theta", "x"))
    errors = {row: str(reason) for row, reason in enumerate(store["reason"][:n]) if reason}
    return Runs(theta, x, seed, errors)


def _clock(path: Path) -> Path:
    """The file that says how many simulations a bank holds and what they took."""
    return path.with_suffix(".json")
