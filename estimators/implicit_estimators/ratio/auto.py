r"""The ratio by whichever method the samples themselves prefer: several are fitted, and rows they have not seen decide.

Each candidate learns from all rows and judges every row by a fit that did not learn from it. Then:

- Where p and q overlap, two proper scores compare the candidates row by row (see
  :mod:`~implicit_estimators.ratio.stacking`). The first candidate in order that no score calls clearly worse than the
  best is taken, so the order is one of simplicity: what needs fewer samples stays unless it is refuted. A stacking
  of all of them replaces it if that scores clearly better.
- Where they hardly overlap, scores of a classifier say nothing: every large log-ratio separates the samples, and
  one too large by a third costs nearly no more than the truth. What can be compared there are densities, by the
  likelihood of rows that they have not seen, and normal densities with a telescoping ratio, by the log loss of the
  bridges between its waymarks (see :mod:`~implicit_estimators.ratio.waymark_laws`).

References:
    | Super Learner (van der Laan, Polley and Hubbard, 2007), for choosing and stacking by cross-validation
    | https://doi.org/10.2202/1544-6115.1309
    | Telescoping Density-Ratio Estimation (Rhodes, Xu and Gutmann, 2020), for what distant sets do to classifiers
    | https://arxiv.org/abs/2006.12204
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.estimate import Estimate
from implicit_estimators.networks.train import Progress
from implicit_estimators.ratio.base import RatioEstimator
from implicit_estimators.ratio.densities.gaussian import GaussianRatio
from implicit_estimators.ratio.registry import RATIO_ESTIMATORS
from implicit_estimators.ratio.stacking import (
    Sides,
    excess,
    exponential_scores,
    log_scores,
    mixed,
    overlap,
    stacking_gain,
    stacking_weights,
)

log = logging.getLogger(__name__)

Candidate = str | tuple[str, dict[str, Any]]
"""A name in ``RATIO_ESTIMATORS``, or a name and settings."""

CLOSED: tuple[Candidate, ...] = ("gaussian", "quadratic", "mixture")
"""What is tried first, the simplest before the others: fits of a second, good where a family of densities is right."""
GENERIC: tuple[Candidate, ...] = (
    "kernel-logistic",
    "ensemble",
    ("ensemble", {"standardise": "ranks"}),
    "classifier",
)
"""What is tried where p and q overlap."""
GENERIC_HEAVY: tuple[Candidate, ...] = (
    "kernel-logistic",
    ("ensemble", {"standardise": "robust"}),
    ("ensemble", {"standardise": "ranks"}),
    "classifier",
)
"""What is tried instead where tails are heavy."""
HEAVY = 10.0
"""Standard deviations beyond which a sample tells of heavy tails: one of a million normal ones is not half as far."""
DISTANT: tuple[Candidate, ...] = ("telescoping",)
"""What is tried where they hardly do."""

FEWEST = 20
"""Rows of a set below which none can be spared to compare candidates."""
FOLDS = 5
HARDLY = 0.1
"""Share of rows that could be of either set (see ``overlap``), below which classifiers' scores do not see the ratio."""
LITTLE = 0.3
"""The share below which methods for distant sets are worth a try, too."""
CLEARLY = 2.0
"""Standard errors beyond which a difference is not chance."""


@dataclass
class _Trial:
    """One candidate, fitted to all rows, with its log-ratios (and log-densities) by fits that did not see the row."""

    label: str
    estimator: RatioEstimator
    seconds: float
    held_out: Sides
    densities: Sides | None = None


@dataclass
class _Row:
    """A line of the table of scores."""

    candidate: str
    log_score: float = math.nan
    excess: float = math.nan
    standard_error: float = math.nan
    exponential_score: float = math.nan
    likelihood: float = math.nan
    seconds: float = math.nan
    weight: float = 0.0
    remark: str = ""


class AutoRatio(RatioEstimator):
    r"""Fits several estimators, and keeps the one, or the mean of those, that held-out rows speak for.

    Args:
        candidates: Names in ``RATIO_ESTIMATORS``, or pairs of a name and settings, the simplest first; None for a good
            choice, to which methods for distant sets are added where they are needed.
        stack: Whether a weighted mean of log-ratios may be kept, where it scores clearly better than any one.

    Attributes:
        chosen: The weight of each estimator that was kept, by name; they sum to 1.
        estimators: Those estimators, each fitted to all rows.
        far_apart: Whether the samples overlap too little for classifiers to be compared.

    Raises:
        ValueError: If there is no candidate, one is not known, or its settings are refused.

    Example:
        >>> p = torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
        >>> q = 1 + torch.randn(500, 1, generator=torch.Generator().manual_seed(1))
        >>> ratio = AutoRatio(candidates=("gaussian", ("ensemble", {"epochs": 20}))).fit(p, q, seed=0)
        >>> ratio.chosen
        {'gaussian': 1.0}
    """

    name = "auto"

    def __init__(self, candidates: Sequence[str | Sequence[Any]] | None = None, *, stack: bool = True) -> None:
        self.candidates = None if candidates is None else tuple(_normal(candidate) for candidate in candidates)
        self.stack = stack
        if self.candidates is not None:
            if not self.candidates:
                raise ValueError("candidates: expected at least one name; got none")
            for candidate in self.candidates:
                _make(candidate)  # refuses names and settings
        self.chosen: dict[str, float] = {}
        self.estimators: dict[str, RatioEstimator] = {}
        self.far_apart = False
        self._rows: list[_Row] = []

    def _fit(self, p: Tensor, q: Tensor, seed: int, device: torch.device, progress: Progress | None) -> None:
        self._rows, self.far_apart = [], False
        first = list(self.candidates or _known(CLOSED))
        if min(len(p), len(q)) < FEWEST:
            self._keep_first(first, p, q, seed, device, progress)
            return

        def attempt(wanted: list[tuple[str, dict[str, Any]]]) -> list[_Trial]:
            return self._try(wanted, p, q, seed, device, progress)

        trials = attempt(first)
        if self.candidates is None:
            if not trials or _overlap(trials) >= HARDLY:
                trials += attempt(_known(GENERIC_HEAVY if _heavy(p, q) else GENERIC))
            if not trials or _overlap(trials) < LITTLE:
                trials += attempt(_known(DISTANT))
        if not trials:
            raise RuntimeError(
                "candidates: none could be fitted: " + "; ".join(f"{row.candidate}: {row.remark}" for row in self._rows)
            )
        self.far_apart = _overlap(trials) < HARDLY
        weights = self._choose_far_apart(trials, p, q, seed, device) if self.far_apart else self._choose(trials)
        self._keep({trial.label: (trial, weight) for trial, weight in zip(trials, weights, strict=True) if weight})
        values = mixed([trial.held_out for trial in trials], torch.tensor(weights))
        known = [torch.isfinite(side) for side in values]
        self.held_out = (p.cpu()[known[0]], q.cpu()[known[1]])
        self.held_out_log_ratio = (values[0][known[0]].float(), values[1][known[1]].float())

    def _keep_first(
        self,
        wanted: list[tuple[str, dict[str, Any]]],
        p: Tensor,
        q: Tensor,
        seed: int,
        device: torch.device,
        progress: Progress | None,
    ) -> None:
        label, start = _label(wanted[0]), time.process_time()
        estimator = _make(wanted[0]).fit(p, q, seed=seed, device=device, progress=progress)
        self.held_out, self.held_out_log_ratio = estimator.held_out, estimator.held_out_log_ratio
        self.estimators, self.chosen = {label: estimator}, {label: 1.0}
        seconds = time.process_time() - start
        self._rows = [_Row(label, seconds=seconds, weight=1.0, remark="the first: too few rows to compare")]

    def _keep(self, kept: dict[str, tuple[_Trial, float]]) -> None:
        self.estimators = {label: trial.estimator for label, (trial, _) in kept.items()}
        self.chosen = {label: weight for label, (_, weight) in kept.items()}
        for row in self._rows:
            row.weight = self.chosen.get(row.candidate, 0.0)

    def _try(
        self,
        wanted: list[tuple[str, dict[str, Any]]],
        p: Tensor,
        q: Tensor,
        seed: int,
        device: torch.device,
        progress: Progress | None,
    ) -> list[_Trial]:
        """Fit each candidate; one that fails is a line in the table."""
        trials = []
        for candidate in wanted:
            label = _label(candidate)
            row = _Row(label)
            self._rows.append(row)
            start = time.process_time()
            try:
                estimator = _make(candidate).fit(p, q, seed=seed, device=device, progress=_named(label, progress))
                held_out = _judged(estimator, candidate, p, q, seed, device)
            except (ValueError, RuntimeError, ArithmeticError) as error:
                log.info("auto: %s could not be fitted: %s", label, error)
                row.remark = f"failed: {error}"
                continue
            row.seconds = time.process_time() - start
            densities = getattr(estimator, "held_out_log_densities", None)
            trials.append(_Trial(label, estimator, row.seconds, held_out, densities))
            row.log_score, row.exponential_score = _mean(log_scores(held_out)), _mean(exponential_scores(held_out))
            if densities is not None:
                row.likelihood = _mean(densities)
            if progress is not None:
                progress(len(self._rows), {f"{label} score": row.log_score, "seconds": row.seconds})
        return trials

    def _choose(self, trials: list[_Trial]) -> list[float]:
        """Weights of the candidates, by two proper scores."""
        tables = [[score(trial.held_out) for trial in trials] for score in (log_scores, exponential_scores)]
        lowest = [min(enumerate(table), key=lambda pair: _mean(pair[1]))[0] for table in tables]
        for trial, scores in zip(trials, tables[0], strict=True):
            self._compare(trial, excess(scores, tables[0][lowest[0]]))
        standing = [
            i
            for i in range(len(trials))
            if all(_no_worse(table[i], table[best]) for table, best in zip(tables, lowest, strict=True))
        ] or [lowest[0]]
        single = standing[0]
        if self.stack and len(trials) > 1:
            held_out = [trial.held_out for trial in trials]
            rows = [torch.stack(side).isfinite().all(0) for side in zip(*held_out, strict=True)]
            held_out = [(at_p[rows[0]], at_q[rows[1]]) for at_p, at_q in held_out]
            gain = stacking_gain(held_out, single)
            if gain > CLEARLY * gain.standard_error:
                return stacking_weights(held_out).tolist()
        return _only(single, trials)

    def _choose_far_apart(
        self, trials: list[_Trial], p: Tensor, q: Tensor, seed: int, device: torch.device
    ) -> list[float]:
        """Weights where p and q hardly overlap: a density that neither likelihood nor waymarks refute, if there is one.

        A density is out only if even the log score, which is lenient here, refutes it.
        """
        best = min(trials, key=lambda trial: _mean(log_scores(trial.held_out)))
        for trial in trials:
            self._compare(trial, excess(log_scores(trial.held_out), log_scores(best.held_out)))
        surprises = {
            i: (-trial.densities[0], -trial.densities[1])
            for i, trial in enumerate(trials)
            if trial.densities is not None and _no_worse(log_scores(trial.held_out), log_scores(best.held_out))
        }
        bridged = [i for i, trial in enumerate(trials) if trial.estimator.name == "telescoping"]
        if not surprises:
            return _only((bridged or [trials.index(best)])[0], trials)
        likeliest = min(surprises, key=lambda i: _mean(surprises[i]))
        found = next(i for i in surprises if i == likeliest or _clearly_no_worse(surprises[i], surprises[likeliest]))
        for i in bridged:
            difference = _on_waymarks(trials[found], trials[i], p, q, seed, device)
            if difference is not None and difference > CLEARLY * difference.standard_error:
                found = i
        return _only(found, trials)

    def _compare(self, trial: _Trial, difference: Estimate) -> None:
        row = next(row for row in self._rows if row.candidate == trial.label)
        row.excess, row.standard_error = float(difference), difference.standard_error

    @property
    def scores(self) -> Any:
        """A frame with one line for each candidate, in the order in which they were tried.

        ``log_score`` and ``exponential_score`` are those of its held-out log-ratios (lower is better), ``excess`` is
        its log score less the best one's, with ``standard_error``; ``likelihood`` the mean log-density of held-out
        rows, for those that have one; ``seconds`` the CPU time of its fits; ``weight`` its share in the answer.

        Raises:
            RuntimeError: If the estimator has not been fitted.
        """
        import pandas as pd

        self._check_fitted()
        return pd.DataFrame([asdict(row) for row in self._rows]).set_index("candidate")

    def _log_ratio(self, x: Tensor) -> Tensor:
        values = [weight * self.estimators[label]._log_ratio(x) for label, weight in self.chosen.items()]
        return values[0] if len(values) == 1 else torch.stack(values).sum(0)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors: dict[str, Tensor] = {}
        members = []
        for place, (label, estimator) in enumerate(self.estimators.items()):
            own, config = estimator._pack()
            tensors |= {f"{place}.{key}": value for key, value in own.items()}
            members.append({"label": label, "name": estimator.name, "weight": self.chosen[label], "config": config})
        rows = [{key: _plain(value) for key, value in asdict(row).items()} for row in self._rows]
        return tensors, {"members": members, "far_apart": self.far_apart, "scores": rows}

    def _restore(self, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
        self.far_apart = rest["far_apart"]
        for fields in rest["scores"]:
            known: dict[str, Any] = {key: value for key, value in fields.items() if value is not None}
            self._rows.append(_Row(**known))
        for place, member in enumerate(rest["members"]):
            mark = f"{place}."
            own = {key.removeprefix(mark): value for key, value in tensors.items() if key.startswith(mark)}
            self.estimators[member["label"]] = RATIO_ESTIMATORS[member["name"]]._unpack(own, member["config"])
            self.chosen[member["label"]] = member["weight"]

    def __repr__(self) -> str:
        kept = " + ".join(label if weight == 1 else f"{weight:.2f} {label}" for label, weight in self.chosen.items())
        return f"AutoRatio({kept or 'not fitted'}{f'; fitted to {self.width} columns' if self.width else ''})"


def _normal(candidate: str | Sequence[Any]) -> tuple[str, dict[str, Any]]:
    if isinstance(candidate, str):
        return candidate, {}
    name, settings = tuple(candidate)
    return name, dict(settings)


def _heavy(p: Tensor, q: Tensor) -> bool:
    """Whether some column of the samples together reaches far beyond its standard deviation."""
    rows = torch.cat([p, q]).double()
    centred = rows - rows.mean(0)
    return bool((centred.abs().amax(0) > HEAVY * centred.square().mean(0).sqrt()).any())


def _known(candidates: Sequence[Candidate]) -> list[tuple[str, dict[str, Any]]]:
    return [_normal(candidate) for candidate in candidates if _normal(candidate)[0] in RATIO_ESTIMATORS]


def _make(candidate: tuple[str, dict[str, Any]]) -> RatioEstimator:
    name, settings = candidate
    if name not in RATIO_ESTIMATORS or name == AutoRatio.name:
        others = ", ".join(other for other in RATIO_ESTIMATORS if other != AutoRatio.name)
        raise ValueError(f"candidates: expected names among {others}; got {name!r}")
    try:
        return RATIO_ESTIMATORS[name](**settings)
    except TypeError as error:
        raise ValueError(f"candidates: settings of {name!r}: {error}") from error


def _label(candidate: tuple[str, dict[str, Any]]) -> str:
    name, settings = candidate
    return name + (f"({', '.join(f'{key}={value}' for key, value in settings.items())})" if settings else "")


def _named(label: str, progress: Progress | None) -> Progress | None:
    if progress is None:
        return None
    return lambda epoch, figures: progress(epoch, {f"{label} {name}": value for name, value in figures.items()})


def _judged(
    estimator: RatioEstimator,
    candidate: tuple[str, dict[str, Any]],
    p: Tensor,
    q: Tensor,
    seed: int,
    device: torch.device,
) -> Sides:
    """Log-ratios at every row by a fit that did not learn from it, on the CPU: the estimator's own, or by refitting.

    What is dear to fit is not fitted again: NaN stands at the rows that it learned from.
    """
    own = estimator.held_out_log_ratio
    if own is not None and [len(side) for side in own] == [len(p), len(q)]:
        return own
    if candidate[0] in [_normal(distant)[0] for distant in DISTANT]:
        values = own or tuple(estimator.log_ratio(side) for side in estimator.held_out)
        found = []
        for rows, side, value in zip((p, q), estimator.held_out, values, strict=True):
            everywhere = torch.full((len(rows),), math.nan)
            everywhere[_places(side, rows.cpu())] = value.cpu()
            found.append(everywhere)
        return found[0], found[1]
    judge = _make(candidate)
    judge._cross_fit(p, q, seed, lambda p, q: _make(candidate).fit(p, q, seed=seed, device=device).log_ratio, FOLDS)
    assert judge.held_out_log_ratio is not None
    return judge.held_out_log_ratio


def _places(part: Tensor, rows: Tensor) -> Tensor:
    """The indices in ``rows`` of the rows of ``part``, which came from there."""
    where: dict[bytes, list[int]] = {}
    for place, row in enumerate(rows.numpy()):
        where.setdefault(row.tobytes(), []).append(place)
    return torch.tensor([where[row.tobytes()].pop() for row in part.numpy()], dtype=torch.long)


def _on_waymarks(
    density: _Trial, bridged: _Trial, p: Tensor, q: Tensor, seed: int, device: torch.device
) -> Estimate | None:
    """How much worse the density's bridges are than those of a telescoping ratio, where that can be said."""
    from implicit_estimators.ratio.bridges.telescoping import TelescopingRatio
    from implicit_estimators.ratio.waymark_laws import can_judge, normal_bridges, paired_excess

    telescoping = bridged.estimator
    assert isinstance(telescoping, TelescopingRatio)
    if not isinstance(density.estimator, GaussianRatio) or not can_judge(telescoping):
        return None
    # the density must not have learned from the rows that judge, either
    learned = [torch.isnan(side).to(device) for side in bridged.held_out]
    again = type(density.estimator)(**density.estimator.settings())
    again.fit(p[learned[0]], q[learned[1]], seed=seed, device=device)
    return paired_excess(telescoping, normal_bridges(again._normals, telescoping))


def _overlap(trials: list[_Trial]) -> float:
    """The share of rows that could be of either set, by the candidate of the best log score."""
    return overlap(min(trials, key=lambda trial: _mean(log_scores(trial.held_out))).held_out)


def _mean(sides: Sides) -> float:
    return float(Estimate.mean(*(side[torch.isfinite(side)] for side in sides)))


def _only(place: int, trials: Sequence[_Trial]) -> list[float]:
    return [float(i == place) for i in range(len(trials))]


def _no_worse(scores: Sides, best: Sides) -> bool:
    """Whether the excess is within the noise of two proper scores, whose terms at the truth have variance 1 at most.

    One row where a candidate is absurd gives it an excess of one standard error of its own making.
    """
    difference = excess(scores, best)
    noise = min(difference.standard_error, 0.5 * math.sqrt(2 / len(scores[0]) + 2 / len(scores[1])))
    return difference <= CLEARLY * noise


def _clearly_no_worse(scores: Sides, best: Sides) -> bool:
    difference = excess(scores, best)
    return difference <= CLEARLY * difference.standard_error


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
