r"""Inputs of order one: shift and scale each column, by moments, by quantiles and a soft squash, or by ranks.

A density ratio does not change under an invertible map of the samples, so what is learned of the standardised samples
is true of the samples, if p and q are mapped alike: fit one standardiser on both together.

Quantiles and a squash are for heavy tails, and for a narrow peak in a wide bulk, which arsinh shows on a logarithmic
scale. Ranks make any column normal, skewed and clustered ones too; a peak they leave so steep an edge that a network
cannot follow.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

FARTHEST = 1e8
"""Standardised values beyond this are cut off, so that no finite input can overflow a network in float32."""

KNOTS = 512
"""Most knots of a column's map to ranks."""

ROWS = 2**16
"""Most rows that are sorted for them."""


class Standardiser(nn.Module):
    r""":math:`z = (x - m) / s` for each column, or :math:`\operatorname{arsinh}` of it.

    The squash is the identity near 0 and a logarithm far out, so that a sample of 10^6 quartile widths becomes 14 and
    does not drown the rest; it is invertible, and applied only by :meth:`fit` with ``robust=True``.

    Args:
        location: m, with shape (d,).
        scale: s, positive, with shape (d,).
        squash: Whether arsinh follows.

    Raises:
        ValueError: If a scale is not positive and finite, or the shapes differ.
    """

    location: Tensor
    scale: Tensor

    def __init__(self, location: Tensor, scale: Tensor, squash: bool = False) -> None:
        super().__init__()
        if location.shape != scale.shape or location.ndim != 1:
            raise ValueError(
                f"location, scale: expected one shape (d,); got {tuple(location.shape)}, {tuple(scale.shape)}"
            )
        if not ((scale > 0) & torch.isfinite(scale)).all():
            raise ValueError("scale: expected positive, finite values")
        self.register_buffer("location", location.detach().clone())
        self.register_buffer("scale", scale.detach().clone())
        self.squash = squash

    @classmethod
    def fit(cls, *samples: Tensor, robust: bool = False) -> Standardiser:
        """Fit to the rows of all ``samples`` together, each with shape (n, d), in their dtype and on their device.

        Columns without spread (constant, or varying in the last digits only) are shifted, and scaled only so far that
        rounding stays below 1.

        Args:
            samples: Sets of samples of the same width.
            robust: Use medians, quartile widths and the squash.

        Returns:
            The standardiser.
        """
        rows = torch.cat([sample.detach() for sample in samples])
        exact = rows.double()
        location, scale = exact.mean(0), exact.std(0, correction=0)
        if robust:
            location, width = _median_and_width(exact)
            # a column with more than half of its mass at one value has width 0 and yet something to tell
            scale = torch.where(width > 0, width, scale)
        return cls.of_moments(location, scale, exact.abs().amax(0), rows.dtype, squash=robust)

    @classmethod
    def of_moments(
        cls, location: Tensor, scale: Tensor, largest: Tensor, dtype: torch.dtype, squash: bool = False
    ) -> Standardiser:
        """Fit to what is known of columns, each in double precision with shape (d,): see :meth:`fit`.

        Args:
            location: Their means or medians.
            scale: Their standard deviations or quartile widths.
            largest: Their largest absolute values.
            dtype: The dtype of the samples.
            squash: Whether arsinh follows.

        Returns:
            The standardiser.
        """
        resolution = 8 * torch.finfo(dtype).eps * largest
        usable = torch.isfinite(scale) & (scale > resolution) & (scale > torch.finfo(dtype).tiny)
        scale = torch.where(usable, scale, resolution.clamp(min=1))
        return cls(location.to(dtype), scale.to(dtype), squash=squash)

    def forward(self, x: Tensor) -> Tensor:
        r"""Standardise x of shape (\*, d)."""
        z = ((x - self.location) / self.scale).clamp(-FARTHEST, FARTHEST)
        return torch.asinh(z) if self.squash else z

    def inverse(self, z: Tensor) -> Tensor:
        r"""The x that standardises to z, of shape (\*, d)."""
        return (torch.sinh(z) if self.squash else z) * self.scale + self.location


class Ranks(nn.Module):
    r""":math:`z = \Phi^{-1}(F(x))` for each column, with F the distribution function of the pooled samples.

    Piecewise linear between knots that are even in z, each at the middle rank of its value, so that ties fall together;
    straight on beyond the outermost, as steeply as from the middle to there. It increases strictly, so it can be
    inverted. Knots are held and met in float64, in units of the column's standard deviation about its median.

    Args:
        location: Medians, with shape (d,).
        scale: Standard deviations, positive, with shape (d,).
        knots: Increasing values of (x - location) / scale, with shape (d, k), k > 1.
        heights: Increasing z at the knots, with shape (d, k).

    Raises:
        ValueError: If a scale is not positive, the shapes differ, or knots or heights do not increase.
    """

    location: Tensor
    scale: Tensor
    knots: Tensor
    heights: Tensor

    def __init__(self, location: Tensor, scale: Tensor, knots: Tensor, heights: Tensor) -> None:
        super().__init__()
        if knots.shape != heights.shape or knots.ndim != 2 or not len(knots) == len(location) == len(scale):
            shapes = ", ".join(str(tuple(part.shape)) for part in (location, scale, knots, heights))
            raise ValueError(
                f"location, scale, knots, heights: expected shapes (d,), (d,), (d, k), (d, k); got {shapes}"
            )
        if not (scale > 0).all() or knots.shape[1] < 2 or not ((knots.diff() > 0) & (heights.diff() > 0)).all():
            raise ValueError("scale, knots, heights: expected positive scales, and at least 2 knots that increase")
        for name, value in (("location", location), ("scale", scale), ("knots", knots), ("heights", heights)):
            self.register_buffer(name, value.detach().double().clone())

    @classmethod
    def fit(cls, *samples: Tensor) -> Ranks:
        """Fit to the rows of all ``samples`` together, each with shape (n, d), on their device.

        Columns without spread are shifted only, as by :meth:`Standardiser.fit`. Of more than ``ROWS`` rows, evenly
        spaced ones are sorted.

        Args:
            samples: Sets of samples of the same width.

        Returns:
            The map.
        """
        rows = torch.cat([sample.detach() for sample in samples])
        exact = rows.double()
        scale, largest = exact.std(0, correction=0), exact.abs().amax(0)
        exact = exact[:: -(-len(exact) // ROWS)]
        location, _ = _median_and_width(exact)
        still = (scale <= 8 * torch.finfo(rows.dtype).eps * largest).tolist()
        units = Standardiser.of_moments(location, scale, largest, rows.dtype)
        lines = [_ranks(column[:1] if flat else column) for column, flat in zip(units(exact).T, still, strict=True)]
        most = max(len(knots) for knots, _ in lines)
        knots, heights = zip(*(_extended(*line, most) for line in lines), strict=True)
        return cls(units.location, units.scale, torch.stack(knots), torch.stack(heights))

    def forward(self, x: Tensor) -> Tensor:
        r"""Standardise x of shape (\*, d)."""
        units = ((x.double() - self.location) / self.scale).clamp(-FARTHEST, FARTHEST)
        return _along(units, self.knots, self.heights).clamp(-FARTHEST, FARTHEST).to(x.dtype)

    def inverse(self, z: Tensor) -> Tensor:
        r"""The x that standardises to z, of shape (\*, d)."""
        return (_along(z.double(), self.heights, self.knots) * self.scale + self.location).to(z.dtype)


def _ranks(column: Tensor) -> tuple[Tensor, Tensor]:
    """Values of a column and the normal quantiles of their middle ranks, thinned to be even in the latter."""
    values, counts = column.unique(return_counts=True)
    heights = torch.special.ndtri((counts.cumsum(0) - 0.5 * counts) / len(column))
    even = torch.linspace(float(heights[0]), float(heights[-1]), KNOTS, dtype=heights.dtype, device=heights.device)
    kept = torch.searchsorted(heights, even).clamp(max=len(heights) - 1).unique()
    return values[kept], heights[kept]


def _extended(knots: Tensor, heights: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """One knot more on the left and on the right, and more on the right until there are ``most`` + 2."""
    middle, last = int(heights.abs().argmin()), len(knots) - 1

    def step(line: Tensor, end: int) -> Tensor:
        start = middle if middle != end else last - end  # the other end, where the middle is this one
        return (line[end] - line[start]).abs() if last else torch.ones_like(line[0])

    count = torch.arange(1, most - last + 1, dtype=knots.dtype, device=knots.device)
    below = [line[:1] - step(line, 0) for line in (knots, heights)]
    above = [line[-1] + step(line, last) * count for line in (knots, heights)]
    return torch.cat([below[0], knots, above[0]]), torch.cat([below[1], heights, above[1]])


def _along(x: Tensor, knots: Tensor, heights: Tensor) -> Tensor:
    """The piecewise linear map from knots to heights, of the columns of x."""
    columns = x.reshape(-1, len(knots)).T.contiguous()
    left = (torch.searchsorted(knots, columns.detach()) - 1).clamp(0, knots.shape[1] - 2)
    low, high = (knots.gather(1, at) for at in (left, left + 1))
    start, end = (heights.gather(1, at) for at in (left, left + 1))
    return (start + (columns - low) * ((end - start) / (high - low))).T.reshape(x.shape)


def _median_and_width(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Median and the quartile width in units of a normal's standard deviation, of each column."""
    ordered = rows.sort(0).values  # torch.quantile refuses more than 2**24 entries
    low, median, high = (ordered[round(share * (len(rows) - 1))] for share in (0.25, 0.5, 0.75))
    return median, (high - low) / 1.349


STANDARDISERS: dict[str, Callable[..., Standardiser | Ranks]] = {
    "moments": Standardiser.fit,
    "robust": partial(Standardiser.fit, robust=True),
    "ranks": Ranks.fit,
}
"""Ways to fit one to samples, by name: ``STANDARDISERS[name](p, q)``."""


def restored(name: str, state: dict[str, Tensor]) -> Standardiser | Ranks:
    """The one that ``STANDARDISERS[name]`` fitted, from its ``state_dict()``."""
    return Ranks(**state) if name == "ranks" else Standardiser(**state, squash=name == "robust")
