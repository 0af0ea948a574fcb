r"""Inputs of order one: shift and scale each column, by moments or, for heavy tails, by quantiles and a soft squash.

A density ratio does not change under an invertible map of the samples, so what is learned of the standardised samples
is true of the samples, if p and q are mapped alike: fit one standardiser on both together.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FARTHEST = 1e8
"""Standardised values beyond this are cut off, so that no finite input can overflow a network in float32."""


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


def _median_and_width(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Median and the quartile width in units of a normal's standard deviation, of each column."""
    ordered = rows.sort(0).values  # torch.quantile refuses more than 2**24 entries
    low, median, high = (ordered[round(share * (len(rows) - 1))] for share in (0.25, 0.5, 0.75))
    return median, (high - low) / 1.349
