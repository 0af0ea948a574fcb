"""Choices by the log loss of rows that were held out: a simpler ratio stays unless it is clearly worse."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from implicit_estimators.divergences import softplus
from implicit_estimators.seeds import stream

FOLDS = 5
ONE_ROW = 3.0
"""Gain in log loss, over all held-out rows together, that one more row might undo."""
CLEAR = 10.0
"""Gain in log loss at one row that is beyond doubt."""
LARGE = 5e8
"""Products (rows times squared columns) beyond which choices are made on one fold."""

Pair = tuple[Tensor, Tensor]
"""Something of p and the same of q."""


def folds(p: Tensor, q: Tensor, seed: int, count: int = FOLDS) -> Iterator[tuple[Pair, Pair]]:
    """Masks of the rows of p and of q that are inside and outside of each of ``count`` folds (fewer for few rows)."""
    generator = stream(seed, "split")
    count = min(count, len(p), len(q))
    places = [torch.randperm(len(x), generator=generator).to(x.device) % count for x in (p, q)]
    for fold in range(count):
        outside = (places[0] == fold, places[1] == fold)
        yield (~outside[0], ~outside[1]), outside


def log_losses(log_ratios: Sequence[Callable[[Tensor], Tensor]], tests: Sequence[Pair]) -> Tensor:
    """Log loss at all rows of the test sets, each by the log-ratio that did not learn from it."""
    losses = []
    for log_ratio, (p, q) in zip(log_ratios, tests, strict=True):
        prior = math.log(len(p) / len(q))
        losses += [softplus(-log_ratio(p) - prior), softplus(log_ratio(q) + prior)]
    return torch.cat(losses)


def choose(table: Sequence[Tensor], errors: float = 2.0) -> int:
    """The first of several rows of losses that is no worse than the best, by a gain that could be chance.

    The gain in log loss over all rows together is the log of a likelihood ratio, which exceeds ``ONE_ROW`` = log 20
    with probability 1/20 if the worse one is the truth. It must exceed also ``errors`` standard errors of the
    differences row by row; a difference of more than ``CLEAR`` counts as that in the error, since it is no chance.
    Neither suffices alone: where p and q hardly overlap, no row may lie where a ratio that is too large would be
    punished, all rows then gain a little from a larger one, and the standard error, which knows only the rows that
    there are, is tiny.
    """
    best = min(table, key=lambda losses: float(losses.mean()))
    for i, losses in enumerate(table):
        excess = losses - best
        error = float(excess.clamp(-CLEAR, CLEAR).std(correction=0)) * math.sqrt(len(excess))
        if float(excess.sum()) <= max(errors * error, ONE_ROW):
            return i
    raise AssertionError("the best is no worse than itself")
