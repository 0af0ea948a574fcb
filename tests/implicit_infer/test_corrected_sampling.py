"""Rejection and resampling give draws of the weighted law, and the bound loses what it says."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from implicit_infer.posteriors.corrected_sampling import Reweighting, log_bound, systematic


def proposal(generator, means=(1.0, -0.5)):
    """Standard normal draws, weighted towards N(mean, 1), one mean for each target."""

    def propose(m, rows):
        theta = torch.randn((m, len(rows), 1), generator=generator)
        mean = torch.tensor(means)[rows]
        return theta, theta[..., 0] * mean - mean.square() / 2

    return propose


@pytest.mark.parametrize("by", ["rejection", "resampling"])
def test_draws_follow_the_weighted_law(by):
    generator = torch.Generator().manual_seed(0)
    n = 4000
    draws, figures = Reweighting(by, oversample=10).draw(proposal(generator), n, 2, generator)
    assert draws.shape == (n, 2, 1)
    # resampling from 10 n draws adds the variance of the weights, e^1 / 10 n, and rejection loses 1 % of the upper tail
    error = math.sqrt(1 / n + math.e / (10 * n)) if by == "resampling" else 1 / math.sqrt(n) + 0.01 * 2.5 / 4.5
    assert ((draws.mean(0)[:, 0] - torch.tensor([1.0, -0.5])).abs() < 4.5 * error).all()
    # E[w]^2 / E[w^2] = e^{-mean^2}
    assert figures["effective_share"] == pytest.approx(math.exp(-1), rel=0.25)


def test_rejection_repeats_only_where_it_must():
    """Nearly no weight anywhere but at one draw in 256: rounds run out, and the share that was filled up is told."""
    generator = torch.Generator().manual_seed(0)

    def propose(m, rows):
        theta = torch.arange(float(m))[:, None, None].expand(-1, len(rows), 1)
        return theta, torch.where(theta[..., 0] == 3, 0.0, -60.0)

    draws, figures = Reweighting(oversample=1).draw(propose, 200, 1, generator)
    assert (draws == 3).all()
    assert figures["repeated"] > 0.5


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-20, 5), min_size=2, max_size=60), st.floats(0.001, 0.5))
def test_the_bound_loses_what_it_says(values, lost):
    log_weight = torch.tensor(values, dtype=torch.float64)[:, None]
    bound = log_bound(log_weight, lost)
    weight = log_weight.exp()
    excess = (weight - bound.exp()).clamp(min=0).sum() / weight.sum()
    assert float(excess) == pytest.approx(lost, rel=1e-6) or float(excess) < lost


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.001, 10), min_size=1, max_size=40), st.integers(1, 100), st.integers(0, 1000))
def test_systematic_counts_are_within_one(weights, n, seed):
    weight = torch.tensor(weights, dtype=torch.float64)[:, None]
    rows = systematic(weight, n, torch.Generator().manual_seed(seed))
    counts = torch.bincount(rows[:, 0], minlength=len(weight))
    expected = n * weight[:, 0] / weight.sum()
    assert ((counts - expected).abs() < 1 + 1e-6).all()


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="by: expected"):
        Reweighting("mcmc")
    with pytest.raises(ValueError, match="oversample, lost"):
        Reweighting(lost=0.0)
