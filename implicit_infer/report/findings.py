"""What a comparison found: who came closest, what failed, which runs are shown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from implicit_infer.compare.folder import FINISHED
from implicit_infer.report.wording import run_in_words, shorten_paths

if TYPE_CHECKING:
    from implicit_infer.compare.plan import Run
    from implicit_infer.compare.results import Results


class Findings:
    """A comparison seen by the report.

    Args:
        comparison: The comparison.

    Attributes:
        about: What was asked: simulator, settings, parameters, observation, call, command, workers, cores, versions.
        labels: Methods, in order.
        budget: The largest budget, which pictures and details show.
    """

    def __init__(self, comparison: Results) -> None:
        self.comparison = comparison
        self.about: dict[str, Any] = comparison.folder.starts()[-1]
        self.labels = list(dict.fromkeys(run.label for run in comparison.runs))
        self.budgets = sorted({run.budget for run in comparison.runs})
        self.budget = self.budgets[-1]
        self.repeats = len({run.repeat for run in comparison.runs})
        reference = comparison.reference
        self.reference = reference if reference is not None and reference["status"] == FINISHED else None

    def colour(self, label: str) -> str:
        """The CSS variable of a method's colour."""
        return f"--method-{self.labels.index(label)}"

    def shown(self, label: str) -> Run | None:
        """The run whose draws are drawn: the first finished one at the largest budget that has any."""
        runs = [run for run, about in self.comparison.results.items() if about["status"] == FINISHED]
        own = sorted((run for run in runs if run.label == label), key=lambda run: (-run.budget, run.repeat))
        return own[0] if own else None

    def ranking(self) -> list[tuple[str, float, float]]:
        """Methods with their median C2ST and its standard error at the largest budget, the closest first."""
        at_budget = self.comparison.table[self.comparison.table.budget == self.budget]
        found = []
        for label in self.labels:
            scores = at_budget[at_budget.method == label].dropna(subset=["c2st"])
            if len(scores):
                error = float(scores.c2st_se.mean()) / math.sqrt(len(scores))
                found.append((label, float(scores.c2st.median()), error))
        return sorted(found, key=lambda entry: entry[1])

    def closest(self) -> list[str]:
        """The closest method, and those that its standard errors do not tell from it."""
        ranking = self.ranking()
        if not ranking:
            return []
        _, best, error = ranking[0]
        return [label for label, score, own in ranking if score - best <= 2 * math.hypot(error, own)]

    @property
    def subject(self) -> str:
        """The simulator and the observation, in words."""
        name = self.about["observation"]
        return self.about["simulator"] + (f" from the observation {name}" if name else "")

    def failures(self) -> list[dict[str, str]]:
        """Runs that failed, the reference included, with their tracebacks."""
        failed = [(run.name, run_in_words(run, self.repeats), about) for run, about in self.comparison.results.items()]
        reference = self.comparison.reference
        if reference is not None:
            failed.append(("reference", "reference posterior", reference))
        return [
            {"name": words, "error": about["error"], "traceback": self._traceback(name)}
            for name, words, about in failed
            if about["error"]
        ]

    def _traceback(self, name: str) -> str:
        path = self.comparison.folder.runs / name / "traceback.txt"
        return shorten_paths(path.read_text()) if path.exists() else ""
