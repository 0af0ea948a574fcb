"""The two-sample test: exact where p = q, whatever the estimator, and powerful where they differ."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from implicit_estimators.ratio import LogisticRatio
from implicit_estimators.ratio.base import RatioEstimator
from implicit_estimators.ratio.two_sample import permute, two_sample_test


class PlugIn(RatioEstimator):
    """Normal densities fitted to both sets: the answer is there at once, so that tests can repeat it."""

    name = "plug-in"

    def _fit(self, p, q, seed, device, progress) -> None:
        self.fits = [normal(side.double()) for side in (p, q)]
        self.held_out = (p.cpu(), q.cpu())

    def _log_ratio(self, x):
        first, second = (fit.log_prob(x.double()) for fit in self.fits)
        return (first - second).float()


def normal(x: torch.Tensor) -> MultivariateNormal:
    return MultivariateNormal(x.mean(0), torch.atleast_2d(x.T.cov()) + 1e-9 * torch.eye(x.shape[1]).double())


def draw(n: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)) + shift


def test_p_values_are_uniform_where_the_sets_are_of_one_distribution() -> None:
    """The largest gap of 300 uniform numbers' distribution function exceeds 1.95 / sqrt(300) once in a thousand times.

    Few rows, and sets of different sizes: the test is exact, not asymptotic.
    """
    values = []
    for seed in range(300):
        both = draw(50, seed)
        values.append(two_sample_test(both[:30], both[30:], PlugIn(), permutations=199, seed=seed).p_value)
    ordered = torch.tensor(values).sort().values
    steps = torch.arange(1, 301) / 300
    assert max(float((steps - ordered).max()), float((ordered - steps).max())) < 1.95 / math.sqrt(300)
    assert sum(value <= 0.05 for value in values) < 15 + 4 * math.sqrt(300 * 0.05 * 0.95)


def test_discrete_rows_do_not_make_it_reject() -> None:
    rejected = 0
    for seed in range(100):
        both = (draw(60, seed) > 0).float()
        rejected += two_sample_test(both[:30], both[30:], PlugIn(), permutations=99, seed=seed).p_value <= 0.05
    assert rejected < 5 + 4 * math.sqrt(100 * 0.05 * 0.95)


def test_a_difference_is_found_and_shown() -> None:
    p, q = draw(400, 0), draw(400, 1, shift=0.7)
    found = two_sample_test(
        p, q, LogisticRatio(hidden=(16,), epochs=30, learning_rate=2e-2, batch_size=128), permutations=999, seed=0
    )
    assert found.p_value == 0.001
    # total variation of two normals whose means are 0.7 sqrt(2) apart, which bounds the statistic's expectation
    bound = math.erf(0.7 * math.sqrt(2) / 2 / math.sqrt(2))
    assert 0.1 < found.statistic < bound
    assert (found.n_p, found.n_q, found.permutations) == (200, 200, 999)
    assert found.ratio.log_ratio([[-1.0, -1.0]]) > 0
    assert str(found).startswith("p = 0.001 (statistic 0.")


def test_it_is_repeatable_and_touches_no_global_state() -> None:
    p, q, before = draw(40, 0), draw(40, 1), torch.get_rng_state()
    first, second = (two_sample_test(p, q, PlugIn(), permutations=50, seed=7) for _ in range(2))
    assert (first.p_value, first.statistic) == (second.p_value, second.statistic)
    assert torch.equal(before, torch.get_rng_state())


def test_permutations_of_three_rows_can_be_counted() -> None:
    """One row against two, with scores 1, 0, 0: a third of the assignments are as extreme."""
    generator = torch.Generator().manual_seed(0)
    value, p_value = permute(torch.tensor([1.0]), torch.zeros(2), 3000, generator)
    assert value == 1
    assert p_value == pytest.approx(1 / 3, abs=4 * math.sqrt(2 / 9 / 3000))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p": torch.zeros(3, 2)}, "p: expected at least 4 rows; got 3"),
        ({"q": torch.zeros(9, 1)}, "p, q: expected as many columns"),
        ({"permutations": 0}, "permutations: expected a positive int; got 0"),
        ({"share": 1.0}, r"share: expected a share inside \(0, 1\); got 1.0"),
        ({"share": 0.95}, "share: expected one that leaves 2 rows"),
    ],
)
def test_bad_questions_are_refused(change, message: str) -> None:
    good = {"p": draw(9, 0), "q": draw(9, 1), "estimator": PlugIn(), "seed": 0}
    with pytest.raises(ValueError, match=message):
        two_sample_test(**{**good, **change})
