"""The table of the report and of the terminal: one row for each method and budget, medians over repeats."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from implicit_infer.compare.folder import FINISHED
from implicit_infer.compare.words import duration
from implicit_infer.report.findings import Findings
from implicit_infer.report.wording import DASH, percent

if TYPE_CHECKING:
    import pandas


class Column(NamedTuple):
    """A column: where its numbers come from, its heads on the page and on a terminal, and how a number is written."""

    key: str
    head: str
    short: str
    form: Callable[[float], str]


COLUMNS = (
    Column("simulations", "Simulations", "sims", "{:,.0f}".format),
    Column("wall_s", "Time", "time", duration),
    Column("c2st", "C2ST to the reference", "C2ST", "{:.3f}".format),
    Column("wasserstein", "Marginal distance", "marginal", "{:.2f}".format),
    Column("distinct", "Distinct draws", "distinct", "{:,.0f}".format),
    Column("coverage_90", "Data in 90\u00a0% bands", "in 90 %", percent),
    Column("p_value", "Predictive p", "p", lambda p: f"{p:.3f}" if p < 0.1 else f"{p:.2f}"),
)


def columns(found: Findings) -> list[Column]:
    """The columns in which some run has a number."""
    table = found.comparison.table
    return [column for column in COLUMNS if table[column.key].notna().any()]


def heads(found: Findings) -> list[str]:
    """The heads of the page's table; the budget is a column where there are several."""
    return ["Method", *["Budget"] * (len(found.budgets) > 1), *(column.head for column in columns(found))]


def rows(found: Findings) -> list[dict[str, Any]]:
    """The rows of the page's table."""
    closest, shown = found.closest(), columns(found)
    made = []
    for (label, budget), group in found.comparison.table.groupby(["method", "budget"], sort=False):
        row: dict[str, Any] = {"method": label, "budget": f"{budget:,}", "colour": found.colour(str(label))}
        row["best"] = label in closest and budget == found.budget
        good = group[group.status == FINISHED]
        if len(good):
            row["cells"] = [_cell(good, column) for column in shown]
        else:
            row["failed"] = f"failed: {group.error.iloc[0]}" if group.error.iloc[0] else "not run"
        made.append((int(str(budget)), row))
    return [row for _, row in sorted(made, key=lambda entry: entry[0])]


def _cell(group: pandas.DataFrame, column: Column) -> dict[str, Any]:
    """The median over repeats with the extremes; C2ST also as a place between 0.5 and 1, and with its error."""
    values = group[column.key].dropna()
    cell: dict[str, Any] = {"text": DASH, "beside": "", "place": None}
    if len(values):
        low, high = column.form(values.min()), column.form(values.max())
        cell["text"] = column.form(values.median())
        cell["beside"] = f"{low}{DASH}{high}" if low != high else ""
    if len(values) and column.key == "c2st":
        cell["place"] = round(100 * min(max(2 * values.median() - 1, 0.0), 1.0), 1)
        if len(group) == 1:
            cell["beside"] = f"± {group.c2st_se.iloc[0]:.3f}"
    return cell


def every_run(found: Findings) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table of all runs, where the main one shows medians."""
    shown = columns(found)
    lines = []
    for run, about in found.comparison.results.items():
        numbers = [DASH if about.get(c.key) is None else c.form(about[c.key]) for c in shown]
        lines.append([run.label, f"{run.budget:,}", str(run.repeat + 1), about["status"], *numbers])
    return ["Method", "Budget", "Repeat", "Status", *(column.head for column in shown)], lines


def plain_table(found: Findings) -> tuple[list[str], list[list[str]]]:
    """Heads and rows for a terminal, which is narrow: of the extremes only those of C2ST."""
    shown, several = columns(found), len(found.budgets) > 1
    lines = []
    for row in rows(found):
        texts = ["failed" if row["failed"].startswith("failed") else row["failed"]] if "failed" in row else []
        for column, cell in zip(shown, row.get("cells", []), strict=False):
            texts.append(f"{cell['text']} {cell['beside']}".strip() if column.key == "c2st" else cell["text"])
        lines.append([row["method"], *[row["budget"]] * several, *texts])
    return ["method", *["budget"] * several, *(column.short for column in shown)], lines
