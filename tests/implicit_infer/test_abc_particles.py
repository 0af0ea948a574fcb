"""Draws from weighted particles are unbiased, and repeat only when they must."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from implicit_infer.abc.particles import Particles


def particles(weights):
    log_weights = torch.tensor(weights, dtype=torch.float64).log()
    return Particles(torch.arange(len(weights), dtype=torch.float32)[:, None], log_weights)


def counts(some, n, seed):
    return torch.bincount(some.pick(n, torch.Generator().manual_seed(seed)), minlength=len(some))


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=40), st.integers(1, 200), st.integers(0, 2**30))
def test_each_particle_is_taken_as_often_as_its_weight_says(weights, n, seed):
    some = particles(weights)
    expected = n * some.weights
    taken = counts(some, n, seed)
    assert taken.sum() == n
    assert (taken >= (expected - 1e-9).floor()).all()
    assert (taken <= (expected + 1e-9).ceil()).all()


@given(st.integers(1, 60), st.integers(1, 200), st.integers(0, 2**30))
def test_equal_weights_repeat_only_beyond_their_number(k, n, seed):
    taken = counts(particles([0.3] * k), n, seed)
    assert (taken > 0).sum() == min(n, k)
    assert taken.max() - taken.min() <= 1


def test_counts_are_unbiased():
    some, runs = particles([0.05, 0.6, 0.2, 0.15]), 4000
    mean = torch.stack([counts(some, 3, seed) for seed in range(runs)]).double().mean(0)
    # a count varies by less than a half around its mean: 4 standard errors
    assert torch.allclose(mean, 3 * some.weights, atol=4 * 0.5 / runs**0.5)


def test_draws_come_in_random_order():
    some, runs = particles([1.0] * 10), 2000
    first = torch.stack([some.pick(10, torch.Generator().manual_seed(seed))[0] for seed in range(runs)])
    frequencies = torch.bincount(first, minlength=10) / runs
    assert torch.allclose(frequencies, torch.full((10,), 0.1), atol=4 * (0.1 * 0.9 / runs) ** 0.5)


def test_effective_sample_size():
    assert particles([1.0] * 8).ess == pytest.approx(8)
    assert particles([1.0, 1e-12]).ess == pytest.approx(1)
    assert particles([0.5, 0.25, 0.25]).ess == pytest.approx(1 / 0.375)
