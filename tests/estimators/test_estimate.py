"""Estimates: floats that carry their standard error."""

from __future__ import annotations

import copy
import json
import math
import pickle

import pytest
import torch

from implicit_estimators.estimate import Estimate


def test_it_is_a_float() -> None:
    estimate = Estimate(1.25, 0.03125)
    assert isinstance(estimate, float)
    assert estimate == 1.25
    assert abs(estimate - 1) == 0.25
    assert f"{estimate:.1f}" == "1.2"
    assert repr(estimate) == str(estimate) == "1.25 ± 0.031"
    assert json.loads(json.dumps({"kl": estimate})) == {"kl": 1.25}


def test_it_survives_copies_and_processes() -> None:
    estimate = Estimate(1.25, 0.5)
    for other in (copy.deepcopy(estimate), pickle.loads(pickle.dumps(estimate))):
        assert (other, other.standard_error) == (1.25, 0.5)


def test_the_error_of_a_mean_of_means_covers_it() -> None:
    """Over 400 repeats the z scores have unit variance, within five standard errors of a variance (sqrt(2 / 400))."""
    draw = torch.Generator().manual_seed(0)
    scores = []
    for _ in range(400):
        estimate = Estimate.mean(1 + torch.randn(50, generator=draw), 3 + 5 * torch.randn(200, generator=draw))
        scores.append((estimate - 2) / estimate.standard_error)
    variance = sum(score**2 for score in scores) / len(scores)
    assert variance == pytest.approx(1, abs=5 * math.sqrt(2 / 400))


def test_a_single_value_has_no_error_to_tell() -> None:
    assert Estimate.mean(torch.ones(1)).standard_error == math.inf
