r"""Sinkhorn's iterations: by products with the kernel where that is safe, by logarithms where it is not.

Scaling the rows and columns of :math:`K = e^{-C / \epsilon}` costs two products of a matrix and a vector, the same
step on logarithms an exponential of every entry, which takes twenty times as long. But K underflows where
:math:`C > 87 \, \epsilon` in float32. So K is built around potentials, :math:`K = e^{(f + g - C) / \epsilon}`, whose
rows have mean 1: what underflows there does not count. Only where the scalings have moved so far that it could (or
overflow) is a stretch of iterations thrown away and done by logarithms; where they have moved some way, they are
absorbed into f and g and K is built again (Schmitzer, 2019).

:math:`\epsilon` itself comes down from the largest cost in factors of 4. Whether to stop is asked every ten
iterations, for on a GPU each answer waits for all work before it.

References:
    | Stabilized Sparse Scaling Algorithms for Entropy Regularized Transport Problems (Schmitzer, 2019)
    | https://arxiv.org/abs/1610.06519
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

STRETCH = 10
"""Iterations between two looks at how they do."""

NARROWING = 4.0
"""What epsilon is divided by from one level to the next: exponents of the kernel stay below this times log n."""

ABSORB = 8.0
"""Logarithm of scalings beyond which a new kernel is built."""


@dataclass
class Potentials:
    """Dual potentials of a transport problem between even weights.

    Attributes:
        first: f, with shape (n,).
        second: g, with shape (m,).
        epsilon: The regularisation.
        error: How far the plan's row weights are from even, summed.
        iterations: Iterations made, on all levels of epsilon.
    """

    first: Tensor
    second: Tensor
    epsilon: float
    error: float
    iterations: int

    def value(self) -> Tensor:
        """The dual objective in float64; columns of the plan must have their weight."""
        return self.first.double().mean() + self.second.double().mean()

    def density(self, costs: Tensor) -> Tensor:
        """The plan's density with respect to even weights on all pairs, with shape (n, m)."""
        return _kernel(costs, self.first, self.second, self.epsilon)


def solve(costs: Tensor, epsilon: float, iterations: int, tolerance: float, symmetric: bool = False) -> Potentials:
    """Potentials of the entropic transport problem with even weights.

    Args:
        costs: The cost of each pair, with shape (n, m).
        epsilon: The regularisation.
        iterations: The most iterations, those at larger epsilon counted.
        tolerance: Stop where the row weights are off by less than this in all.
        symmetric: Both sides are the same samples: there is one potential, and averaged steps find it much sooner.

    Returns:
        The potentials.
    """
    f, g = costs.new_zeros(costs.shape[0]), costs.new_zeros(costs.shape[1])
    levels = _levels(float(costs.max()), epsilon)
    made, error = 0, math.inf
    for index, level in enumerate(levels):
        last = index == len(levels) - 1
        rest = max(1, iterations - made) if last else max(1, min(STRETCH, iterations // (2 * len(levels))))
        stop = tolerance if last else 0.0
        f, g, error, steps = _descend(costs, f, g, level, rest, stop, symmetric)
        made += steps
    if symmetric:
        # with one side exact the dual objective is right to second order in the error
        f = epsilon * (math.log(len(f)) - torch.logsumexp((g - costs) / epsilon, 1))
    return Potentials(f, g, epsilon, error, made)


def _levels(largest: float, epsilon: float) -> list[float]:
    """Descending values of epsilon; exponents of the first kernel reach down to -50."""
    levels, level = [], largest / 50
    while level > epsilon:
        levels.append(level)
        level /= NARROWING
    return [*levels, epsilon]


def _descend(
    costs: Tensor, f: Tensor, g: Tensor, epsilon: float, iterations: int, tolerance: float, symmetric: bool
) -> tuple[Tensor, Tensor, float, int]:
    """Iterations at one epsilon, from the given potentials: the new ones, their error, and how many were made."""
    made, error, kernel = 0, math.inf, None
    u, v = torch.ones_like(f), torch.ones_like(g)
    while made < iterations and not error <= tolerance:
        steps = min(STRETCH, iterations - made)
        if kernel is None:
            kernel = _kernel(costs, f, g, epsilon)
        new_u, new_v, error, furthest = _scale(kernel, u, v, steps, symmetric)
        made += steps
        safe = furthest < _reach(costs.dtype)
        if safe:
            u, v = new_u, new_v
        if not safe or furthest > ABSORB:
            f, g = f + epsilon * u.log(), g + epsilon * v.log()
            kernel, u, v = None, torch.ones_like(f), torch.ones_like(g)
        if not safe:
            f, g, error = _by_logarithms(costs, f, g, epsilon, steps, symmetric)
    return f + epsilon * u.log(), g + epsilon * v.log(), error, made


def _reach(dtype: torch.dtype) -> float:
    """How far scalings may move together before what underflowed in the kernel would count."""
    info = torch.finfo(dtype)
    return -math.log(info.tiny) + 2 * math.log(info.eps)


def _kernel(costs: Tensor, f: Tensor, g: Tensor, epsilon: float) -> Tensor:
    return (costs * (-1 / epsilon)).add_((f / epsilon)[:, None]).add_((g / epsilon)[None]).exp_()


def _scale(kernel: Tensor, u: Tensor, v: Tensor, steps: int, symmetric: bool) -> tuple[Tensor, Tensor, float, float]:
    """Iterations on the kernel; the error before the last of them, and how far the scalings lie from 1 (log)."""
    n, m = kernel.shape
    row = kernel @ v
    across = kernel.T
    error = torch.zeros(())
    for step in range(steps):
        if step == steps - 1:
            error = (u * row / m - 1).abs().mean()
        if symmetric:
            u = (u * n / row).sqrt()
            v = u
        else:
            u = m / row
            v = n / (across @ u)
        row = kernel @ v if step < steps - 1 else row
    spread = u.log().abs().max() + v.log().abs().max()
    told = torch.stack([error, torch.where(torch.isfinite(spread), spread, math.inf)]).tolist()
    return u, v, told[0], told[1]


def _by_logarithms(
    costs: Tensor, f: Tensor, g: Tensor, epsilon: float, steps: int, symmetric: bool
) -> tuple[Tensor, Tensor, float]:
    n, m = costs.shape
    scaled = costs * (-1 / epsilon)
    f, g = f / epsilon, g / epsilon
    error = math.inf
    for step in range(steps):
        new = math.log(m) - torch.logsumexp(scaled + g[None], 1)
        if step == steps - 1:
            error = float(((f - new).exp() - 1).abs().mean())
        if symmetric:
            f = (f + new) / 2
            g = f
        else:
            f = new
            g = math.log(n) - torch.logsumexp(scaled + f[:, None], 0)
    return epsilon * f, epsilon * g, error
