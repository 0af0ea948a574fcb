"""A fit by maximum likelihood: besides the estimate it has the likelihood's profiles and regions of confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_infer.fitting.base import Fit, Trace
from implicit_infer.fitting.question import FitQuestion
from implicit_infer.fitting.surface import Profile, Surface
from implicit_infer.fitting.verdict import judge
from implicit_simulators.base import as_tensor


@dataclass(frozen=True)
class ConfidenceRegion:
    r"""All parameters whose deviance is at most a quantile of :math:`\chi^2` (Wilks).

    Attributes:
        level: The share of data sets whose region holds the truth, if the theorem applies.
        threshold: The largest deviance in the joint region: the quantile of :math:`\chi^2_d`, raised by what the
            simulations add (``surface.inflation``).
        intervals: For each parameter, the ends of its own interval, from the profile and the quantile of
            :math:`\chi^2_1`.
        open: Parameters whose interval ends where the likelihood was no longer learned, and may be longer.
        surface: The likelihood.
    """

    level: float
    threshold: float
    intervals: dict[str, tuple[float, float]]
    open: tuple[str, ...]
    surface: Surface

    def contains(self, theta: Any) -> Tensor:
        """Which parameters lie in the joint region.

        Args:
            theta: With shape (n, d).

        Returns:
            Booleans with shape (n,).
        """
        return self.surface.deviance(as_tensor(theta, "theta")) <= self.threshold


class LikelihoodFit(Fit):
    """A maximum of an estimated likelihood.

    Args:
        question: What was asked.
        surface: The log-likelihood and its maximum.
        method: Name of the method.
        trace: The way there.
        kept: Simulations for the test of the fit against the data.
        figures: What the method says of its own run.
        warnings: Sentences that a user should read.

    Attributes:
        surface: The log-likelihood as a function of unconstrained parameters.
    """

    def __init__(
        self,
        question: FitQuestion,
        surface: Surface,
        *,
        method: str,
        trace: Trace,
        kept: int = 0,
        figures: dict[str, Any] | None = None,
        warnings: list[str] | None = None,
    ) -> None:
        self.surface = surface
        notes = list(warnings or [])
        if surface.flat:
            notes.append(
                f"the likelihood is flat in {surface.flat} of {len(surface.v)} directions: the data tell less there "
                "than the prior, and standard errors are of the prior's width; look at the profiles"
            )
        if float(surface.range.slack(surface.v[None])) < 1e-3:
            notes.append("the maximum is at the border of where the likelihood was learned: it may lie beyond")
        verdict, more = judge(question, surface.theta.float(), kept) if kept else ({}, [])
        super().__init__(
            question.simulator,
            question.data,
            surface.theta.float(),
            method=method,
            simulations=question.spent,
            trace=trace,
            covariance=surface.covariance.float(),
            figures={"inflation": surface.inflation, **(figures or {}), **verdict},
            warnings=[*notes, *more],
        )

    def deviance(self, theta: Any) -> Tensor:
        r"""Twice the log-likelihood ratio of the maximum to theta.

        Args:
            theta: Parameters with shape (n, d).

        Returns:
            Deviances with shape (n,), float64; infinite where the likelihood was not learned.
        """
        return self.surface.deviance(self.simulator.check_theta(theta))

    def profile(self, name: str, points: int = 21, level: float = 0.99) -> Profile:
        """The least deviance with one parameter held at each of several values.

        Args:
            name: The parameter.
            points: Values, evenly over its confidence interval.
            level: Level of that interval.

        Returns:
            The profile.

        Raises:
            ValueError: If there is no such parameter, fewer than 3 points are asked for, or the level is not inside
                (0, 1).
        """
        place = self._place(name)
        if points < 3:
            raise ValueError(f"points: expected an int of at least 3; got {points}")
        low, high, _ = self._interval(place, level)
        values = torch.linspace(low, high, points, dtype=torch.float64)
        deviance, found = torch.full((points,), torch.nan, dtype=torch.float64), self.surface.v.repeat(points, 1)
        middle = int((values < float(self.surface.theta[place])).sum())
        for way in (range(middle, points), range(middle - 1, -1, -1)):
            v = self.surface.v
            for i in way:  # outwards, each from where the one before it ended
                value, v = self.surface.profile_at(place, float(values[i]), v)
                deviance[i], found[i] = value, v
        return Profile(name, values, deviance, self.surface.space.theta(found))

    def confidence_region(self, level: float = 0.95) -> ConfidenceRegion:
        """The joint region of all parameters, and each one's interval, by the likelihood ratio.

        Args:
            level: Share of data sets whose region is to hold the truth.

        Raises:
            ValueError: If the level is not inside (0, 1).
        """
        found = [self._interval(place, level) for place in range(len(self.theta))]
        names = self.simulator.parameter_names
        return ConfidenceRegion(
            level=level,
            threshold=chi_squared(level, len(names)) * self.surface.inflation,
            intervals={name: (low, high) for name, (low, high, _) in zip(names, found, strict=True)},
            open=tuple(name for name, (*_, is_open) in zip(names, found, strict=True) if is_open),
            surface=self.surface,
        )

    def _interval(self, place: int, level: float) -> tuple[float, float, bool]:
        return self.surface.interval(place, chi_squared(level, 1) * self.surface.inflation_of(place))

    def _place(self, name: str) -> int:
        names = self.simulator.parameter_names
        if name not in names:
            raise ValueError(f"name: expected one of {', '.join(names)}; got {name!r}")
        return names.index(name)


def chi_squared(level: float, degrees: int) -> float:
    r"""The quantile of :math:`\chi^2`.

    Raises:
        ValueError: If the level is not inside (0, 1).

    Example:
        >>> round(chi_squared(0.95, 1), 3)
        3.841
    """
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number inside (0, 1); got {level}")
    from scipy.special import gammaincinv

    return 2 * float(gammaincinv(degrees / 2, level))
