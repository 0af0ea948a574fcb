"""Scores on held-out rows: least at the truth, tails seen, weights that mix as they should."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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


def rows(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-ratios of N(0, 1) to N(1, 1) at n samples of each: 1/2 - x."""
    draw = torch.Generator().manual_seed(seed)
    return 0.5 - torch.randn(n, generator=draw), -0.5 - torch.randn(n, generator=draw)


def changed(log_ratios: Sides, change) -> Sides:
    return change(log_ratios[0]), change(log_ratios[1])


def mean(scores: tuple[torch.Tensor, torch.Tensor]) -> float:
    return float(scores[0].mean() + scores[1].mean()) / 2


@pytest.mark.parametrize("score", [log_scores, exponential_scores])
@pytest.mark.parametrize("change", [lambda v: 1.3 * v, lambda v: v + 0.5, lambda v: 0 * v, lambda v: 0.5 * v])
def test_the_truth_scores_best(score, change) -> None:
    """By more than three standard errors of the difference, at 20,000 rows of each."""
    truth = rows(20_000)
    worse = excess(score(tuple(change(side) for side in truth)), score(truth))
    assert worse > 3 * worse.standard_error


def test_scores_in_closed_form() -> None:
    values = (torch.tensor([0.0, -2.0]), torch.tensor([0.0, 4.0]))
    assert log_scores(values)[1].tolist() == pytest.approx([math.log(2), math.log1p(math.exp(4))])
    assert exponential_scores(values)[0].tolist() == pytest.approx([1, math.e])
    assert exponential_scores(values)[1].tolist() == pytest.approx([1, math.e**2])
    # at the truth the exponential score is the Hellinger affinity, exp(-1/8) for unit shifts
    found = exponential_scores(rows(100_000))
    error = math.sqrt(float(found[0].var() + found[1].var()) / 100_000) / 2
    assert abs(mean(found) - math.exp(-1 / 8)) < 4 * error


def test_absurd_values_stay_finite_and_holes_are_left_out() -> None:
    truth = rows(100)
    absurd = (torch.full((100,), -1e30), truth[1])
    assert math.isfinite(mean(exponential_scores(absurd)))
    assert math.isfinite(mean(log_scores(absurd)))
    holes = (truth[0].clone(), truth[1])
    holes[0][::2] = math.nan
    shifted = (truth[0] - 1, truth[1] - 1)
    by_hand = excess(*(log_scores((one[0][1::2], one[1])) for one in (shifted, truth)))
    assert excess(log_scores(shifted), log_scores(holes)) == by_hand
    assert overlap(holes) == pytest.approx(overlap((truth[0][1::2], truth[1])))


def test_overlap_is_one_at_equal_laws_and_none_far_apart() -> None:
    assert overlap((torch.zeros(5), torch.zeros(3))) == 1
    assert overlap((torch.full((5,), 30.0), torch.full((3,), -30.0))) < 1e-12


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 5))
def test_weights_are_a_share_each_and_no_single_candidate_scores_better(seed: int, count: int) -> None:
    truth = rows(300, seed)
    draw = torch.Generator().manual_seed(seed)
    candidates = [
        tuple(2 * torch.rand((), generator=draw) * side + torch.randn(len(side), generator=draw) for side in truth)
        for _ in range(count)
    ]
    weights = stacking_weights(candidates)
    assert float(weights.sum()) == pytest.approx(1)
    assert (weights >= 0).all()
    score = mean(log_scores(mixed(candidates, weights)))
    assert all(score <= mean(log_scores(candidate)) + 1e-4 for candidate in candidates)


def test_independent_errors_are_averaged_and_a_hopeless_candidate_is_dropped() -> None:
    truth = rows(20_000)
    draw = torch.Generator().manual_seed(1)
    noisy = [changed(truth, lambda side: side + torch.randn(len(side), generator=draw)) for _ in range(2)]
    hopeless = changed(truth, lambda side: 5 * torch.randn(len(side), generator=draw))
    weights = stacking_weights([*noisy, hopeless])
    # by symmetry half and half: errors of weights are those of a logistic regression, some .02
    assert weights.tolist() == pytest.approx([0.5, 0.5, 0], abs=0.05)
    gain = stacking_gain(noisy, 0)
    assert gain > 5 * gain.standard_error
    alone = stacking_gain([truth, noisy[0]], 0)
    assert alone <= 2 * alone.standard_error
