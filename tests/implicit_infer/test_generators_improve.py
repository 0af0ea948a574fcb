"""Draws of N(0, 1) with the exact ratio to N(1, 1): what is kept must be N(1, 1)."""

import math

import pytest
import torch

from implicit_infer.generators.improve import calibrated, metropolis_hastings, rejection


def draw(n: int, random: torch.Generator) -> torch.Tensor:
    return torch.randn(n, 1, generator=random)


def log_ratio(x: torch.Tensor) -> torch.Tensor:
    return x[:, 0] - 0.5


def assert_is_the_target(found: torch.Tensor, sd: float = 1.0) -> None:
    """Mean 1 and standard deviation 1, within 4.5 standard errors."""
    n = len(found)
    assert abs(float(found.mean()) - 1) < 4.5 * sd / math.sqrt(n)
    assert abs(float(found.var()) - 1) < 4.5 * math.sqrt(2 / n)


def test_exact_rejection_gives_the_target() -> None:
    """M is the largest of the ratios seen, not infinity: what is above it is cut, 1e-5 of the target here."""
    found = rejection(draw, log_ratio, 4000, percentile=None, burn_in=100_000, seed=0)
    assert found.shape == (4000, 1)
    assert_is_the_target(found)


def test_a_percentile_accepts_more_and_moves_less() -> None:
    exact, loose = (rejection(draw, log_ratio, 4000, percentile=p, seed=1).mean() for p in (None, 95.0))
    lax = rejection(draw, log_ratio, 4000, percentile=10.0, seed=1).mean()
    assert 0.1 < lax < loose < exact + 0.1


def test_chains_give_the_target_from_draws_and_from_data() -> None:
    data = 1 + torch.randn(3000, 1, generator=torch.Generator().manual_seed(5))
    assert_is_the_target(metropolis_hastings(draw, log_ratio, 3000, steps=60, seed=0))
    assert_is_the_target(metropolis_hastings(draw, log_ratio, 3000, start=data, steps=60, seed=1))


def test_no_datum_is_returned() -> None:
    """At a datum whose ratio is far above all others no chain ever moves, and it is started again at a draw."""
    data = torch.full((3, 1), 60.0)
    found = metropolis_hastings(draw, log_ratio, 50, start=data, steps=5, seed=0)
    assert float(found.max()) < 10


def test_seeds_repeat_and_the_global_state_is_untouched() -> None:
    before = torch.get_rng_state()
    for sampler in (rejection, metropolis_hastings):
        first, same = (sampler(draw, log_ratio, 20, seed=3) for _ in range(2))
        assert torch.equal(first, same)
    assert torch.equal(before, torch.get_rng_state())


def test_calibration_takes_back_what_was_exaggerated() -> None:
    random = torch.Generator().manual_seed(0)
    data, draws = 1 + torch.randn(20_000, 1, generator=random), torch.randn(20_000, 1, generator=random)
    found = calibrated(lambda x: 3 * log_ratio(x) + 1, data, draws)
    x = torch.linspace(-1, 2, 7)[:, None]
    # the slope's standard error is about 0.02, times 1.5 at the ends
    assert torch.allclose(found(x), log_ratio(x), atol=0.15)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="percentile: expected a number from 0 to 100"):
        rejection(draw, log_ratio, 5, percentile=101.0)
    with pytest.raises(ValueError, match="n: expected an int of at least 1"):
        metropolis_hastings(draw, log_ratio, 0)
    seen = iter([torch.tensor([50.0, 0.0])])
    with pytest.raises(RuntimeError, match="1,000 draws gave 0 of 5"):
        rejection(draw, lambda x: next(seen, torch.zeros(len(x))), 5, percentile=None, burn_in=2, most=1000, seed=0)
