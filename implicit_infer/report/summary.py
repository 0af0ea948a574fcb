"""The beginning of the report: the finding in one sentence, what was asked, and how to read the table."""

from __future__ import annotations

import math

from implicit_infer.compare.folder import ABSENT, FAILED, FINISHED
from implicit_infer.report.findings import Findings
from implicit_infer.report.wording import in_words, is_or_are, listed, plural


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
    n, d = len(found.labels), len(found.about["parameters"])
    budgets = f"{plural('budget', len(found.budgets))} of {listed([f'{budget:,}' for budget in found.budgets])}"
    times = {1: "once", 2: "twice"}.get(found.repeats, f"{in_words(found.repeats)} times")
    sentences = [
        f"{in_words(n).capitalize()} {plural('method', n)} inferred the {in_words(d)} {plural('parameter', d)} of "
        f"{found.subject}, each with {'a ' * (len(found.budgets) == 1)}{budgets} simulations, {times}."
    ]
    ranking = found.ranking()
    if ranking:
        label, score, error = ranking[0]
        text = (
            f"A classifier tells the draws of {label} from the reference's with an accuracy of "
            f"{score:.3f}\u00a0±\u00a0{error:.3f}, where 0.5 is perfect and 1 is worst"
        )
        last = [name for name, other, _ in ranking if round(other, 3) == round(ranking[-1][1], 3)]
        if label not in last:
            text += f"; {listed(last)}, the farthest, {'scores' if len(last) == 1 else 'score'} {ranking[-1][1]:.3f}"
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
