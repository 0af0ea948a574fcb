"""The end of the report: what every method says of itself, and with what everything was run."""

from __future__ import annotations

import re
from typing import Any

from implicit_infer.compare.words import duration
from implicit_infer.report.findings import Findings
from implicit_infer.report.wording import value_in_words


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
    """What a method's runs warn of; sentences that differ in their numbers alone are said once."""
    shown = found.shown(label)
    runs = sorted((run for run in found.comparison.runs if run.label == label), key=lambda run: run != shown)
    warnings = [warning for run in runs for warning in found.comparison.results[run].get("warnings", [])]
    return list({re.sub(r"[\d.,]+", "0", warning): warning for warning in reversed(warnings)}.values())[::-1]


def caption(found: Findings) -> str:
    """Which runs the figures are from."""
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


def _pairs(values: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), value_in_words(value)) for name, value in values.items()]
