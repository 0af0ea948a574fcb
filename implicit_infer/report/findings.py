"""What a comparison found, in words and numbers for a reader: headline, table, details, failures, provenance."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from implicit_infer.compare.folder import ABSENT, FAILED, FINISHED
from implicit_infer.compare.words import duration

if TYPE_CHECKING:
    from implicit_infer.compare.plan import Run
    from implicit_infer.compare.results import Results

COLUMNS = (
    "Simulations",
    "Time",
    "C2ST to the reference",
    "Marginal distance",
    "Distinct draws",
    "Data in 90\u00a0% bands",
    "Predictive p",
)

DASH = "–"


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


def context(found: Findings) -> dict[str, Any]:
    """Everything that the page's template says."""
    return {
        "title": f"{found.about['simulator']}: {in_words(len(found.labels))} methods compared",
        "eyebrow": " · ".join(
            filter(None, (found.about["simulator"], found.about["observation"], "implicit-infer compare"))
        ),
        "headline": headline(found),
        "lede": lede(found),
        "reading": reading(found),
        "methods": [
            {"label": label, "colour": found.colour(label)} for label in found.labels if found.shown(label) is not None
        ],
        "has_reference": found.reference is not None,
        "columns": columns(found),
        "several_budgets": len(found.budgets) > 1,
        "rows": rows(found),
        "run_columns": ("Method", "Budget", "Repeat", "Status", *COLUMNS),
        "runs": every_run(found) if found.repeats > 1 else [],
        "cards": cards(found),
        "details_caption": _details_caption(found),
        "failures": found.failures(),
        "provenance": provenance(found),
        "command": found.about["command"],
        "call": found.about["call"],
        "footer": f"Written by implicit-infer {found.about['versions'].get('implicit-infer', '')}; "
        f"last started {found.about['at'].replace('T', ' ').removesuffix('+00:00')} UTC.",
    }


def headline(found: Findings) -> str:
    """The finding in one sentence."""
    at = f"at {found.budget:,} simulations"
    ranking, closest = found.ranking(), found.closest()
    if not any(about["status"] == FINISHED for about in found.comparison.results.values()):
        return "No method gave an answer"
    if not ranking:
        return "Without a reference posterior, only the methods' predictions can be judged"
    who, best = listed(closest), ranking[0][1]
    if best > 0.9:
        return f"No method came close to the reference posterior {at}; nearest {is_or_are(closest)} {who}"
    if len(ranking) == 1:
        return f"{who} scores {best:.2f} against the reference posterior {at}"
    if len(closest) == len(ranking):
        return f"{who} are equally close to the reference posterior {at}"
    return f"{who} came closest to the reference posterior {at}"


def lede(found: Findings) -> list[str]:
    """What was asked and what came out, in a few sentences."""
    about, n, d = found.about, len(found.labels), len(found.about["parameters"])
    budgets = f"{plural('budget', len(found.budgets))} of {listed([f'{budget:,}' for budget in found.budgets])}"
    times = {1: "once", 2: "twice"}.get(found.repeats, f"{in_words(found.repeats)} times")
    sentences = [
        f"{in_words(n).capitalize()} {plural('method', n)} inferred the {in_words(d)} {plural('parameter', d)} of "
        f"{about['simulator']}{_on(found)}, each with {'a ' * (len(found.budgets) == 1)}{budgets} simulations, {times}."
    ]
    ranking = found.ranking()
    if ranking:
        label, score, error = ranking[0]
        text = (
            f"A classifier tells the draws of {label} from the reference's with an accuracy of "
            f"{score:.3f}\u00a0±\u00a0{error:.3f}, where 0.5 is perfect and 1 is worst"
        )
        if len(ranking) > 1:
            text += f"; {ranking[-1][0]}, the farthest, scores {ranking[-1][1]:.3f}"
        sentences.append(f"{text}. {reference_in_words(found)}")
    elif (found.comparison.reference or {}).get("status") == ABSENT:
        sentences.append("Nothing exact is known of this simulator's posterior, so there is no reference to score by.")
    failed = sum(about["status"] == FAILED for about in found.comparison.results.values())
    if failed:
        total = len(found.comparison.runs)
        sentences.append(f"{failed} of {total} {plural('run', total)} failed; the reason stands below.")
    return sentences


def reference_in_words(found: Findings) -> str:
    """Where the reference comes from and how good it is."""
    assert found.reference is not None
    about = found.reference
    kind = {"exact": "the exact posterior", "nuts": "NUTS on the known likelihood", "given": "draws that were given"}
    words = f"The reference is {kind.get(about['method'], about['method'])}"
    figures = about.get("figures") or {}
    if "split_r_hat" in figures and figures["split_r_hat"] is not None:
        words += f" (split R-hat {figures['split_r_hat']:.3f}"
        if figures.get("effective_sample_size"):
            words += f", effective sample size {figures['effective_sample_size']:,.0f}"
        words += ")"
    return f"{words}."


def reading(found: Findings) -> str:
    """How to read the table."""
    scored = found.comparison.results
    n = next((about["scored_draws"] for about in scored.values() if about.get("scored_draws")), None)
    parts = []
    if n is not None:
        parts.append(
            f"C2ST is the accuracy of a classifier between {n:,} draws of the method and as many of the reference: 0.5 "
            "means that they cannot be told apart, 1 that they never overlap. Repeated draws alone raise it. Marginal "
            "distance is the Wasserstein distance of single parameters, in standard deviations of the reference and "
            f"averaged; two sets of draws of one law are about {1.8 / math.sqrt(n):.2f} apart."
        )
    parts.append(
        "Predictions are good when about 90\u00a0% of the data lie in their 90\u00a0% bands and p is not close to 0; "
        "that alone does not make a posterior right. Time includes each method's share of the common simulations."
    )
    if found.repeats > 1:
        parts.append(f"Numbers are medians over {in_words(found.repeats)} repeats, with the lowest and the highest.")
    return " ".join(parts)


def columns(found: Findings) -> list[str]:
    """The table's columns; the budget is one where there are several."""
    return ["Method", *["Budget"] * (len(found.budgets) > 1), *COLUMNS]


def rows(found: Findings) -> list[dict[str, Any]]:
    """The table: one row for each method and budget."""
    table, closest = found.comparison.table, found.closest()
    made = []
    for (label, budget), group in table.groupby(["method", "budget"], sort=False):
        row: dict[str, Any] = {"method": label, "budget": f"{budget:,}", "colour": found.colour(str(label))}
        row["best"] = label in closest and budget == found.budget
        good = group[group.status == FINISHED]
        if len(good):
            row["cells"] = _cells(good)
        else:
            row["failed"] = f"failed: {group.error.iloc[0]}" if group.error.iloc[0] else "not run"
        made.append(row)
    return sorted(made, key=lambda row: int(row["budget"].replace(",", "")))


def _cells(group: Any) -> list[dict[str, Any]]:
    """Medians over repeats; with one repeat, its numbers."""
    several = len(group) > 1

    def cell(column: str, form: Any) -> dict[str, Any]:
        values = group[column].dropna()
        if not len(values):
            return {"text": DASH, "place": None}
        low, high = form(values.min()), form(values.max())
        spread = f"{low}{DASH}{high}" if several and low != high else ""
        return {"text": form(values.median()), "range": spread, "place": None}

    c2st = cell("c2st", lambda value: f"{value:.3f}")
    if c2st["text"] != DASH:
        c2st["place"] = round(100 * min(max(2 * group.c2st.median() - 1, 0.0), 1.0), 1)
        if not several:
            c2st["se"] = f"± {group.c2st_se.iloc[0]:.3f}"
    return [
        cell("simulations", lambda value: f"{value:,.0f}"),
        cell("wall_s", duration),
        c2st,
        cell("wasserstein", "{:.2f}".format),
        cell("distinct", lambda value: f"{value:,.0f}"),
        cell("coverage_90", percent),
        cell("p_value", lambda value: f"{value:.3f}" if value < 0.1 else f"{value:.2f}"),
    ]


def every_run(found: Findings) -> list[list[str]]:
    """The table of all runs, where the main one shows medians."""

    def number(value: float | None, form: Callable[[float], str]) -> str:
        return DASH if value is None else form(value)

    return [
        [
            run.label,
            f"{run.budget:,}",
            str(run.repeat + 1),
            about["status"],
            number(about.get("simulations"), "{:,.0f}".format),
            number(about.get("wall_s"), duration),
            number(about.get("c2st"), "{:.3f}".format),
            number(about.get("wasserstein"), "{:.2f}".format),
            number(about.get("distinct"), "{:,.0f}".format),
            number(about.get("coverage_90"), percent),
            number(about.get("p_value"), "{:.3f}".format),
        ]
        for run, about in found.comparison.results.items()
    ]


def cards(found: Findings) -> list[dict[str, Any]]:
    """What every method, and the reference, says of itself."""
    made = []
    for label in found.labels:
        run = found.shown(label)
        if run is None:
            continue
        about = found.comparison.results[run]
        seconds = about["seconds"]
        figures = [
            ("simulating, shared", duration(seconds["simulation"])) if seconds["simulation"] else None,
            ("inference", duration(seconds["inference"])),
            ("sampling", duration(seconds["sampling"])),
            ("processor time", duration(about["cpu_s"])),
            _farthest(found, about),
            ("predictions failed", f"{about['predictive_failed']}") if about.get("predictive_failed") else None,
        ]
        named = about["method"] if about["method"] != label else ""
        made.append(
            {
                "label": label,
                "colour": found.colour(label),
                "what": f"a variant of {named}" if named else "",
                "warnings": _warnings(found, label),
                "figures": [figure for figure in figures if figure] + _pairs(about["figures"]),
                "settings": _pairs(about["settings"]),
            }
        )
    if found.reference is not None:
        about = found.reference
        figures = [("method", about["method"]), ("time", duration(about["wall_s"])), *_pairs(about["figures"])]
        card: dict[str, Any] = {"label": "reference", "colour": "--reference", "what": "", "figures": figures}
        made.append({**card, "warnings": about["warnings"], "settings": []})
    return made


def _farthest(found: Findings, about: dict[str, Any]) -> tuple[str, str] | None:
    """The parameter whose marginal is farthest from the reference's."""
    distances = about.get("wasserstein_each")
    if not distances:
        return None
    worst = max(range(len(distances)), key=distances.__getitem__)
    return "farthest parameter", f"{found.about['parameters'][worst]}, {distances[worst]:.1f} sd"


def _warnings(found: Findings, label: str) -> list[str]:
    """What a method's runs warn of, each once."""
    runs = found.comparison.results.items()
    own = [about for run, about in runs if run.label == label and about["status"] == FINISHED]
    return list(dict.fromkeys(warning for about in own for warning in about["warnings"]))


def _details_caption(found: Findings) -> str:
    text = "Times and figures as each method reports them"
    if len(found.comparison.runs) > len(found.labels):
        text += f", from the first repeat at {found.budget:,} simulations; warnings are those of all its runs"
    return f"{text}."


def provenance(found: Findings) -> list[tuple[str, str]]:
    """With what it was run."""
    about, asked = found.about, found.comparison.question
    settings = ", ".join(f"{key} = {value}" for key, value in about["settings"].items())
    return [
        ("simulator", about["simulator"] + (f" ({settings})" if settings else "")),
        ("observation", about["observation"] or "given as an array"),
        ("seed", str(asked["seed"])),
        ("draws scored", f"{asked['draws']:,} of each posterior"),
        ("predictions", f"{asked['predictive']:,} of each posterior, not counted in the budget"),
        ("workers", f"{about['workers']} of one thread each" if about["workers"] > 1 else "1, in one process"),
        ("cores", str(about["cores"])),
        ("versions", ", ".join(f"{name} {version}" for name, version in about["versions"].items())),
    ]


def _on(found: Findings) -> str:
    return f" from the observation {found.about['observation']}" if found.about["observation"] else ""


def _pairs(values: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), value_in_words(value)) for name, value in values.items()]


def value_in_words(value: Any) -> str:
    """A figure or a setting for a reader; of long lists only the ends."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, list):
        if len(value) > 6:
            return f"{value_in_words(value[0])}, …, {value_in_words(value[-1])} ({len(value)} values)"
        return ", ".join(map(value_in_words, value))
    if isinstance(value, dict):
        return "; ".join(f"{name.replace('_', ' ')}: {value_in_words(part)}" for name, part in value.items())
    return str(value)


def run_in_words(run: Run, repeats: int) -> str:
    """A run as "nre, 1,000 simulations, repeat 2"."""
    return f"{run.label}, {run.budget:,} simulations" + (f", repeat {run.repeat + 1}" if repeats > 1 else "")


def in_words(n: int) -> str:
    """Small numbers as words."""
    names = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return names[n] if n < len(names) else f"{n:,}"


def percent(share: float) -> str:
    """A share as "93 %", which no line break divides."""
    return f"{100 * share:.0f}\u00a0%"


def plural(word: str, n: int) -> str:
    """The word for n of them."""
    return word if n == 1 else f"{word}s"


def is_or_are(items: Sequence[str]) -> str:
    """The verb for so many."""
    return "is" if len(items) == 1 else "are"


def listed(items: Sequence[str]) -> str:
    """Items as "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def shorten_paths(text: str) -> str:
    """A traceback without the folders of the machine that it comes from."""
    return re.sub(r'File "([^"]*[/\\])([^"/\\]+[/\\][^"/\\]+)"', r'File "\2"', text)


def plain_table(found: Findings) -> tuple[list[str], list[list[str]]]:
    """The columns and the rows of the table for a terminal."""
    lines = []
    for row in rows(found):
        cells = row.get("cells") or [{"text": row["failed"].partition(":")[0]}]
        texts = [" ".join(filter(None, (cell["text"], cell.get("se"), cell.get("range")))) for cell in cells]
        lines.append([row["method"], *[row["budget"]] * (len(found.budgets) > 1), *texts])
    return columns(found), lines
