"""The test at the end of a fit: silent at the truth, loud elsewhere, and exact for few observations."""

from __future__ import annotations

import pytest
import torch

from implicit_infer.fitting.question import FitQuestion
from implicit_infer.fitting.verdict import judge, reserved
from tests.implicit_infer.location_scale import LocationScale, observations

TRUTH, WRONG = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0])


def question(m: int, length: int = 1, seed: int = 0, budget: int = 1000) -> FitQuestion:
    return FitQuestion(LocationScale(length), observations(m, seed=seed, length=length), budget, seed)


@pytest.mark.parametrize(("m", "length"), [(100, 1), (1, 20), (4, 20)])
def test_it_warns_where_the_parameters_are_wrong_and_not_where_they_are_right(m: int, length: int) -> None:
    asked = question(m, length)
    figures, warnings = judge(asked, TRUTH, 500)
    assert warnings == []
    assert figures["p_value"] > 0.01
    assert asked.spent == 500
    figures, warnings = judge(asked, WRONG, 500)
    assert figures["p_value"] <= 0.01
    (warning,) = warnings
    assert "still sees a difference" in warning


def test_p_values_of_few_observations_are_uniform_at_the_truth() -> None:
    """Of 60 data sets, those with p below a half are binomial: 4 standard deviations are 15.5."""
    low = sum(judge(question(1, 10, seed), TRUTH, 100)[0]["p_value"] <= 0.5 for seed in range(60))
    assert abs(low - 30) < 15.5


def test_what_cannot_be_tested_is_said() -> None:
    assert "was not tested" in judge(question(300, budget=5), TRUTH, 500)[1][0]
    assert "too few simulations for so many observations" in judge(question(30), TRUTH, 60)[1][0]


def test_a_share_is_set_aside_and_no_more_than_is_of_use() -> None:
    assert reserved(question(300)) == 100
    assert reserved(question(300, budget=1_000_000)) == 4000
    assert reserved(question(300), 0) == 0
    with pytest.raises(ValueError, match="share: expected"):
        reserved(question(300), 1.0)
