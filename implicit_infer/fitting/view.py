r"""What a comparison sees of observations and simulations: rows of one law, in units of the data.

A comparison tells two *samples* apart. Where one x is one draw, the rows are the observations themselves. Where one x
holds many numbers, there are three ways to rows:

- as they are: one row for each x, all of its numbers side by side; for as many observations as a sample needs;
- ``window=w``: every stretch of w successive entries along the first axis of x is a row, for series of which there is
  one, or a few. This compares the law of w successive values alone, averaged over the series, and assumes that every
  part of a series has the same law (stationarity; a trend, or a start that the series still remembers, is averaged as
  well), and that its length is enough for that average to settle (ergodicity). With w = 1 it is the marginal law: all
  that there is to know of independent draws. A parameter that only longer stretches tell (the period of a slow swing)
  needs a longer window. A simulator that declares its x to be several independent draws (``points``) gets these;
- ``summaries=True``: the simulator's own summary statistics, one row for each x.

Rows are standardised by the data's means and standard deviations, or, where data lie far out, by medians and quartile
widths with a logarithmic squash beyond, so that one draw from far tails does not drown the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_estimators.networks.standardise import Standardiser
from implicit_simulators import Simulator

HEAVY = 10.0
"""Standardised data beyond this call for medians, quartile widths and a squash."""

FAR = 1e4
"""Rows are cut off here, in units of the data: what is further has left in any case."""


@dataclass(frozen=True)
class View:
    r"""Turns x into rows.

    Attributes:
        simulator: Whose x they are.
        units: What standardises rows.
        window: Length of a stretch, or None.
        stride: Entries from one stretch to the next.
        summaries: Whether rows are summary statistics.
    """

    simulator: Simulator
    units: Standardiser
    window: int | None = None
    stride: int = 1
    summaries: bool = False

    @classmethod
    def of(
        cls,
        simulator: Simulator,
        data: Tensor,
        *,
        window: int | None = None,
        stride: int = 1,
        summaries: bool = False,
        least: int = 2,
    ) -> View:
        r"""Of these data.

        Args:
            simulator: Whose data they are.
            data: Observations with shape (m, \*event_shape).
            window: Length of a stretch, at most that of the first axis of x; None for whole observations.
            stride: Entries from the start of one stretch to that of the next.
            summaries: Whether rows are summary statistics.
            least: Rows that the data must have.

        Raises:
            ValueError: If both or neither of the ways fit: the data are too few rows, or the window does not fit x.
        """
        if window is not None and summaries:
            raise ValueError("window, summaries: expected one of the two; got both")
        length = simulator.event_shape[0] if simulator.event_shape else 1
        if window is not None and not 1 <= window <= length:
            raise ValueError(f"window: expected a length from 1 to {length}, that of {simulator.name}; got {window}")
        if stride < 1:
            raise ValueError(f"stride: expected a positive int; got {stride}")
        bare = cls(simulator, Standardiser(torch.zeros(1), torch.ones(1)), window, stride, summaries)
        rows = bare.split(data).flatten(0, 1)
        if len(rows) < least:
            raise ValueError(
                f"data: a comparison of samples needs {least} rows or more; {tuple(data.shape)} gives {len(rows)}. "
                "For one long series whose parts have one law give the method window=... (the law of so many "
                "successive values is compared), or take a method that compares summaries of whole observations"
            )
        units = Standardiser.fit(rows)
        if bool((units(rows).abs() > HEAVY).any()):
            units = Standardiser.fit(rows, robust=True)
        return cls(simulator, units, window, stride, summaries)

    @property
    def each(self) -> int:
        """Rows that one x gives."""
        if self.window is not None:
            return (self.simulator.event_shape[0] - self.window) // self.stride + 1 if self.simulator.event_shape else 1
        return 1 if self.summaries else self._points

    @property
    def _points(self) -> int:
        # a simulator's attribute of this name that says something else does not divide its x
        points, size = self.simulator.points, self.simulator.event_shape.numel()
        return points if points > 0 and size % points == 0 else 1

    def split(self, x: Tensor) -> Tensor:
        r"""Rows of each x as they are, with shape (n, each, width), for x with shape (n, \*event_shape)."""
        if self.summaries:
            return self.simulator.summarize(x)[:, None]
        if self.window is None or not self.simulator.event_shape:
            return x.reshape(len(x), self.each, -1)
        stretches = x.unfold(1, self.window, self.stride)  # (n, each, ..., window)
        return stretches.movedim(-1, 2).flatten(2)

    def __call__(self, x: Tensor) -> Tensor:
        r"""Rows in units of the data, with shape (n, each, width); differentiable in x."""
        rows = self.split(x)
        return self.units.to(rows.device)((rows).clamp(-1e30, 1e30)).clamp(-FAR, FAR)
