"""How far a finished run is from the truth: computed from what it left in its folder, and again if that changes."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import torch
from torch import Tensor

from implicit_infer.compare.folder import Folder, write_json
from implicit_infer.compare.plan import REFERENCE, Plan
from implicit_infer.compare.run import failure
from implicit_infer.diagnose.c2st import c2st
from implicit_infer.diagnose.marginals import marginal_wasserstein
from implicit_infer.diagnose.predictive import predictive_check
from implicit_infer.draws import read_draws


def reference_digest(folder: Folder) -> str | None:
    """What tells the reference's draws from others, or None without a reference."""
    return (folder.result(REFERENCE) or {}).get("digest")


def scored(folder: Folder, name: str) -> bool:
    """Whether a run has been scored, without error and against the reference that is there now."""
    scores = folder.scores(name)
    return bool(scores) and scores["error"] is None and scores["reference"] == reference_digest(folder)


def score(folder: Folder, plan: Plan, name: str) -> dict[str, Any]:
    """Score one finished run and write ``scores.json`` beside it.

    Returns:
        The scores; when something could not be computed the reason is under "error".
    """
    scores: dict[str, Any] = {"reference": reference_digest(folder), "error": None}
    try:
        # logged warnings would tear the progress display; what they say is among the scores
        with contextlib.redirect_stderr(io.StringIO()):
            scores |= _scores(folder, plan, name, against_reference=scores["reference"] is not None)
    except Exception as error:
        scores["error"] = failure(error)["error"]
    write_json(folder.runs / name / "scores.json", scores)
    return scores


def _scores(folder: Folder, plan: Plan, name: str, against_reference: bool) -> dict[str, Any]:
    theta = _draws(folder, name)
    scores: dict[str, Any] = {"distinct": len(theta.unique(dim=0))}
    if against_reference:
        scores |= _against_reference(theta, _draws(folder, REFERENCE), plan.seed_of(0, "split"))
    predictive = read_draws(folder.runs / name / "draws.zarr", "posterior_predictive")
    if predictive is not None:
        scores |= _against_data(plan, torch.from_numpy(predictive))
    return scores


def _draws(folder: Folder, name: str) -> Tensor:
    draws = read_draws(folder.runs / name / "draws.zarr")
    if draws is None:
        raise ValueError(f"run {name} kept no draws")
    return torch.from_numpy(draws)


def _against_reference(theta: Tensor, reference: Tensor, seed: int) -> dict[str, Any]:
    """Distances of equally many draws of both, the same reference draws for every run."""
    generator = torch.Generator().manual_seed(seed)
    n = min(len(theta), len(reference))
    reference = reference[torch.randperm(len(reference), generator=generator)[:n]]
    theta = theta[torch.randperm(len(theta), generator=generator)[:n]]
    found = c2st(reference, theta, seed=seed % 2**32)
    distances = marginal_wasserstein(theta, reference)
    return {
        "c2st": found.score,
        "c2st_se": found.standard_error,
        "wasserstein": float(distances.mean()),
        "wasserstein_each": distances.tolist(),
        "scored_draws": n,
    }


def _against_data(plan: Plan, predictive: Tensor) -> dict[str, Any]:
    found = predictive_check(plan.simulator, predictive, plan.observed)
    return {"coverage_90": found.coverage_90, "p_value": found.p_value, "predictive_failed": found.failed}
