"""The classifier two-sample test scores what theory says, and says when draws repeat."""

import math

import pytest
import torch

from implicit_infer.diagnose import C2ST, c2st


def draws(n, d=2, seed=0, shift=0.0):
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    x[:, 0] += shift
    return x


def test_equal_laws_score_one_half():
    result = c2st(draws(500), draws(500, seed=1))
    # the folds' classifiers share draws, so their scores vary a little more than independent ones: 4, not 3
    assert abs(result.score - 0.5) < 4 * result.standard_error
    assert result.standard_error == pytest.approx(math.sqrt(0.25 / 1000), rel=0.05)
    assert (result.distinct, result.n, result.warning) == ((500, 500), 500, "")


@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_shifted_gaussians_score_the_optimal_accuracy(shift):
    best = 0.5 * (1 + math.erf(shift / 2 / math.sqrt(2)))  # the optimal classifier cuts half way: Phi(shift / 2)
    result = c2st(draws(500), draws(500, seed=1, shift=shift))
    assert abs(result.score - best) < 3 * result.standard_error + 0.01  # 0.01: what training loses


def test_separated_sets_score_one_and_lists_are_taken():
    result = c2st(draws(100).numpy(), draws(100, seed=1, shift=20.0).tolist())
    assert isinstance(result, C2ST)
    assert float(result) == 1.0


def test_scaling_is_by_the_first_sample():
    p, q = draws(100, d=1), draws(100, d=1, seed=1, shift=1.0)
    plain = c2st(p, q).score
    assert c2st(1024 * p, 1024 * q).score == plain  # a power of two scales without rounding
    assert c2st(1024 * p, 1024 * q, z_score=False).score != plain


def test_a_constant_column_is_harmless():
    one = torch.ones(100, 1)
    assert 0.3 < c2st(torch.cat([draws(100, d=1), one], 1), torch.cat([draws(100, d=1, seed=1), one], 1)).score < 0.7


def test_seed_repeats_the_score():
    p, q = draws(100, d=1), draws(100, d=1, seed=1)
    assert c2st(p, q, seed=3) == c2st(p, q, seed=3)


def test_repeated_rows_are_said(caplog):
    result = c2st(draws(200, d=1), draws(50, d=1, seed=1).repeat(4, 1))
    assert result.distinct == (200, 50)
    assert result.warning.startswith("q_samples has 50 distinct rows of 200: repeated draws alone raise the score")
    assert result.warning in caplog.text


def test_repeats_of_an_exact_posterior_look_wrong():
    """The trap itself: both laws are equal, only 10 draws are repeated to 100, in ten dimensions."""
    exact, again = draws(100, d=10), draws(100, d=10, seed=1)
    assert c2st(exact, again[:10].repeat(10, 1)).score > 0.8
    assert c2st(exact, again).score < 0.6


@pytest.mark.parametrize(
    ("p", "q", "options", "message"),
    [
        (draws(10)[:, 0], draws(10), {}, r"p_samples: expected shape \(n, d\); got \(10,\)"),
        (
            draws(10),
            draws(9),
            {},
            r"q_samples: expected as many rows and columns as p_samples, \(10, 2\).*got \(9, 2\)",
        ),
        (draws(10), draws(10) / 0, {}, "q_samples: expected finite draws; 10 of 10 rows"),
        (draws(10), draws(10), {"folds": 1}, "folds: expected between 2 and the number of draws, 20; got 1"),
    ],
)
def test_bad_arguments(p, q, options, message):
    with pytest.raises(ValueError, match=message):
        c2st(p, q, **options)
