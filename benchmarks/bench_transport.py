"""Sliced Wasserstein, Sinkhorn and energy distance beside POT, geomloss and torch; in turns, in one run.

``python benchmarks/bench_transport.py`` prints a table for each task: CPU time on one thread (median over rounds), the
median over rounds of the ratio to ours in the same round, which is what carries over to another machine, and the
result, so that a reader sees that the same number is computed. What is not installed is said and left out; POT comes
with ``pip install pot``, geomloss with ``pip install geomloss``.

Ten columns. Sinkhorn has the cost |x - y|^2, epsilon 1 and 100 iterations without a stop for all, but for geomloss,
whose number of iterations follows from its own schedule (blur^2 = 1/2 and half of its cost: the same problem).
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # CPU time means little when threads spin

import numpy as np
import torch
from torch import Tensor

from implicit_estimators.discrepancies import EnergyDistance, SinkhornDivergence, SlicedWasserstein
from implicit_estimators.discrepancies.sliced import directions

DIM = 10
PROJECTIONS = 50
Work = Callable[[Tensor, Tensor], Any]
SINKHORN = SinkhornDivergence(1.0, iterations=100, tolerance=0.0)


@dataclass(frozen=True)
class Peer:
    """A way to compute the number of a task.

    Attributes:
        label: What the table says.
        work: The value of two samples.
        needs: A module that must be installed.
        double: Whether it is given float64, for peers that compute in it in any case.
        slopes: Whether it has a gradient.
        largest: Most samples that it is given.
    """

    label: str
    work: Work
    needs: str = "torch"
    double: bool = False
    slopes: bool = True
    largest: int = 10**6

    @property
    def installed(self) -> bool:
        """Whether the module can be imported."""
        try:
            importlib.import_module(self.needs)
        except Exception:
            return False
        return True


def lines(x: Tensor) -> Tensor:
    """The directions that all are given."""
    drawn = directions(DIM, PROJECTIONS, torch.Generator().manual_seed(0), x.float())
    return drawn.to(x)


def sliced_numpy(x: Tensor, y: Tensor) -> Any:
    """POT on arrays."""
    ot = importlib.import_module("ot")

    return ot.sliced_wasserstein_distance(x.numpy(), y.numpy(), projections=lines(x).T.numpy())


def sliced_torch(x: Tensor, y: Tensor) -> Tensor:
    """POT on tensors."""
    ot = importlib.import_module("ot")

    return ot.sliced_wasserstein_distance(x, y, projections=lines(x).T)


def sliced_sort(x: Tensor, y: Tensor) -> Tensor:
    """What one writes first."""
    along = lines(x)
    gap = (along @ x.T).sort(dim=1).values - (along @ y.T).sort(dim=1).values
    return gap.square().mean().sqrt()


def sinkhorn_pot(method: str, numpy: bool) -> Work:
    """The plan's cost by POT."""

    def work(x: Tensor, y: Tensor) -> Any:
        ot = importlib.import_module("ot")

        first, second = (x.numpy(), y.numpy()) if numpy else (x, y)
        weights = [
            np.full(len(s), 1 / len(s), first.dtype) if numpy else s.new_full((len(s),), 1 / len(s)) for s in (x, y)
        ]
        costs = ot.dist(first, second)
        plan = ot.sinkhorn(*weights, costs, 1.0, method=method, numItermax=100, stopThr=0.0)
        return (plan * costs).sum()

    return work


def divergence_pot(x: Tensor, y: Tensor) -> Any:
    """POT's divergence, which is that of the plans' costs without their entropy."""
    ot = importlib.import_module("ot")

    return ot.bregman.empirical_sinkhorn_divergence(x.numpy(), y.numpy(), 1.0, numIterMax=100, stopThr=0.0)


def divergence_geomloss(scaling: float) -> Work:
    """The divergence of geomloss, nearer to convergence for a larger scaling; doubled: its cost is |x - y|^2 / 2."""

    def work(x: Tensor, y: Tensor) -> Tensor:
        geomloss = importlib.import_module("geomloss")

        return 2 * geomloss.SamplesLoss("sinkhorn", p=2, blur=0.5**0.5, scaling=scaling, backend="tensorized")(x, y)

    return work


def exact_pot(x: Tensor, y: Tensor) -> Any:
    """The exact transport cost, by POT's network simplex."""
    ot = importlib.import_module("ot")

    return ot.emd2([], [], ot.dist(x.numpy(), y.numpy()))


def energy_cdist(x: Tensor, y: Tensor) -> Tensor:
    """What one writes first."""
    n, m = len(x), len(y)
    within = torch.cdist(x, x).sum() / (n * (n - 1)) + torch.cdist(y, y).sum() / (m * (m - 1))
    return 2 * torch.cdist(x, y).mean() - within


def energy_geomloss(x: Tensor, y: Tensor) -> Tensor:
    """The kernel norm of geomloss for -|x - y|, half of the biased distance; doubled."""
    geomloss = importlib.import_module("geomloss")

    return 2 * geomloss.SamplesLoss("energy", backend="tensorized")(x, y)


SLICED = SlicedWasserstein(PROJECTIONS)
TASKS: dict[str, tuple[str, tuple[int, ...], list[Peer]]] = {
    "sliced": (
        f"Sliced W_2, {PROJECTIONS} projections",
        (1_000, 10_000),
        [
            Peer("implicit-infer", SLICED.distance),
            Peer("POT, numpy float64", sliced_numpy, "ot", double=True, slopes=False),
            Peer("POT, numpy float32", sliced_numpy, "ot", slopes=False),
            Peer("POT, torch", sliced_torch, "ot"),
            Peer("torch.sort", sliced_sort),
        ],
    ),
    "transport": (
        "Entropic transport, epsilon 1, 100 iterations: the plan's cost",
        (1_000, 2_000),
        [
            Peer("implicit-infer", lambda x, y: SINKHORN.transport(x, y).cost, slopes=False),
            Peer("implicit-infer, float64", lambda x, y: SINKHORN.transport(x, y).cost, double=True, slopes=False),
            Peer("POT sinkhorn, numpy float64", sinkhorn_pot("sinkhorn", True), "ot", double=True, slopes=False),
            Peer("POT sinkhorn, numpy float32", sinkhorn_pot("sinkhorn", True), "ot", slopes=False),
            Peer("POT sinkhorn, torch float32", sinkhorn_pot("sinkhorn", False), "ot", slopes=False),
            Peer("POT sinkhorn_log, numpy float64", sinkhorn_pot("sinkhorn_log", True), "ot", True, False, 1_000),
            Peer("POT emd2 (exact)", exact_pot, "ot", double=True, slopes=False),
        ],
    ),
    "sinkhorn": (
        "Sinkhorn divergence, epsilon 1",
        (1_000,),
        [
            Peer("implicit-infer, 100 iterations", lambda x, y: SINKHORN.unchecked(x, y)[0]),
            Peer("implicit-infer, to 1e-3", SinkhornDivergence(1.0, tolerance=1e-3).divergence),
            Peer("POT empirical divergence", divergence_pot, "ot", double=True, slopes=False),
            Peer("geomloss, scaling 0.5", divergence_geomloss(0.5), "geomloss"),
            Peer("geomloss, scaling 0.9", divergence_geomloss(0.9), "geomloss"),
        ],
    ),
    "energy": (
        "Energy distance",
        (1_000, 4_000),
        [
            Peer("implicit-infer", EnergyDistance().squared),
            Peer("torch.cdist", energy_cdist),
            Peer("geomloss", energy_geomloss, "geomloss", largest=1_000),
        ],
    ),
}


def samples(n: int, double: bool) -> tuple[Tensor, Tensor]:
    """Two normal samples, half a standard deviation apart in each column."""
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(n, DIM, generator=draw), torch.randn(n, DIM, generator=draw) + 0.5
    return (x.double(), y.double()) if double else (x, y)


def once(peer: Peer, n: int, gradient: bool) -> tuple[float, float]:
    """CPU seconds, and the value or the norm of the gradient in both samples."""
    x, y = samples(n, peer.double)
    if gradient:
        x.requires_grad_()
        y.requires_grad_()
    gc.collect()
    begun = time.process_time()
    value = peer.work(x, y)
    if gradient:
        value = torch.cat(torch.autograd.grad(value, (x, y))).norm()
    return time.process_time() - begun, float(value.detach() if isinstance(value, Tensor) else value)


def table(task: str, n: int, gradient: bool, rounds: int) -> None:
    """Print the rows of a task for one size."""
    title, _, peers = TASKS[task]
    print(f"\n{title}: {'value and gradient' if gradient else 'value'}, n = {n:,}, d = {DIM}, {rounds} rounds")
    print(f"{'':34}{'CPU ms':>10}{'x ours':>9}  result")
    shown = [(index, peer) for index, peer in enumerate(peers) if (peer.slopes or not gradient) and n <= peer.largest]
    running = [(index, peer) for index, peer in shown if peer.installed]
    seconds: dict[int, list[float]] = {index: [] for index, _ in running}
    results: dict[int, float] = {}
    for index, peer in running:
        results[index] = once(peer, n, gradient)[1]  # imports and first calls are not counted
        torch.set_num_threads(1)  # importing a peer may change it
    for _ in range(rounds):
        for index, peer in running:
            seconds[index].append(once(peer, n, gradient)[0])
    for index, peer in shown:
        if index not in seconds:
            print(f"{peer.label:34}  not installed")
            continue
        ratio = statistics.median(s / ours for s, ours in zip(seconds[index], seconds[0], strict=True))
        print(f"{peer.label:34}{1e3 * statistics.median(seconds[index]):10.1f}{ratio:9.2f}  {results[index]:.6g}")


def main() -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=list(TASKS), help=f"of {', '.join(TASKS)}")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # POT says that 100 iterations do not converge, and so do we
    warnings.simplefilter("ignore", UserWarning)
    for task in arguments.tasks:
        if task not in TASKS:
            parser.error(f"tasks: expected some of {', '.join(TASKS)}; got {task!r}")
        _, sizes, peers = TASKS[task]
        for n in sizes:
            for gradient in (False, True):
                if peers[0].slopes or not gradient:
                    table(task, n, gradient, arguments.rounds)


if __name__ == "__main__":
    main()
