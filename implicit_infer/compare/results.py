"""What the runs of a comparison left behind: a table, a summary over repeats, the draws."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from implicit_infer.compare.folder import FAILED, FINISHED, Folder
from implicit_infer.compare.plan import REFERENCE, Run
from implicit_infer.draws import read_draws

if TYPE_CHECKING:
    import pandas

MISSING = "missing"

MEASURED = ("simulations", "wall_s", "cpu_s", "c2st", "c2st_se", "wasserstein", "distinct", "coverage_90", "p_value")
"""Columns of the table that hold numbers of a run; NaN where a run has none."""

SUMMARISED = ("c2st", "wasserstein", "wall_s", "coverage_90", "p_value")
"""Columns of which the summary gives the median, the lowest and the highest."""


class Results:
    """The runs of a comparison, read from its folder.

    Args:
        folder: Where the runs are.
        runs: Which of them; all that the folder holds if None.

    Raises:
        ValueError: If the folder holds no comparison.
    """

    def __init__(self, folder: Folder | str | os.PathLike[str], runs: Sequence[Run] | None = None) -> None:
        self.folder = folder if isinstance(folder, Folder) else Folder(folder)
        self.question = self.folder.question()
        self.runs = list(self.folder.ended() if runs is None else runs)

    @functools.cached_property
    def results(self) -> dict[Run, dict[str, Any]]:
        """Everything that is known of each run: its result and its scores."""
        found = {}
        for run in self.runs:
            result = self.folder.result(run.name) or {"status": MISSING}
            scores = self.folder.scores(run.name) if result["status"] == FINISHED else {}
            error = result.get("error") or (f"scoring: {scores['error']}" if scores.get("error") else None)
            found[run] = {**scores, **result, "error": error}
        return found

    @functools.cached_property
    def table(self) -> pandas.DataFrame:
        r"""One row for each method, budget and repeat.

        ==============  ======================================================================================
        column          holds
        ==============  ======================================================================================
        method          the label
        budget          simulations that it might spend
        repeat          which repetition, from 0
        status          "finished", "failed" or "missing"
        simulations     simulations that it spent, failed ones included
        wall_s          seconds, its share of the common simulations included
        cpu_s           seconds of processor time, without the common simulations
        c2st            accuracy of a classifier that tells its draws from the reference's: 0.5 best, 1 worst
        c2st_se         standard error of that accuracy
        wasserstein     distance of its marginals from the reference's, in standard deviations of that, mean over them
        distinct        distinct posterior draws among those that were scored
        coverage_90     share of the data inside the central 90 % band of their predictions; 0.9 is good
        p_value         posterior-predictive p-value: near 0, the data are an outlier among the predictions
        error           what went wrong, in one line, or None
        ==============  ======================================================================================
        """
        import pandas

        rows = []
        for run, about in self.results.items():
            row: dict[str, Any] = {"method": run.label, "budget": run.budget, "repeat": run.repeat}
            row["status"] = about["status"]
            for column in MEASURED:
                value = about.get(column)
                row[column] = float("nan") if value is None else float(value)
            row["error"] = about["error"]
            rows.append(row)
        columns = ["method", "budget", "repeat", "status", *MEASURED, "error"]
        table = pandas.DataFrame(rows, columns=columns).astype({"error": object})
        return table.where(table.notna() | ~table.columns.isin(["error"]), None)

    def summary(self) -> pandas.DataFrame:
        """Median, lowest and highest over the repeats of each method at each budget, in the table's order.

        Columns: method, budget, runs, failed, and for c2st, wasserstein, wall_s, coverage_90 and p_value the median
        under that name and the extremes under ``<name>_low`` and ``<name>_high``.
        """
        import pandas

        rows = []
        for (method, budget), group in self.table.groupby(["method", "budget"], sort=False):
            row = {
                "method": method,
                "budget": budget,
                "runs": len(group),
                "failed": int((group.status == FAILED).sum()),
            }
            for column in SUMMARISED:
                values = group[column].dropna()
                row[column] = values.median()
                row[f"{column}_low"], row[f"{column}_high"] = values.min(), values.max()
            rows.append(row)
        return pandas.DataFrame(rows)

    def draws(self, method: str, budget: int | None = None, repeat: int = 0) -> Tensor:
        """Posterior draws of one run, with shape (n, d).

        Args:
            method: The label, or "reference".
            budget: Simulations; the largest budget if None.
            repeat: Which repetition.

        Raises:
            ValueError: If there is no such finished run.
        """
        name = REFERENCE if method == REFERENCE else self._find(method, budget, repeat).name
        return self._read(name, "posterior")

    def predictive(self, method: str, budget: int | None = None, repeat: int = 0) -> Tensor:
        r"""Simulations at posterior draws of one run, with shape (m, \*event_shape).

        Raises:
            ValueError: If there is no such finished run, or it kept none.
        """
        name = REFERENCE if method == REFERENCE else self._find(method, budget, repeat).name
        return self._read(name, "posterior_predictive")

    def observed(self) -> Tensor | None:
        """The observation, from any run that has ended well; None if there is none."""
        for name in (REFERENCE, *(run.name for run in self.runs)):
            if self.folder.finished(name):
                return self._read(name, "observed_data")
        return None

    @property
    def reference(self) -> dict[str, Any] | None:
        """What is known of the reference posterior: method, figures, warnings, status; None if none was asked for."""
        return self.folder.result(REFERENCE)

    def _find(self, method: str, budget: int | None, repeat: int) -> Run:
        budgets = [run.budget for run in self.runs if run.label == method]
        if not budgets:
            known = ", ".join(dict.fromkeys(run.label for run in self.runs))
            raise ValueError(f"method: expected one of {known}; got {method!r}")
        return Run(method, max(budgets) if budget is None else budget, repeat)

    def _read(self, name: str, group: str) -> Tensor:
        if not self.folder.finished(name):
            raise ValueError(f"{self.folder.root} holds no finished run {name}")
        values = read_draws(self.folder.runs / name / "draws.zarr", group)
        if values is None:
            raise ValueError(f"run {name} kept no {group.replace('_', ' ')} draws")
        return torch.from_numpy(values)
