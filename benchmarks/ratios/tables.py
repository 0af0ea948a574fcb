"""What came out, as tables: what was asked of the estimators, then each problem with every method."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.ratios.methods import methods
from benchmarks.ratios.run import read
from implicit_estimators.problems import PROBLEMS

ORACLE = "gaussian plug-in"
TARGETS = {
    ("a", 10_000): (0.10, 0.07),
    ("b", 10_000): (0.19, 0.18),
    ("c", 10_000): (1.0, 1.8),
    ("c", 100_000): (0.6, 1.2),
}
"""Mean absolute errors on p and on q that generic networks are asked for."""
LADDER = {"ladder-20": 0.05, "c": 0.05, "ladder-80": 0.05, "ladder-160": 0.10, "ladder-320": None}
"""Relative errors of the mutual information that generic networks are asked for."""
TOLD = (ORACLE, "gaussian", "mixture", "auto")
"""Methods that contain the truth of normals, beside those with "quadratic" in their name; auto may choose one."""
MARKS = ("<!-- tables begin -->", "<!-- tables end -->")


@dataclass
class Group:
    """All seeds of one method on one problem at one number of rows."""

    peer: bool
    lines: list[dict[str, Any]] = field(default_factory=list)
    failed: int = 0

    def median(self, figure: str) -> float:
        """Over the seeds that gave a figure."""
        return statistics.median(line[figure] for line in self.lines)

    def spread(self, figure: str, digits: int) -> str:
        """Lowest and highest."""
        values = [line[figure] for line in self.lines]
        return f"{short(min(values), digits)}–{short(max(values), digits)}"

    @property
    def sound(self) -> bool:
        """Whether at least half of the fits gave a figure."""
        return len(self.lines) > 0 and len(self.lines) >= self.failed


Results = dict[tuple[str, int], dict[str, Group]]
Table = tuple[str, list[str], list[list[str]], str]
"""Title, columns, rows, and what is to be said below."""


def gather(path: Path) -> Results:
    """The results by problem and rows, then by method, in the order of the problems and of the methods."""
    known = methods()
    order = {name: index for index, name in enumerate(known)}
    results: Results = defaultdict(dict)
    read_lines = [(cell, line) for cell, line in read(path).items() if cell.method in known]
    places = list(PROBLEMS)
    for cell, line in sorted(
        read_lines, key=lambda pair: (places.index(pair[0].problem), pair[0].rows, order[pair[0].method])
    ):
        group = results[cell.problem, cell.rows].setdefault(cell.method, Group(known[cell.method].peer))
        if "error" in line:
            group.failed += 1
        else:
            group.lines.append(line)
    return results


def short(value: float, digits: int = 3) -> str:
    """A number in few characters, at any size."""
    return f"{value:.{digits}f}" if abs(value) < 100 else f"{value:.3g}"


def sides(group: Group, error: str, digits: int = 2) -> str:
    """An error on p and on q."""
    return f"{short(group.median(f'{error}_p'), digits)} / {short(group.median(f'{error}_q'), digits)}"


def rival(
    auto: Group, groups: dict[str, Group], peer: bool, without: tuple[str, ...]
) -> tuple[str, Group, Group] | None:
    """The method that comes out best beside ``auto``, and both on the seeds that they share: half or more."""
    found = []
    for name, group in groups.items():
        shared = {line["seed"] for line in auto.lines} & {line["seed"] for line in group.lines}
        if group.peer is peer and group.sound and name not in without and 2 * len(shared) >= len(auto.lines):
            pair = [Group(g.peer, [line for line in g.lines if line["seed"] in shared]) for g in (group, auto)]
            found.append((name, pair[0], pair[1]))
    return min(found, key=lambda one: one[1].median("rmse") / one[2].median("rmse"), default=None)


def automatic(results: Results) -> Table:
    """Whether ``auto`` is as good as the best there is: pairwise, each on the seeds that both were run on."""
    rows, near, ahead, ahead_plain, ours_ahead = [], 0, 0, 0, 0
    for (problem, n), groups in results.items():
        auto = groups.get("auto")
        if auto is None or not auto.sound:
            continue
        peer, mine = rival(auto, groups, True, ()), rival(auto, groups, False, ("auto",))
        plain = rival(auto, groups, True, (ORACLE,))
        if peer is None:
            continue
        row, shares = [problem, str(n), short(PROBLEMS[problem].kl, 2), str(len(auto.lines))], []
        for one in (peer, mine):
            row.append("–" if one is None else f"{one[0]}: {sides(one[1], 'rmse')} ({short(one[1].median('rmse'))})")
            shares.append(0.0 if one is None else one[2].median("rmse") / one[1].median("rmse"))
        wins = plain is None or plain[2].median("rmse") < plain[1].median("rmse")
        near, ahead, ahead_plain = near + (max(shares) <= 1.05), ahead + (shares[0] < 1), ahead_plain + wins
        ours_ahead += shares[0] < max(1.0, shares[1])
        leads = "yes" if shares[0] < 1 else ("but for the oracle" if wins else "no")
        rows.append([*row, f"{sides(auto, 'rmse')} ({short(auto.median('rmse'))})", f"{max(shares):.2f}", leads])
    said = (
        f"auto is within 5 % of the best on {near} of {len(rows)}, ahead of every peer on {ahead} of {len(rows)} "
        f"({ahead_plain} without the plug-in, an oracle where both sides are normal). "
        f"The best of ours, auto among them, is ahead of every peer on {ours_ahead} of {len(rows)}. "
        "Two methods are compared on the seeds that both were run on."
    )
    columns = [
        "problem",
        "rows",
        "KL",
        "seeds",
        "best peer",
        "best of ours",
        "auto",
        "auto / best",
        "ahead of every peer",
    ]
    return "RMSE of log r on p / on q (root mean square of both)", columns, rows, said


def quadratic(results: Results) -> Table:
    """The quadratic log-ratio beside those that know as much."""
    rows = []
    for problem in ("a", "b", "c"):
        groups = results.get((problem, 10_000), {})
        rows += [
            [problem, name, sides(groups[name], "mae"), f"{groups[name].median('cpu'):.2f}"]
            for name in ("quadratic", "gaussian", "sklearn LR quadratic", ORACLE)
            if name in groups and groups[name].sound
        ]
    return "Quadratic log-ratios: MAE on p / on q, 10,000 rows", ["problem", "method", "MAE", "CPU s"], rows, ""


def generic(results: Results) -> Table:
    """Networks that know nothing of normals."""
    rows = []
    for (problem, n), (on_p, on_q) in TARGETS.items():
        for name, group in results.get((problem, n), {}).items():
            if group.sound and name not in TOLD and "quadratic" not in name:
                met = group.median("mae_p") <= on_p and group.median("mae_q") <= on_q
                row = [problem, str(n), name, sides(group, "mae", 3), f"{on_p:g} / {on_q:g}", "yes" if met else "no"]
                rows.append([*row, f"{group.median('cpu'):.1f}"])
    columns = ["problem", "rows", "method", "MAE", "asked", "met", "CPU s"]
    return "Told nothing of normals: MAE on p / on q", columns, rows, ""


def ladder(results: Results) -> Table:
    """Mutual information where there is much of it."""
    rows = []
    for (problem, n), groups in results.items():
        if problem not in LADDER:
            continue
        truth, asked = PROBLEMS[problem].kl, LADDER[problem]
        for name, group in groups.items():
            if group.sound:
                off = statistics.median(line["kl"] / truth - 1 for line in group.lines)
                row = [problem, str(n), name, f"{short(group.median('kl'), 2)} of {truth:g}", group.spread("kl", 2)]
                met = "–" if asked is None else ("yes" if abs(off) <= asked else "no")
                rows.append([*row, f"{100 * off:+.1f} %", met, f"{group.median('cpu'):.1f}"])
    columns = ["problem", "rows", "method", "information", "lowest–highest", "off by", "met", "CPU s"]
    return "The ladder of mutual information, in nats", columns, rows, ""


def kernels(results: Results) -> Table:
    """Our uLSIF beside densratio's, in time and memory."""
    rows = []
    for (problem, n), groups in results.items():
        if problem not in ("a", "a_rev", "b", "c") or n < 10_000:
            continue
        slow = groups.get("densratio uLSIF")
        for name, group in groups.items():
            if group.sound and name in ("ulsif", "densratio uLSIF"):
                speed = f"{slow.median('cpu') / group.median('cpu'):.0f}" if slow and name == "ulsif" else ""
                cost = [f"{group.median('cpu'):.2f}", f"{group.median('memory'):.0f}", speed]
                rows.append([problem, str(n), name, sides(group, "rmse"), *cost])
    columns = ["problem", "rows", "method", "RMSE", "CPU s", "MB", "times faster"]
    return "uLSIF with leave-one-out selection", columns, rows, ""


def problem_table(problem: str, n: int, groups: dict[str, Group]) -> Table:
    """Every method on one problem."""
    rows = []
    for name, group in groups.items():
        label = name if group.peer else f"**{name}**"
        if not group.lines:
            rows.append([label, *["–"] * 6, "0", str(group.failed)])
            continue
        row = [label, sides(group, "mae"), sides(group, "rmse"), group.spread("rmse", 2), short(group.median("kl"))]
        cost = [f"{group.median('cpu'):.2f}", f"{group.median('memory'):.0f}"]
        rows.append([*row, *cost, str(len(group.lines)), str(group.failed)])
    columns = ["method", "MAE p / q", "RMSE p / q", "lowest–highest of both", "KL", "CPU s", "MB", "seeds", "failed"]
    title = f"{problem}, {n:,} rows: {PROBLEMS[problem].description} (KL {short(PROBLEMS[problem].kl)})"
    return title, columns, rows, ""


def render(table: Table, markdown: bool, level: int = 2) -> str:
    """A table as text in columns, or in Markdown."""
    title, columns, rows, said = table
    if not rows:
        return f"{'#' * level + ' ' if markdown else ''}{title}\n\nNot measured yet.\n"
    if markdown:
        lines = [f"| {' | '.join(row)} |" for row in [columns, ["---"] * len(columns), *rows]]
        return "\n".join([f"{'#' * level} {title}", "", *lines, *(["", said] if said else [])]) + "\n"
    plain = [[cell.replace("**", "") if i else cell for i, cell in enumerate(row)] for row in [columns, *rows]]
    plain = [[cell.replace("**", "* ", 1).replace("**", "") for cell in row] for row in plain]
    widths = [max(len(row[i]) for row in plain) for i in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in plain]
    return "\n".join([title, "-" * len(title), *lines, *([said] if said else [])]) + "\n"


def summary(path: Path, *, markdown: bool = False, detail: bool = False, into: Path | None = None) -> None:
    """Print the tables, or put them between the marks of a page.

    Args:
        path: The results file.
        markdown: For the page, and with every problem.
        detail: With a table for each problem.
        into: The page.

    Raises:
        SystemExit: If there are no results, or the page has no marks.
    """
    results = gather(path)
    if not results:
        raise SystemExit(f"{path}: no results; python -m benchmarks.ratios run")
    markdown = markdown or into is not None
    parts = [render(make(results), markdown) for make in (automatic, quadratic, generic, ladder, kernels)]
    if detail or markdown:
        parts += ["## Every problem\n"] if markdown else []
        parts += [render(problem_table(*key, groups), markdown, 3) for key, groups in results.items()]
    text = "\n".join(parts)
    if into is None:
        print(text, end="")
        return
    page = into.read_text()
    if not all(mark in page for mark in MARKS):
        raise SystemExit(f"{into}: expected the lines {MARKS[0]} and {MARKS[1]}")
    between = re.compile(f"{re.escape(MARKS[0])}.*{re.escape(MARKS[1])}", re.DOTALL)
    into.write_text(between.sub(lambda _: f"{MARKS[0]}\n{text}{MARKS[1]}", page))
