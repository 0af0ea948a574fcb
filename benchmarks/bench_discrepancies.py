"""Exact unbiased MMD beside what else computes it: KeOps, scikit-learn, torch in three forms; in turns, in one run.

``python benchmarks/bench_discrepancies.py`` prints a table for each number of samples: CPU seconds of the value, and of
the value with its gradient in one sample set, on one thread; the median over rounds of the ratio to ours in the same
round, which is what carries over to another machine; and the peak memory beyond what the process had, each in a
process of its own. Ten columns, five bandwidths. Compiling (numba's once and kept, KeOps' with g++ once and kept) is
not counted, but said.
"""

from __future__ import annotations

import argparse
import functools
import gc
import importlib
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_estimators import MMD
from implicit_estimators.kernels import Gaussian
from implicit_estimators.kernels.pairs import _torch_sums

DIM = 10
BANDWIDTHS = tuple(width * DIM**0.5 / 2 for width in (0.5, 1.0, 2.0, 4.0, 8.0))
GAMMAS = [0.5 / width**2 for width in BANDWIDTHS]
Work = Callable[[Tensor, Tensor], Tensor]


def samples(n: int) -> tuple[Tensor, Tensor]:
    """Two normal samples that differ a little in mean and scale."""
    draw = torch.Generator().manual_seed(0)
    return torch.randn(n, DIM, generator=draw), 1.1 * torch.randn(n, DIM, generator=draw) + 0.1


def unbiased(total: Callable[[Tensor, Tensor], Any], x: Tensor, y: Tensor) -> Any:
    """From a function that sums kernels over all pairs, each sample's own counting five."""
    n, m = len(x), len(y)
    within = (total(x, x) - 5 * n) / (n * (n - 1)) + (total(y, y) - 5 * m) / (m * (m - 1))
    return (within - 2 * total(x, y) / (n * m)) / 5


def ours(x: Tensor, y: Tensor) -> Tensor:
    """The package's, compiled."""
    return MMD(BANDWIDTHS).squared(x, y)


def our_blocks(x: Tensor, y: Tensor) -> Tensor:
    """The package's blocks in torch, which serve other devices: one exponential, closed gradient."""

    class Sum(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, y: Tensor | None) -> Tensor:
            total, gradient, _ = _torch_sums(x, y, Gaussian(BANDWIDTHS), 512, ctx.needs_input_grad[0], False)
            ctx.save_for_backward(gradient)
            return total

        @staticmethod
        def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
            return ctx.saved_tensors[0] * upstream[0].float(), None

    n, m = len(x), len(y)
    within = Sum.apply(x, None) / (n * (n - 1)) + Sum.apply(y, None) / (m * (m - 1))
    return within - 2 * Sum.apply(x, y) / (n * m)


def broadcast(x: Tensor, y: Tensor) -> Tensor:
    """What one writes first: all differences at once."""
    return unbiased(lambda a, b: kernels((a[:, None] - b[None]).square().sum(-1)), x, y)


def gemm(x: Tensor, y: Tensor) -> Tensor:
    """Distances by a matrix product, all at once."""
    return unbiased(lambda a, b: kernels(distances(a, b)), x, y)


def chunked(x: Tensor, y: Tensor) -> Tensor:
    """The same in chunks of rows, recomputed for the gradient (checkpointing), so that memory is bounded."""
    from torch.utils.checkpoint import checkpoint

    def total(a: Tensor, b: Tensor) -> Any:
        parts = [
            checkpoint(lambda rows: kernels(distances(rows, b)), rows, use_reentrant=False, preserve_rng_state=False)
            for rows in a.split(512)
        ]
        return torch.stack(parts).sum()

    return unbiased(total, x, y)


def kernels(squared: Tensor) -> Tensor:
    """The sum of five kernels over all pairs."""
    return torch.stack([torch.exp(squared * -gamma).sum(dtype=torch.float64) for gamma in GAMMAS]).sum()


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared, by a matrix product."""
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp(min=0)


def sklearn(x: Tensor, y: Tensor) -> Tensor:
    """``rbf_kernel`` five times."""
    from sklearn.metrics.pairwise import rbf_kernel

    def total(a: Tensor, b: Tensor) -> float:
        return sum(float(rbf_kernel(a.numpy(), b.numpy(), gamma).sum(dtype=np.float64)) for gamma in GAMMAS)

    return torch.tensor(unbiased(total, x, y))


def keops(x: Tensor, y: Tensor) -> Tensor:
    """KeOps' symbolic matrices."""
    symbolic = importlib.import_module("pykeops.torch").LazyTensor

    def total(a: Tensor, b: Tensor) -> Any:
        squared = ((symbolic(a[:, None]) - symbolic(b[None])) ** 2).sum(-1)
        return (
            functools.reduce(lambda one, other: one + other, [(-gamma * squared).exp() for gamma in GAMMAS])
            .sum(1)
            .sum(dtype=torch.float64)
        )

    return unbiased(total, x, y)


@dataclass(frozen=True)
class Peer:
    """A way to compute the same number.

    Attributes:
        label: What the table says.
        work: The value of two samples.
        needs: A module that must be installed.
        slopes: Whether it has a gradient.
        largest: Most samples for the value, and with a gradient, before memory (16 GB) runs out.
    """

    label: str
    work: Work
    needs: str = "torch"
    slopes: bool = True
    largest: tuple[int, int] = (10**6, 10**6)

    @property
    def installed(self) -> bool:
        """Whether the module can be imported."""
        try:
            importlib.import_module(self.needs)
        except Exception:
            return False
        return True


PEERS = [
    Peer("implicit-infer", ours),
    Peer("implicit-infer, torch blocks", our_blocks),
    Peer("KeOps", keops, "pykeops.torch"),
    Peer("scikit-learn rbf_kernel x5", sklearn, "sklearn", slopes=False),
    Peer("torch, chunked", chunked),
    Peer("torch, matrix product", gemm, largest=(20_000, 10_000)),
    Peer("torch, broadcast", broadcast, largest=(5_000, 2_000)),
]


def once(work: Work, n: int, gradient: bool) -> tuple[float, float]:
    """CPU seconds, and the value or the norm of the gradient."""
    x, y = samples(n)
    x.requires_grad_(gradient)
    gc.collect()
    begun = time.process_time()
    value = work(x, y)
    if gradient:
        (value,) = torch.autograd.grad(value, x)
        value = value.norm()
    return time.process_time() - begun, float(value.detach())


def peak(index: int, n: int, gradient: bool) -> float:
    """Megabytes at the highest, beyond the process after small work, measured in a process of its own."""
    command = [sys.executable, __file__, "--peak", str(index), str(n), str(int(gradient))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return float(done.stdout.split()[-1]) if done.returncode == 0 else float("nan")


def print_peak(index: int, n: int, gradient: bool) -> None:
    """The child of :func:`peak`."""
    once(PEERS[index].work, 64, bool(gradient))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    once(PEERS[index].work, n, bool(gradient))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print((after - before) / (2**20 if sys.platform == "darwin" else 2**10))


def table(n: int, gradient: bool, rounds: int) -> None:
    """Print the rows for one size."""
    what = "value and gradient" if gradient else "value"
    print(f"\nMMD^2, {what}, n = {n:,}, d = {DIM}, {len(BANDWIDTHS)} bandwidths, float32, {rounds} rounds")
    print(f"{'':32}{'CPU s':>10}{'x ours':>9}{'peak MB':>10}  result")
    said: dict[int, str] = {}
    for index, peer in enumerate(PEERS):
        if not peer.installed:
            said[index] = "not installed"
        elif gradient and not peer.slopes:
            said[index] = "has no gradient"
        elif n > peer.largest[gradient]:
            said[index] = "not run: memory"
    seconds: dict[int, list[float]] = {index: [] for index in range(len(PEERS)) if index not in said}
    results: dict[int, float] = {}
    for index in list(seconds):
        try:
            once(PEERS[index].work, 1000, gradient)  # whatever is compiled, loaded or allocated once
        except Exception as error:
            said[index] = f"cannot run: {type(error).__name__}: {str(error).splitlines()[0][:60]}"
            del seconds[index]
    for _ in range(rounds):
        for index, times in seconds.items():
            spent, results[index] = once(PEERS[index].work, n, gradient)
            times.append(spent)
    for index, peer in enumerate(PEERS):
        if index in said:
            print(f"{peer.label:32}  {said[index]}")
            continue
        ratio = statistics.median(theirs / mine for theirs, mine in zip(seconds[index], seconds[0], strict=True))
        memory = peak(index, n, gradient)
        print(
            f"{peer.label:32}{statistics.median(seconds[index]):10.4f}{ratio:9.1f}{memory:10.0f}  {results[index]:.7g}",
            flush=True,
        )


def main() -> None:
    """Parse the arguments and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak", type=int, nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":  # read when libraries are loaded, and they are by now
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode)
    torch.set_num_threads(1)
    if arguments.peak:
        print_peak(*arguments.peak)
        return
    for n in arguments.sizes:
        for gradient in (False, True):
            table(n, gradient, arguments.rounds)


if __name__ == "__main__":
    main()
