"""Run a simulator many times: blocks, workers, progress, and failures counted instead of fatal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_infer.progress import track
from implicit_simulators import Seed, Simulator, resolve_seed


@dataclass(frozen=True)
class Runs:
    r"""Simulations from the prior, in order.

    Attributes:
        theta: Parameters, with shape (n, d).
        x: Simulations, with shape (n, \*event_shape); rows that failed hold NaN or infinity.
        seed: The seed they were made with.
    """

    theta: Tensor
    x: Tensor
    seed: int

    def __len__(self) -> int:
        return len(self.theta)

    @property
    def failed(self) -> Tensor:
        """Which rows are not finite, with shape (n,) and dtype bool."""
        return ~torch.isfinite(self.x.reshape(len(self.x), -1)).all(1)

    def first(self, n: int) -> Runs:
        """The first ``n`` rows.

        Raises:
            ValueError: If there are fewer.
        """
        if n > len(self):
            raise ValueError(f"n: the bank holds {len(self)} simulations; {n} were asked for")
        return Runs(self.theta[:n], self.x[:n], self.seed)

    def valid(self) -> tuple[Tensor, Tensor]:
        """Theta and x of the rows that did not fail."""
        keep = ~self.failed
        return self.theta[keep], self.x[keep]


def simulate(simulator: Simulator, n: int, *, seed: Seed = None, workers: int = 1, progress: bool = True) -> Runs:
    """Draw ``n`` parameters from the prior and simulate each."""
    seed = resolve_seed(seed)
    thetas, xs = [], []
    with track(f"simulating {simulator.name}", total=n, show=progress) as bar:
        for block, start in enumerate(range(0, n, simulator.block)):
            theta = simulator.sample_prior(min(simulator.block, n - start), seed, block)
            thetas.append(theta)
            xs.append(simulator.simulate_block(theta, seed, block))
            bar.update(len(theta))
    return Runs(torch.cat(thetas), torch.cat(xs), seed)
