r"""Maps that change samples and leave the ratio alone: :math:`p/q` at f(x) is what it was at x, whatever the Jacobian.

Applied to each of two variables, they keep the mutual information, and make easy problems hard for whoever looks at
the coordinates. Each map knows its inverse, so that the log-ratio is exact at any point.

References:
    | Beyond Normal: On the Evaluation of Mutual Information Estimators (Czyz, Grabowski, Vogt, Beerenwinkel and Marx,
    | 2023), from where the constants are
    | https://arxiv.org/abs/2306.11078
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from implicit_estimators.problems.problem import Draw, Problem


@dataclass(frozen=True)
class Map:
    """An injective map of rows and its inverse.

    Attributes:
        forward: From shape (n, k) to shape (n, k + added), in float64.
        inverse: Back; points beside the image go to a nearby one.
        added: Columns gained.
    """

    forward: Callable[[Tensor], Tensor]
    inverse: Callable[[Tensor], Tensor]
    added: int = 0

    def then(self, other: Map) -> Map:
        """This map, and the other after it."""
        return Map(
            lambda x: other.forward(self.forward(x)),
            lambda y: self.inverse(other.inverse(y)),
            self.added + other.added,
        )


def transformed(
    problem: Problem, name: str, first: Map, second: Map, description: str, dtype: torch.dtype = torch.float32
) -> Problem:
    """A joint problem whose first variable goes through one map and whose second through another.

    Raises:
        ValueError: If ``problem`` is not one of a joint distribution against the product of its marginals.
    """
    if problem.split is None:
        raise ValueError(f"problem: expected a joint distribution against its marginals; got {problem.name!r}")
    before = problem.split
    after = before + first.added

    def mapped(draw: Draw) -> Draw:
        def apply(n: int, generator: torch.Generator) -> Tensor:
            z = draw(n, generator)
            return torch.cat([first.forward(z[:, :before]), second.forward(z[:, before:])], 1)

        return apply

    def exact(x: Tensor) -> Tensor:
        return problem.exact(torch.cat([first.inverse(x[:, :after]), second.inverse(x[:, after:])], 1))

    return replace(
        problem,
        name=name,
        dimension=problem.dimension + first.added + second.added,
        description=description,
        draw_p=mapped(problem.draw_p),
        draw_q=mapped(problem.draw_q),
        exact=exact,
        split=after,
        dtype=dtype,
    )


def bisect(function: Callable[[Tensor], Tensor], target: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Where an increasing elementwise function has the value ``target``, to the last bits of float64."""
    for _ in range(64):
        middle = 0.5 * (low + high)
        below = function(middle) < target
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return 0.5 * (low + high)


def _quantile(u: Tensor) -> Tensor:
    """The standard normal's, finite at 0 and 1."""
    return torch.special.ndtri(u.clamp(torch.finfo(torch.float64).tiny, 1 - 2.0**-53))


NORMAL_CDF = Map(torch.special.ndtr, _quantile)
"""Uniform marginals."""

HALF_CUBE = Map(lambda x: x * x.abs().sqrt(), lambda y: y.sign() * y.abs() ** (2 / 3))
""":math:`x \\sqrt{|x|}`."""

ASINH = Map(torch.asinh, torch.sinh)
"""Shorter tails."""


def wiggle(*waves: tuple[float, float, float]) -> Map:
    r""":math:`x + \sum a \sin(b x + c)` over waves (a, b, c) with :math:`\sum |a b| < 1`, so that it increases."""
    reach = sum(abs(a) for a, _, _ in waves) + 1e-9

    def forward(x: Tensor) -> Tensor:
        return x + sum((a * torch.sin(b * x + c) for a, b, c in waves), torch.zeros_like(x))

    return Map(forward, lambda y: bisect(forward, y, y - reach, y + reach))


WIGGLY_X = wiggle((0.4, 1.0, 0.0), (0.2, 1.7, 1.0), (0.03, 3.3, -2.5))
WIGGLY_Y = wiggle((-0.4, 0.4, 0.0), (0.17, 1.3, 3.5), (0.02, 4.3, -2.5))


def bimodal(share: float, first: float, second: float) -> Map:
    """From a standard normal to a mixture of N(first, 1), with ``share``, and N(second, 1), by their quantiles."""

    def gaussianise(x: Tensor) -> Tensor:
        below, above = (
            share * torch.special.ndtr(sign * (x - first)) + (1 - share) * torch.special.ndtr(sign * (x - second))
            for sign in (1.0, -1.0)
        )
        return torch.where(below < above, _quantile(below), -_quantile(above))  # the smaller tail keeps its digits

    low, high = min(first, second), max(first, second)
    return Map(lambda z: bisect(gaussianise, z, (z + low).clamp(max=low), (z + high).clamp(min=high)), gaussianise)


BIMODAL_X, BIMODAL_Y = bimodal(0.3, 0.0, 5.0), bimodal(0.5, -1.0, 3.0)


def spiral(i: int, j: int, speed: float) -> Map:
    r"""Rotates columns i and j by ``speed`` :math:`\times \|x\|^2`, which leaves the length as it was."""

    def rotate(x: Tensor, sign: float) -> Tensor:
        angle = sign * speed * (x**2).sum(1)
        turned = x.clone()
        turned[:, i] = angle.cos() * x[:, i] + angle.sin() * x[:, j]
        turned[:, j] = angle.cos() * x[:, j] - angle.sin() * x[:, i]
        return turned

    return Map(lambda x: rotate(x, 1.0), lambda y: rotate(y, -1.0))


def _roll(u: Tensor) -> Tensor:
    t = 1.5 * math.pi * (1 + 2 * u)
    return torch.cat([t * t.cos(), t * t.sin()], 1) / 21


def _unroll(x: Tensor) -> Tensor:
    t = 21 * torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return ((t / (1.5 * math.pi) - 1) / 2).clamp(0.0, 1.0)


SWISS_ROLL = Map(_roll, _unroll, added=1)
"""From the unit interval to a curve in the plane, where the distance from the origin tells the place."""
