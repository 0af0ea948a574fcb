r"""What a conditional network is given of x; where x is points in no order, nothing that their order could change.

A simulator that declares ``points`` says that x is so many draws, independent and of one law given theta. The
posterior depends on them as a set. Linear summaries are then the points' means, log standard deviations and
correlations (by Fisher's z), none of which depends on the order, and beside them stand the points themselves, shuffled
anew each time they are shown: each simulation stands for all the orders of its points, as it does under the simulator.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from implicit_estimators.networks.standardise import Standardiser
from implicit_infer.posteriors.coordinates import HEAVY, Coordinates
from implicit_simulators import Simulator

SHOWN = 64
"""Numbers that x may have for its points to be shown beside their moments."""

WIDE = 8
"""Most numbers in a point for the correlations of all pairs of them to be taken."""

SURE = 1 - 1e-6
"""Largest correlation in absolute value: two points always lie on a line."""


class PointMoments(Simulator):
    """A simulator of points, seen through summaries of them as a set.

    Args:
        simulator: A simulator with ``points`` above 1. Summaries of its own are kept beside.
    """

    def __init__(self, simulator: Simulator) -> None:
        self.inner = simulator
        self.name, self.parameter_names = simulator.name, simulator.parameter_names
        self.event_shape, self.prior, self.points = simulator.event_shape, simulator.prior, simulator.points

    def summarize(self, x: Tensor) -> Tensor:
        r"""Moments of the points, with shape (n, k), for x with shape (n, \*event_shape)."""
        found = moments(x.reshape(len(x), self.points, -1))
        own = type(self.inner).summarize is not Simulator.summarize
        return torch.cat((found, self.inner.summarize(x).to(found)), 1) if own else found


def moments(points: Tensor) -> Tensor:
    r"""Means, log standard deviations, and Fisher's z of the correlations of the points of each x.

    Args:
        points: With shape (n, m, p).

    Returns:
        Numbers with shape (n, 2 p + p (p - 1) / 2), without the last part where p is above ``WIDE``.
    """
    mean = points.mean(1)
    centred = points - mean[:, None]
    deviation = centred.square().mean(1).sqrt()
    # relative to the data's own digits: equal points have no spread, and its logarithm must not be minus infinity
    smallest = torch.finfo(points.dtype).eps * (1 + mean.abs())
    deviation = torch.maximum(deviation, smallest)
    parts = [mean, deviation.log()]
    if 1 < points.shape[2] <= WIDE:
        scaled = centred / deviation[:, None]
        row, column = torch.tril_indices(points.shape[2], points.shape[2], -1, device=points.device)
        correlation = (scaled[:, :, row] * scaled[:, :, column]).mean(1)
        parts.append(torch.atanh(correlation.clamp(-SURE, SURE)))
    return torch.cat(parts, 1)


class Given(nn.Module):
    r"""Rows (n, width) of what networks are given of x: the linear summaries s, and the points where there are some.

    Args:
        simulator: The simulator that was asked about.
        coordinates: Of it, or of :class:`PointMoments` of it.
        x: Simulations with shape (n, \*event_shape), which the points are scaled by.
    """

    def __init__(self, simulator: Simulator, coordinates: Coordinates, x: Tensor) -> None:
        super().__init__()
        self.coordinates = coordinates
        self.points = simulator.points if simulator.points > 1 and x[0].numel() <= SHOWN else 1
        self.standardise: Standardiser | None = None
        if self.points > 1:
            rows = x.reshape(len(x) * self.points, -1)
            scaled = Standardiser.fit(rows)
            heavy = bool((scaled(rows).abs() > HEAVY).any())
            self.standardise = Standardiser.fit(rows, robust=True) if heavy else scaled

    def rows(self, x: Tensor) -> Tensor:
        r"""Rows for x with shape (n, \*event_shape)."""
        s = self.coordinates.summaries(x)
        if self.standardise is None:
            return s
        points = self.standardise(x.reshape(len(x) * self.points, -1).to(s))
        return torch.cat((s, points.reshape(len(x), -1)), 1)

    def linear(self, rows: Tensor) -> Tensor:
        """The linear summaries in them, with shape (n, k)."""
        return rows[:, : self.coordinates.summaries_dim]

    def shuffled(self, rows: Tensor, random: torch.Generator) -> Tensor:
        """The rows with the points of each in an order of their own."""
        if self.points == 1:
            return rows
        s, flat = rows.tensor_split((self.coordinates.summaries_dim,), 1)
        points = flat.unflatten(1, (self.points, -1))
        keys = torch.rand((len(rows), self.points), generator=random, device=rows.device)
        order = keys.argsort(1)[..., None].expand_as(points)
        return torch.cat((s, points.gather(1, order).flatten(1)), 1)


def exchangeable(simulator: Simulator) -> Simulator:
    """The simulator seen through moments of its points where it has some, else as it is."""
    return PointMoments(simulator) if simulator.points > 1 else simulator
