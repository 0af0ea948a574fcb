"""Predictive checks answer as theory says: uniform p-values when all is well, small ones when it is not."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm

from implicit_infer.diagnose import posterior_predictive, predictive_check
from implicit_infer.posteriors.base import Posterior
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear

DIM = 4


def predictions(n, seed, shift=0.0):
    return torch.randn(n, DIM, generator=torch.Generator().manual_seed(seed)) + shift


SIMULATOR = GaussianLinear(dim=DIM)


class Exact(Posterior):
    """The closed-form posterior."""

    simulator: GaussianLinear

    def _sample(self, n, x, stream, progress):
        with stream.forked():
            return torch.stack([self.simulator.posterior(one).sample((n,)) for one in x], 1)


def exact(simulator=SIMULATOR):
    observed = torch.full((simulator.dim,), 0.2)
    return Exact(simulator, observed, method="exact", simulations=0)


def test_p_values_are_uniform_when_the_observation_is_one_of_the_predictions():
    p = [predictive_check(SIMULATOR, x[1:], x[0]).p_value for x in (predictions(100, seed) for seed in range(300))]
    # KS at level 0.001: such a p occurs once in a thousand test designs, and the seeds are fixed
    assert kstest(p, "uniform").pvalue > 0.001
    assert min(p) >= 1 / 100
    assert np.allclose(np.asarray(p) * 100, np.round(np.asarray(p) * 100))  # ranks of 100 points


def test_a_shifted_observation_has_the_smallest_p_value():
    check = predictive_check(SIMULATOR, predictions(200, 0), torch.full((DIM,), 6.0))
    assert check.p_value == pytest.approx(1 / 201)
    assert check.coverage_90 == 0.0


def test_the_energy_score_is_the_one_in_the_docstring():
    """The rank found by the short formula, against the leave-one-out scores written out."""
    x = predictions(30, 3)
    points = (x - x.median(0).values) / (1.4826 * (x - x.median(0).values).abs().median(0).values)
    distances = torch.cdist(points.double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist")
    scores = []
    for i in range(30):
        others = [j for j in range(30) if j != i]
        spread = distances[others][:, others].sum() / (29 * 28)
        scores.append(float(distances[i, others].mean() - spread / 2))
    for i in (0, 7, 29):
        rest = torch.cat([x[:i], x[i + 1 :]])
        expected = sum(score >= scores[i] - 1e-12 for score in scores) / 30
        assert predictive_check(SIMULATOR, rest, x[i]).p_value == pytest.approx(expected)


def test_coverage_of_the_band_is_ninety_percent():
    shares = [predictive_check(SIMULATOR, x[1:], x[0]).coverage_90 for x in (predictions(400, s) for s in range(300))]
    se = math.sqrt(0.9 * 0.1 / (300 * DIM))
    assert abs(np.mean(shares) - 0.9) < 3 * se + 2 / 400  # 2/400: the band is between order statistics


def test_failed_predictions_are_counted_and_left_out():
    x = predictions(200, 0)
    whole = predictive_check(SIMULATOR, x[50:], torch.zeros(DIM))
    x[:50, 0] = torch.nan
    check = predictive_check(SIMULATOR, x, torch.zeros(DIM))
    assert (check.failed, check.n) == (50, 200)
    assert (check.p_value, check.coverage_90) == (whole.p_value, whole.coverage_90)
    x[:199] = torch.inf
    check = predictive_check(SIMULATOR, x, torch.zeros(DIM))
    assert check.failed == 199
    assert math.isnan(check.p_value)
    assert math.isnan(check.coverage_90)


def test_an_exploding_prediction_does_not_hide_the_others():
    x = predictions(200, 0)
    x[3] = 1e37
    assert predictive_check(SIMULATOR, x, torch.full((DIM,), 6.0)).p_value == pytest.approx(2 / 201)
    assert predictive_check(SIMULATOR, x, torch.zeros(DIM)).p_value > 0.5


def test_a_summary_that_never_varies_is_harmless():
    class Constant(GaussianLinear):
        def summarize(self, x):
            return torch.cat([x, torch.ones_like(x)], 1)

    plain = predictive_check(SIMULATOR, predictions(50, 0), torch.zeros(DIM))
    assert predictive_check(Constant(dim=DIM), predictions(50, 0), torch.zeros(DIM)) == plain


def test_posterior_predictive_has_the_predictive_law():
    posterior = exact(GaussianLinear(dim=1))
    x = posterior_predictive(posterior, 4000, seed=1)
    mean, sd = 0.1, math.sqrt(0.05 + 0.1)  # posterior N(0.1, 0.05), noise 0.1
    assert kstest(x[:, 0], norm(mean, sd).cdf).pvalue > 0.001


def test_posterior_predictive_repeats_with_the_seed_and_not_with_the_workers():
    posterior = exact(GaussianLinear(dim=2))
    posterior.simulator.block = 30
    x = posterior_predictive(posterior, 100, seed=1)
    assert torch.equal(x, posterior_predictive(posterior, 100, seed=1))
    assert torch.equal(x, posterior_predictive(posterior, 100, seed=1, workers=2))
    assert not torch.equal(x, posterior_predictive(posterior, 100, seed=2))
    elsewhere = posterior_predictive(posterior, 100, seed=1, x=torch.full((2,), 50.0))
    assert (elsewhere > 10).all()


def test_posterior_predictive_survives_rows_that_raise():
    class Raises(GaussianLinear):
        def _simulate(self, theta, stream):
            if (theta[:, 0] > 0.1).any():
                raise ArithmeticError("diverged")
            return super()._simulate(theta, stream)

    x = posterior_predictive(exact(Raises(dim=2)), 100, seed=1)
    assert 0 < predictive_check(SIMULATOR_2, x, torch.zeros(2)).failed < 100


SIMULATOR_2 = GaussianLinear(dim=2)


@pytest.mark.parametrize(
    ("x", "observed", "message"),
    [
        (torch.zeros(5, 3), torch.zeros(2), r"predictive_x: expected shape \(n, 2\); got \(5, 3\)"),
        (torch.zeros(0, 2), torch.zeros(2), r"predictive_x: expected shape \(n, 2\); got \(0, 2\)"),
        (torch.zeros(5, 2), torch.zeros(3), "observed: gaussian-linear expects shape"),
        (torch.zeros(5, 2), torch.tensor([0.0, torch.nan]), "observed: expected finite values"),
    ],
)
def test_bad_arguments(x, observed, message):
    with pytest.raises(ValueError, match=message):
        predictive_check(SIMULATOR_2, x, observed)


def test_bad_n():
    with pytest.raises(ValueError, match="n: expected a positive int; got 0"):
        posterior_predictive(exact(), 0)
