"""What running a simulator gives: parameters, simulations, and why some of them failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from implicit_infer.blocks import NOT_FINITE, not_finite

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Runs:
    r"""Simulations from the prior, in order.

    Attributes:
        theta: Parameters, with shape (n, d).
        x: Simulations, with shape (n, \*event_shape); rows that failed hold NaN or infinity.
        seed: The seed they were made with.
        errors: Why, for each row that failed, as far as it is known.
        parameter_names: The d names of theta's columns; theta_1, theta_2, ... where they are not known.
    """

    theta: Tensor
    x: Tensor
    seed: int
    errors: Mapping[int, str] = field(default_factory=dict)
    parameter_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.theta)

    @property
    def failed(self) -> Tensor:
        """Which rows are not finite, with shape (n,) and dtype bool."""
        return not_finite(self.x)

    @property
    def failures(self) -> dict[int, str]:
        """Every failed row and why: what it raised, how long it took, or that it returned NaN or infinity."""
        rows: list[int] = self.failed.nonzero()[:, 0].tolist()
        return {row: self.errors.get(row, NOT_FINITE) for row in rows}

    def failure_table(self) -> pd.DataFrame:
        """The failed rows with their parameters and the reason: a column for each parameter, and ``reason``."""
        failures = self.failures
        return failure_table(failures, self.theta[list(failures)], self.parameter_names)

    def first(self, n: int) -> Runs:
        """The first ``n`` rows.

        Raises:
            ValueError: If there are fewer.
        """
        if n > len(self):
            raise ValueError(f"n: the bank holds {len(self)} simulations; {n} were asked for")
        errors = {row: reason for row, reason in self.errors.items() if row < n}
        return Runs(self.theta[:n], self.x[:n], self.seed, errors, self.parameter_names)

    def valid(self) -> tuple[Tensor, Tensor]:
        """Theta and x of the rows that did not fail."""
        keep = ~self.failed
        return self.theta[keep], self.x[keep]


def failure_table(failures: Mapping[int, str], theta: Tensor, names: tuple[str, ...]) -> pd.DataFrame:
    """A frame of failed rows: their parameters, and why; the index is the row."""
    import pandas as pd

    columns = list(names) or [f"theta_{i + 1}" for i in range(theta.shape[1])]
    table = pd.DataFrame(theta.numpy(), index=pd.Index(list(failures), name="simulation"), columns=columns)
    table["reason"] = pd.Series(list(failures.values()), index=table.index, dtype=object)
    return table
