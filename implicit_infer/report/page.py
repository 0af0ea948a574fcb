"""A comparison as one self-contained page: what was asked, who came closest, the table, the pictures, what was run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from implicit_infer.report import details, pictures, summary, table
from implicit_infer.report.findings import Findings
from implicit_infer.report.wording import in_words, percent, plural, run_in_words

if TYPE_CHECKING:
    from implicit_infer.compare.results import Results

COLOURS = (
    ("#2f6fb7", "#6aa9ea"),
    ("#d0701c", "#f0a057"),
    ("#2c8c6b", "#5cc29f"),
    ("#8e4fb0", "#c394e0"),
    ("#b83b5e", "#ec8aa6"),
    ("#7a6a16", "#cdbb58"),
    ("#14838f", "#58c3cf"),
    ("#6b5a4e", "#bba897"),
)
"""A colour for each method on light and on dark paper; later methods begin anew."""


def write_page(comparison: Results, path: Path) -> Path:
    """Write the report of a comparison to ``path``, and return it."""
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    template = jinja2.Environment(loader=loader, autoescape=True).get_template("page.html")
    found = Findings(comparison)
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(found.labels))]
    page = template.render(colours=colours, **said(found), **drawn(found))
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(page, encoding="utf-8")
    os.replace(draft, path)
    return path


def said(found: Findings) -> dict[str, Any]:
    """Everything that the page's template says."""
    about = found.about
    n = len(found.labels)
    run_heads, runs = table.every_run(found)
    return {
        "title": f"{about['simulator']}: {in_words(n)} {plural('method', n)} compared",
        "eyebrow": " · ".join(filter(None, (about["simulator"], about["observation"], "implicit-infer compare"))),
        "headline": summary.headline(found),
        "lede": summary.lede(found),
        "reading": summary.reading(found),
        "methods": [{"label": label, "colour": found.colour(label)} for label in found.labels if found.shown(label)],
        "has_reference": found.reference is not None,
        "columns": table.heads(found),
        "several_budgets": len(found.budgets) > 1,
        "rows": table.rows(found),
        "run_columns": run_heads,
        "runs": runs if found.repeats > 1 else [],
        "cards": details.cards(found),
        "details_caption": details.caption(found),
        "failures": found.failures(),
        "provenance": details.provenance(found),
        "command": about["command"],
        "call": about["call"],
        "footer": f"Written by implicit-infer {about['versions'].get('implicit-infer', '')}; "
        f"last started {about['at'].replace('T', ' ').removesuffix('+00:00')} UTC.",
    }


def drawn(found: Findings) -> dict[str, Any]:
    """All pictures of the page, as SVG."""
    return {"by_budget": _by_budget(found), **_posteriors(found), **_predictions(found)}


def _posteriors(found: Findings) -> dict[str, Any]:
    """Marginals of all methods together, and pairs of each over the reference."""
    comparison = found.comparison
    runs = {label: run for label in found.labels if (run := found.shown(label)) is not None}
    if not runs:
        return {"pairs": [], "marginals": ""}
    draws = {label: comparison.draws(run.label, run.budget, run.repeat).numpy() for label, run in runs.items()}
    reference = None if found.reference is None else comparison.draws("reference").numpy()
    names = found.about["parameters"]
    limits = pictures.parameter_limits(list(draws.values()), reference)
    first = (found.closest() or list(runs))[0]
    made = [
        {
            "label": label,
            "colour": found.colour(label),
            "first": label == first,
            "svg": pictures.pairs(draws[label], reference, names, limits, f"pairs{i}"),
            "caption": _caption(found, run, draws[label]),
        }
        for i, (label, run) in enumerate(runs.items())
    ]
    lines = (
        "coloured lines 50 % and 90 % of the method's"
        if reference is not None
        else "Lines hold 50 % and 90 % of the mass"
    )
    areas = "Grey areas hold 50 % and 90 % of the reference's mass, " if reference is not None else ""
    caption = (
        f"{areas}{lines}. A method with fewer than {pictures.FEW} distinct draws, or with much of its mass outside of "
        "the picture, is shown by its draws."
    )
    if len(names) > pictures.SHOWN:
        caption += f" The first {pictures.SHOWN} of {len(names)} parameters are shown."
    colours = stand_ins(found)
    return {
        "pairs": made,
        "pairs_caption": caption,
        "marginals": pictures.marginals(draws, reference, names, limits, colours, "marginals"),
    }


def _predictions(found: Findings) -> dict[str, Any]:
    """Predictive bands of each method under the data, the reference's last."""
    comparison = found.comparison
    observed = comparison.observed()
    series = None if observed is None else pictures.Series.of(observed.shape, found.about)
    if observed is None or series is None or not comparison.question["predictive"]:
        return {"bands": []}
    predictions: dict[str, tuple[np.ndarray, str]] = {}
    for label in found.labels:
        run = found.shown(label)
        if run is not None:
            about = comparison.results[run]
            caption = ""
            if about.get("p_value") is not None:
                caption = f"{percent(about['coverage_90'])} of the data in the 90 % bands, p = {about['p_value']:.2g}"
            predictions[label] = comparison.predictive(label, run.budget, run.repeat).numpy(), caption
    if found.reference is not None:
        predictions["reference"] = comparison.predictive("reference").numpy(), ""
    data = observed.numpy()
    limits = pictures.series_limits([x for x, _ in predictions.values()], data, len(series.labels))
    unit = f", in {series.unit}" if series.unit else ""
    caption = (
        f"Simulations at posterior draws{unit}: median, central 50 % and 90 %, with the data as points. All methods "
        "share their axes; bands that leave the picture are wider than it."
    )
    made = [
        {
            "label": label,
            "colour": "--reference" if label == "reference" else found.colour(label),
            "svg": pictures.bands(x, data, series, limits, f"bands{i}"),
            "caption": caption_of,
        }
        for i, (label, (x, caption_of)) in enumerate(predictions.items())
    ]
    return {"bands": made, "bands_caption": caption}


def _by_budget(found: Findings) -> str:
    scores = found.comparison.table.dropna(subset=["c2st"])
    if scores.budget.nunique() < 2:
        return ""
    points = {
        label: list(zip(own.budget.tolist(), own.c2st.tolist(), strict=True))
        for label in found.labels
        if len(own := scores[scores.method == label])
    }
    return pictures.by_budget(points, stand_ins(found), "budgets")


def stand_ins(found: Findings) -> dict[str, str]:
    """For each method the colour that matplotlib is given, which the page replaces."""
    return {label: f"#0505{i:02x}" for i, label in enumerate(found.labels)}


def _caption(found: Findings, run: Any, draws: np.ndarray) -> str:
    distinct = len(np.unique(draws, axis=0))
    return f"{run_in_words(run, found.repeats)}; {distinct:,} distinct draws of {len(draws):,}"
