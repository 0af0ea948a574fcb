"""A number that was estimated from samples, with its standard error."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


class Estimate(float):
    """A float that knows its standard error; arithmetic with it gives plain floats.

    Attributes:
        standard_error: The standard deviation of the estimate over fresh samples of the same size.
    """

    standard_error: float

    def __new__(cls, value: float, standard_error: float) -> Estimate:
        """The float ``value``, with its error."""
        estimate = super().__new__(cls, value)
        estimate.standard_error = float(standard_error)
        return estimate

    def __reduce__(self) -> tuple[Any, ...]:
        """What ``copy`` and other processes rebuild it from."""
        return Estimate, (float(self), self.standard_error)

    def __repr__(self) -> str:
        return f"{float(self):.4g} ± {self.standard_error:.2g}"

    @classmethod
    def mean(cls, *sets: Tensor) -> Estimate:
        """The average of the means of independent ``sets`` of values; infinite error for sets of one value."""
        means = [values.double().mean() for values in sets]
        variances = [
            values.double().var() / len(values) if len(values) > 1 else torch.tensor(torch.inf) for values in sets
        ]
        return cls(
            sum(float(mean) for mean in means) / len(sets), math.sqrt(sum(float(v) for v in variances)) / len(sets)
        )
