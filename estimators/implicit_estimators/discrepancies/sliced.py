r"""Sliced Wasserstein distance: transport between projections on lines, where it is a matter of sorting.

.. math:: SW_p^p(P, Q) = \mathbb{E}_{w \sim U(S^{d-1})} \left[ W_p^p(w \cdot P, w \cdot Q) \right],
    \quad W_p^p = \int_0^1 |F^{-1}(t) - G^{-1}(t)|^p \, dt

It costs :math:`n \log n` for each direction, and its error on samples does not grow with the dimension, as that of W
does. What it sees does shrink: a shift by :math:`\delta` has :math:`SW_2^2 = |\delta|^2 / d`, for a random direction
is mostly across it. The max-sliced distance takes the worst direction in place of the mean.

References:
    | Sliced and Radon Wasserstein Barycenters of Measures (Bonneel et al., 2015)
    | https://doi.org/10.1007/s10851-014-0506-3
    | Max-Sliced Wasserstein Distance and its use for GANs (Deshpande et al., 2019)
    | https://arxiv.org/abs/1904.05877
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from implicit_estimators.discrepancies.sorting import sort_rows, sort_rows_with_order
from implicit_estimators.inputs import as_pair
from implicit_estimators.seeds import Seed, generator


@dataclass(frozen=True)
class SlicedWasserstein:
    r"""Sliced Wasserstein distance of order p, over random directions or at the worst one.

    Args:
        projections: Random directions; in one dimension there is only one, and the distance is exact.
        p: Order of the distance, 1 or 2.
        worst: Take the maximum over directions: the best of the random ones, improved by gradient ascent. It is a lower
            bound of the maximum, for ascent can stop at a lesser one.
        ascent: Steps of that ascent.
        seed: Seed of the directions. An int gives the same ones at each call, so that values can be compared.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [2.0]])
        >>> SlicedWasserstein().distance(x, x + 3)
        tensor(3.)
    """

    projections: int = 50
    p: int = 2
    worst: bool = False
    ascent: int = 20
    seed: Seed = 0

    name: ClassVar[str] = "sliced-wasserstein"

    def __post_init__(self) -> None:
        if self.projections < 1:
            raise ValueError(f"projections: expected a positive int; got {self.projections}")
        if self.p not in (1, 2):
            raise ValueError(f"p: expected 1 or 2; got {self.p}")
        if self.ascent < 0:
            raise ValueError(f"ascent: expected an int of 0 or more; got {self.ascent}")

    def distance(self, x: Any, y: Any) -> Tensor:
        """The distance, in the units of the samples; its gradient is infinite where it is 0.

        Args:
            x: Samples with shape (n, d) or (n,): tensor, array or frame.
            y: Samples with shape (m, d) or (m,).

        Returns:
            A scalar with the dtype of ``x``, once differentiable in both.

        Raises:
            TypeError: If samples are not numeric.
            ValueError: If they are refused (see ``inputs.as_pair``).
        """
        return self.power(x, y) ** (1 / self.p)

    def power(self, x: Any, y: Any) -> Tensor:
        """The p-th power of the distance, which can be descended to 0.

        Args:
            x: See :meth:`distance`.
            y: See :meth:`distance`.

        Returns:
            A scalar with the dtype of ``x``, once differentiable in both.

        Raises:
            TypeError: If samples are not numeric.
            ValueError: If they are refused (see ``inputs.as_pair``).
        """
        x, y = as_pair(x, y, ("x", "y"))
        y = y.to(x)
        lines = directions(x.shape[1], self.projections, generator(self.seed, x.device), x)
        if self.worst:
            lines = worst_direction(x.detach(), y.detach(), lines, self.p, self.ascent)
        return sliced_power(x, y, lines, self.p)


def directions(width: int, count: int, random: torch.Generator, like: Tensor) -> Tensor:
    """Directions drawn uniformly from the sphere.

    Args:
        width: Columns of the samples, d.
        count: How many.
        random: Source of the draws.
        like: A tensor with the dtype and device that are wanted.

    Returns:
        Unit vectors with shape (count, d); for d = 1 the only one there is, with shape (1, 1).
    """
    if width == 1:
        return torch.ones(1, 1, dtype=like.dtype, device=like.device)
    drawn = torch.randn(count, width, generator=random, dtype=like.dtype, device=like.device)
    return torch.nn.functional.normalize(drawn, dim=1)


def sliced_power(x: Tensor, y: Tensor, lines: Tensor, p: int = 2) -> Tensor:
    r"""Mean of :math:`W_p^p` over the given directions.

    Args:
        x: Finite samples with shape (n, d).
        y: Finite samples with shape (m, d).
        lines: Directions with shape (k, d).
        p: Order, 1 or 2.

    Returns:
        A scalar, once differentiable in x, y and the directions.
    """
    return projected_power(x, y, lines, p).mean()


def projected_power(x: Tensor, y: Tensor, lines: Tensor, p: int = 2) -> Tensor:
    r""":math:`W_p^p` along each of the given directions, with shape (k,) (see :func:`sliced_power`)."""
    centre = y.detach().mean(0)  # far from the origin, projections would lose their digits
    return _LineTransport.apply(lines @ (x - centre).T, lines @ (y - centre).T, p)


def worst_direction(x: Tensor, y: Tensor, lines: Tensor, p: int, steps: int) -> Tensor:
    """The direction with the largest distance that ascent from the best of ``lines`` finds.

    Steps turn the direction by an angle that is halved whenever it leads downhill.

    Args:
        x: Finite samples with shape (n, d).
        y: Finite samples with shape (m, d).
        lines: Directions to start from, with shape (k, d).
        p: Order, 1 or 2.
        steps: Evaluations.

    Returns:
        A unit vector with shape (1, d), without gradient.
    """
    values = projected_power(x, y, lines, p)
    best, line = values.max(0).values, lines[values.argmax()][None]
    candidate, angle = line, torch.ones_like(best)
    for _ in range(steps if x.shape[1] > 1 else 0):
        with torch.enable_grad():
            leaf = line.detach().requires_grad_()
            (slope,) = torch.autograd.grad(projected_power(x, y, leaf, p).sum(), leaf)
        across = torch.nn.functional.normalize(slope - (slope * line).sum() * line, dim=1)
        candidate = torch.nn.functional.normalize(line + angle * across, dim=1)
        value = projected_power(x, y, candidate, p)[0]
        better = value > best
        best, line = torch.where(better, value, best), torch.where(better, candidate, line)
        angle = torch.where(better, angle, angle / 2)
    return line.detach()


class _LineTransport(torch.autograd.Function):
    """Transport between rows of numbers: sorted in the forward pass, where the gradients are made as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, p: int) -> Tensor:
        """W_p^p of each pair of rows, with shapes (k, n) and (k, m)."""
        n, m = x.shape[1], y.shape[1]
        (sorted_x, order_x), (sorted_y, order_y) = (
            sort_rows_with_order(rows) if wanted else (sort_rows(rows), None)
            for rows, wanted in zip((x, y), ctx.needs_input_grad[:2], strict=True)
        )
        pieces = None if n == m else _common_quantiles(n, m, x.device)
        if pieces is None:
            gap = sorted_x - sorted_y
            weight: float | Tensor = 1 / n
        else:
            at_x, at_y, shares = pieces
            gap = sorted_x[:, at_x] - sorted_y[:, at_y]
            weight = shares.to(x.dtype)
        value = ((gap.square() if p == 2 else gap.abs()) * weight).sum(1)
        gradients: list[Tensor | None] = [None, None]
        slope = (gap.mul_(2) if p == 2 else gap.sign_()).mul_(weight)
        for side, (order, count) in enumerate(((order_x, n), (order_y, m))):
            if order is None:
                continue
            own = slope
            if pieces is not None:
                own = slope.new_zeros(len(x), count).index_add_(1, pieces[side], slope)
            gradients[side] = torch.empty_like(own).scatter_(1, order, own)
        ctx.save_for_backward(*gradients)
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """The stored gradients, scaled; y is pulled the other way."""
        x, y = ctx.saved_tensors
        scale = upstream[:, None]
        return None if x is None else x * scale, None if y is None else y * -scale, None


def _common_quantiles(n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Where n and m equal steps on [0, 1] are both constant: the step of each, and the length; exact in integers."""
    ends = torch.cat([torch.arange(1, n + 1, device=device) * m, torch.arange(1, m + 1, device=device) * n]).unique()
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    return starts // m, starts // n, (ends - starts).double() / (n * m)
