r"""Distances between whole data sets: what the points of one set say together, with no summary statistics.

One simulation is a set of m points: its rows where x has shape (m, p), its values where it has shape (m,), and
``simulator.points`` draws where the simulator says that x consists of several. Thousands of sets are held against the
observed one in a call, a part at a time, so that memory stays bounded.

A time series is no set: the order of its values counts. With ``lags`` each point is a value together with earlier
ones, :math:`(x_t, x_{t - l_1}, x_{t - l_2}, \dots)` (delay reconstruction), whose law does depend on the dynamics.

Points are measured in robust standard deviations of the *observed* ones, column by column; simulations from a wide
prior would give a scale at which the observation is one dot.

To add a discrepancy, copy ``CramerVonMises``.

References:
    | Approximate Bayesian computation with the Wasserstein distance (Bernton, Jacob, Gerber & Robert, 2019)
    | https://arxiv.org/abs/1905.03747
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from implicit_infer.abc.distances import Distance, Measure, robust_scale
from implicit_infer.blocks import not_finite
from implicit_simulators import Simulator

HELD = 2**23
"""Numbers of one intermediate result that are held in memory at once."""

OCTILES = tuple(i / 8 for i in range(1, 8))

Compare = Callable[[Tensor], Tensor]
"""From sets (b, m, p) to their discrepancies from the observed set, (b,)."""


@dataclass(frozen=True)
class SetDistance(Distance):
    """A discrepancy of data sets. Children are frozen dataclasses of their settings and write ``against``.

    Args:
        lags: For a time series: which earlier values each point has besides its own, such as (1,) or (1, 2); None
            for sets of points whose order does not count.

    Raises:
        ValueError: If a lag is not positive.
    """

    lags: tuple[int, ...] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.lags is not None and (not self.lags or min(self.lags) < 1):
            raise ValueError(f"lags: expected positive ints, at least one; got {self.lags}")

    def features(self, simulator: Simulator, x: Tensor) -> Tensor:
        r"""The sets, one in each row, with shape (n, 1 + m p).

        The first column says p, the number of columns of a point; then come the points, one after the other. Rows of
        simulations that failed are NaN.

        Raises:
            ValueError: If x is no set of points, or a series is not longer than its lags.
        """
        sets = points_of(simulator, x)
        if self.lags is not None:
            sets = delayed(sets, self.lags)
        columns = sets.new_full((len(sets), 1), float(sets.shape[2]))
        features = torch.cat([columns, sets.reshape(len(sets), -1)], dim=1)
        return torch.where(not_finite(features)[:, None], torch.nan, features)

    def _fit(self, features: Tensor, theta: Tensor | None) -> Measure:
        spread = robust_scale(as_sets(features[: max(1, HELD // features.shape[1])]).flatten(0, 1))
        return Measure(partial(self._far, spread), partial(_quantiles, spread))

    def _far(self, spread: Tensor, features: Tensor, observed: Tensor) -> Tensor:
        target = as_sets(observed[None])[0]
        centre, scale = frame(target, spread)
        compare = self.against((target - centre) / scale)
        distances = features.new_full((len(features),), torch.inf)
        finite = (~not_finite(features)).nonzero()[:, 0]
        rows = max(1, HELD // self.held(*target.shape))
        for part in finite.split(rows):
            distances[part] = compare((as_sets(features[part]) - centre) / scale).to(distances.dtype)
        return distances

    def against(self, observed: Tensor) -> Compare:
        """How far sets are from the observed one.

        Args:
            observed: The observed set, with shape (m, p), in robust standard deviations of its own.

        Returns:
            A function of sets (b, m, p), all finite, in the same units.
        """
        raise NotImplementedError(f"{type(self).__name__} must write against(observed)")

    def held(self, m: int, p: int) -> int:
        """Numbers held for each set of m points with p columns, which decides how many sets are compared at once."""
        return m * m


def points_of(simulator: Simulator, x: Tensor) -> Tensor:
    r"""The points of x with shape (n, \*event_shape), with shape (n, m, p).

    Raises:
        ValueError: If x has neither shape (n, m) nor (n, m, p) and the simulator names no number of points.
    """
    if simulator.points > 1:
        return x.reshape(len(x), simulator.points, -1)
    if x.ndim == 2 and x.shape[1] > 1:
        return x[:, :, None]
    if x.ndim == 3 and x.shape[1] > 1:
        return x
    raise ValueError(
        f"{simulator.name}: expected data sets, x of event shape (m,) or (m, p) with m points or "
        f"simulator.points > 1; got event shape {tuple(x.shape[1:])}"
    )


def delayed(series: Tensor, lags: tuple[int, ...]) -> Tensor:
    """Each value with those ``lags`` steps before it: (n, m, p) to (n, m - max(lags), p (1 + len(lags))).

    Raises:
        ValueError: If the series is not longer than the largest lag.
    """
    m, first = series.shape[1], max(lags)
    if m <= first + 1:
        raise ValueError(f"lags: expected less than the series' length of {m} less one; got {first}")
    return torch.cat([series[:, first - lag : m - lag] for lag in (0, *lags)], dim=2)


def as_sets(features: Tensor) -> Tensor:
    """Features (n, 1 + m p) as sets (n, m, p)."""
    finite = features[:, 0][torch.isfinite(features[:, 0])]
    columns = int(finite[0]) if len(finite) else 1
    return features[:, 1:].reshape(len(features), -1, columns)


def frame(target: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Median and robust scale of the observed points' columns; where they are all alike, the simulations' scale."""
    scale = robust_scale(target)
    scale = torch.where(scale > 0, scale, spread)
    return target.median(0).values, torch.where(scale > 0, scale, torch.ones_like(scale))


def _quantiles(spread: Tensor, features: Tensor) -> Tensor:
    """What regression adjustment regresses on: octiles of each column and, of several, how their signs agree."""
    sets = as_sets(features)
    ordered = sets.sort(dim=1).values
    levels = torch.tensor(OCTILES, dtype=sets.dtype, device=sets.device) * (sets.shape[1] - 1)
    low, share = levels.floor().long(), (levels - levels.floor())[:, None]
    high = (low + 1).clamp_max(sets.shape[1] - 1)
    octiles = ordered[:, low] * (1 - share) + ordered[:, high] * share
    if sets.shape[2] == 1:
        return octiles.flatten(1)
    middle = ordered[:, sets.shape[1] // 2][:, None]
    scale = torch.where(spread > 0, spread, torch.ones_like(spread))
    bounded = torch.tanh((sets - middle) / scale)
    i, j = torch.triu_indices(sets.shape[2], sets.shape[2], offset=1, device=sets.device)
    return torch.cat([octiles.flatten(1), (bounded[:, :, i] * bounded[:, :, j]).mean(1)], dim=1)


def split_rows(count: int, folds: int, seed: int, device: torch.device, contiguous: bool) -> Tensor:
    """The fold of each of ``count`` points: at random, or as runs of neighbours, which a series' points need."""
    fold = torch.arange(count, device=device) * folds // count
    if contiguous:
        return fold
    generator = torch.Generator(device).manual_seed(seed)
    return fold[torch.randperm(count, generator=generator, device=device)]


def pairs(p: int) -> int:
    """Products of two different columns of p."""
    return math.comb(p, 2)
