"""Coverage of known modes against counts by hand, the normal's share within three sigma, and sampling theory."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from implicit_infer.diagnose import mode_coverage


def ring(n: int = 8) -> torch.Tensor:
    angle = 2 * math.pi * torch.arange(n) / n
    return torch.stack([angle.cos(), angle.sin()], 1)


def mixture(n: int, sigma: float, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return ring()[torch.randint(8, (n,), generator=g)] + sigma * torch.randn(n, 2, generator=g)


def test_counts_by_hand():
    modes = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    samples = torch.tensor([[0.1, 0.0], [0.0, -0.2], [9.9, 0.0], [5.0, 0.0], [0.0, 9.0]])
    found = mode_coverage(samples, modes, 0.3)
    assert found.counts.tolist() == [2, 1, 0]
    assert found.covered == 2
    assert found.high_quality == pytest.approx(3 / 5)
    assert found.reverse_kl == pytest.approx(2 / 3 * math.log(2) + 1 / 3 * math.log(1))


def test_truth_has_its_ceiling():
    """1 - exp(-9/2) of a 2-d normal is within three sigma; tolerance of four standard errors of a binomial."""
    n, ceiling = 100_000, 1 - math.exp(-4.5)
    found = mode_coverage(mixture(n, 0.01, seed=0), ring(), 0.03)
    assert found.covered == 8
    assert abs(found.high_quality - ceiling) < 4 * math.sqrt(ceiling * (1 - ceiling) / n)


def test_truths_divergence_is_that_of_sampling_theory():
    """2 n KL is chi-squared with 7 degrees of freedom: mean 7, and a standard error of sqrt(14 / 200) over 200 sets."""
    n, sets = 2500, 200
    values = [2 * n * mode_coverage(mixture(n, 0.001, seed), ring(), 0.5).reverse_kl for seed in range(sets)]
    assert abs(sum(values) / sets - 7) < 4 * math.sqrt(14 / sets)


def test_one_mode_of_k_is_log_k_from_equal_weights():
    found = mode_coverage(ring()[:1].repeat(50, 1), ring(), 0.03)
    assert (found.covered, found.high_quality) == (1, 1.0)
    assert found.reverse_kl == pytest.approx(math.log(8))


def test_no_draw_of_high_quality_is_nan_and_not_perfect():
    found = mode_coverage(torch.zeros(10, 2), ring(), 0.03)
    assert (found.covered, found.high_quality) == (0, 0.0)
    assert math.isnan(found.reverse_kl)


def test_draws_that_are_not_finite_are_of_no_mode():
    samples = torch.cat([ring(), torch.tensor([[math.nan, 0.0], [math.inf, 1.0]])])
    found = mode_coverage(samples, ring(), 0.03)
    assert found.counts.tolist() == [1] * 8
    assert found.high_quality == pytest.approx(0.8)


def test_narrow_modes_far_from_the_origin():
    """Squared norms of 1e6 eat distances below 1e-1 in float32; the counts must not notice."""
    modes = ring() + 1000
    found = mode_coverage(modes.double() + 0.005, modes, 0.01)
    assert found.counts.tolist() == [1] * 8


@given(counts=st.lists(st.integers(0, 20), min_size=2, max_size=6).filter(sum), seed=st.integers(0, 2**31))
def test_divergence_is_zero_at_the_weights_and_positive_elsewhere(counts, seed):
    modes = 10 * torch.arange(len(counts)).float()[:, None]
    samples = modes.repeat_interleave(torch.tensor(counts), 0)
    g = torch.Generator().manual_seed(seed)
    weights = torch.rand(len(counts), generator=g) + 0.01
    found = mode_coverage(samples, modes, 1.0, weights)
    assert found.counts.tolist() == counts
    assert found.reverse_kl >= -1e-12
    if all(counts):
        assert mode_coverage(samples, modes, 1.0, counts).reverse_kl == pytest.approx(0, abs=1e-12)


@given(seed=st.integers(0, 2**31))
def test_the_order_of_draws_and_modes_does_not_matter(seed):
    g = torch.Generator().manual_seed(seed)
    samples, modes = torch.randn(40, 2, generator=g), ring(5) + torch.randn(2, generator=g)
    once = mode_coverage(samples, modes, 0.7)
    again = mode_coverage(samples.flip(0), modes.flip(0), 0.7)
    assert again.counts.flip(0).tolist() == once.counts.tolist()
    torch.testing.assert_close(again.reverse_kl, once.reverse_kl, rtol=1e-9, atol=1e-12, equal_nan=True)


def test_a_circle_that_closes_itself_is_refused():
    """linspace(0, 2 pi, 8) has its first angle twice, up to rounding: seven modes, not eight."""
    angle = torch.linspace(0, 2 * math.pi, 8)
    with pytest.raises(ValueError, match="farther apart"):
        mode_coverage(mixture(10, 0.01, 0), torch.stack([angle.cos(), angle.sin()], 1), 0.03)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"samples": torch.zeros(3, 3)}, "samples, modes"),
        ({"samples": torch.zeros(0, 2)}, "samples, modes"),
        ({"samples": torch.zeros(3)}, "samples, modes"),
        ({"radius": 0.0}, "radius"),
        ({"weights": torch.ones(7)}, "weights"),
        ({"weights": torch.zeros(8)}, "weights"),
    ],
)
def test_bad_input_is_named(change, words):
    with pytest.raises(ValueError, match=words):
        mode_coverage(**{"samples": torch.zeros(3, 2), "modes": ring(), "radius": 0.03} | change)
