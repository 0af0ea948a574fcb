"""Blowflies: the recursion, the noise and the statistics against scalar references; the balance where there is none."""

import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
import torch

from implicit_simulators.blowflies import Blowflies, _gamma

THETA = torch.tensor([[29.0, 0.2, 260.0, 0.6, 0.3, 7.0], [6.5, 0.16, 400.0, 0.3, 0.3, 14.4]], dtype=torch.float64)


def test_recursion_is_that_of_the_codes():
    simulator = Blowflies(steps=30, burn_in=10)
    e, eps = torch.rand(2, 2, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    ours = simulator._populations(THETA, e, eps)
    for row, (p, delta, n0, _, _, tau) in enumerate(THETA.tolist()):
        lag = round(tau)
        flies = [180.0] * lag
        for i in range(40):
            born = p * flies[-lag] * math.exp(-flies[-lag] / n0) * e[row, i]
            flies.append(float(born + flies[-1] * math.exp(-delta * eps[row, i])))
        np.testing.assert_allclose(ours[row], flies[lag + 10 :], rtol=1e-10)


def test_noise_is_gamma_with_mean_one():
    uniform = torch.rand(1, 5000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for spread in (0.1, 0.6, 2.0):
        draws = _gamma(uniform, torch.tensor([[spread]], dtype=torch.float64))[0].numpy()
        law = scipy.stats.gamma(spread**-2, scale=spread**2)
        assert law.mean() == pytest.approx(1)
        assert law.std() == pytest.approx(spread)
        assert scipy.stats.kstest(draws, law.cdf).pvalue > 1e-3


def test_each_noise_acts_where_it_should():
    """With hatching all but certain, and then dying: the spread of the first step is known in closed form."""
    n = 4000
    simulator = Blowflies(steps=5, burn_in=0)
    p, n0, delta = 10.0, 300.0, 0.4
    born = p * 180 * math.exp(-180 / n0)
    theta = torch.tensor([[p, delta, n0, 1e-3, 0.5, 3.0], [p, delta, n0, 0.5, 1e-3, 3.0]], dtype=torch.float64)
    first = simulator.simulate(theta[:1].expand(n, -1), seed=3)[:, 0]
    assert abs(first.std() / (0.5 * born) - 1) < 5 / n**0.5  # a gamma's kurtosis makes it 1.1 / sqrt(2 n) and less
    second = simulator.simulate(theta[1:].expand(n, -1), seed=4)[:, 0] - born
    survival = (1 + delta * 0.25) ** (-1 / 0.25)  # E exp(-delta eps) of a gamma with mean 1 and variance 0.25
    assert abs(second.mean() - 180 * survival) < 5 * second.std() / n**0.5 + 1e-3 * born


def test_without_noise_the_population_settles():
    """Where births balance deaths, N = N_0 log(P / (1 - exp(-delta)))."""
    theta = torch.tensor([[0.5, 0.2, 260.0, 1e-4, 1e-4, 2.0]], dtype=torch.float64)
    x = Blowflies(steps=200, burn_in=300).simulate(theta, seed=0)
    assert float(x[0, -1]) == pytest.approx(260 * math.log(0.5 / (1 - math.exp(-0.2))), rel=2e-3)


def test_delay_is_a_whole_number_of_steps():
    base = THETA[:1].repeat(4, 1)
    base[:, 5] = torch.tensor([7.0, 7.4, 0.2, 1.0])
    e = torch.ones(4, 60, dtype=torch.float64)
    x = Blowflies(steps=50, burn_in=10)._populations(base, e, e)
    assert torch.equal(x[0], x[1])
    assert torch.equal(x[2], x[3])
    assert not torch.equal(x[0], x[2])


def peaks(series, threshold):
    """Local maxima that stand out by the threshold, one point at a time."""
    count, high, low, looking_for_peak = 0, -math.inf, math.inf, True
    for value in series:
        high, low = max(high, value), min(low, value)
        if looking_for_peak and value < high - threshold:
            count, low, looking_for_peak = count + 1, value, False
        elif not looking_for_peak and value > low + threshold:
            high, looking_for_peak = value, True
    return count


def meeds_and_welling(y):
    count = len(y)
    quarter = [math.floor(count * q / 4 + 0.5) for q in range(5)]
    levels, moves = np.sort(y), np.sort(np.diff(y))
    first = [math.log(levels[a:b].mean() / 1000 + 1e-12) for a, b in pairwise(quarter)]
    quarter[-1] = count - 1
    second = [moves[a:b].mean() / 1000 for a, b in pairwise(quarter)]
    return [*first, *second, peaks(y / y.std(), 0.5), peaks(y / y.std(), 1.5)]


@pytest.mark.parametrize("steps", [180, 42])
def test_summaries_are_those_of_meeds_and_welling(steps):
    simulator = Blowflies(steps=steps)
    x = simulator.simulate(simulator.sample_prior(40, seed=1).double(), seed=2)
    ours = simulator.summarize(x)
    assert ours.shape == (40, 10)
    for row, series in zip(ours, x.numpy(), strict=True):
        np.testing.assert_allclose(row, meeds_and_welling(series), rtol=1e-9, atol=1e-12)
    assert ours[:, 8].max() > ours[:, 9].min()


@pytest.mark.parametrize("value", [0.0, 50.0])
def test_summaries_of_a_constant_are_finite(value):
    s = Blowflies().summarize(torch.full((2, 180), value))
    assert torch.isfinite(s).all()
    assert (s[:, 8:] == 0).all()


def test_parameters_out_of_range_are_failures():
    theta = THETA.float().clone()
    theta[0, 3] = -0.1
    x = Blowflies().simulate(theta, seed=0)
    assert torch.isnan(x[0]).all()
    assert torch.isfinite(x[1]).all()


@pytest.mark.parametrize(
    ("settings", "match"),
    [({"steps": 2.5}, "steps: expected an int of at least 5"), ({"burn_in": -1}, "burn_in: expected an int of at")],
)
def test_bad_settings_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        Blowflies(**settings)
