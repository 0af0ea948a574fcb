"""Stochastic volatility against its moments, and its data against the paper's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from implicit_simulators import StochasticVolatility, Stream
from implicit_simulators.engines.step_noise import draw_noise


def returns(theta: tuple[float, ...], rows: int, n_obs: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    parameters = torch.tensor([theta], dtype=torch.float64)
    return parameters, StochasticVolatility(n_obs).simulate(parameters.repeat(rows, 1), seed=seed)


@pytest.mark.parametrize("theta", [(-0.86, 0.9, 0.3), (1.0, -0.5, 0.8), (0.0, 0.0, 0.5)])
def test_moments(theta: tuple[float, ...]) -> None:
    simulator, rows = StochasticVolatility(), 20_000
    parameters, y = returns(theta, rows, 11)
    variance, kurtosis = simulator.variance(parameters)[0], simulator.kurtosis(parameters)[0]
    for power, expected in ((1, 0 * variance), (2, variance), (4, kurtosis * variance**2)):
        by_row = (y**power).mean(1)  # rows are independent, returns within one are not
        assert abs(by_row.mean() - expected) < 5 * by_row.std() / rows**0.5
    logs = y.square().log()
    by_row = logs.mean(1)
    assert abs(by_row.mean() - simulator.log_square_mean(parameters)[0]) < 5 * by_row.std() / rows**0.5
    # log squares: the variance of the latent part and of the noise, pi**2 / 2
    expected = simulator.log_variance_variance(parameters)[0] + math.pi**2 / 2
    centred = logs - simulator.log_square_mean(parameters)[0]
    by_row = centred.square().mean(1)
    assert abs(by_row.mean() - expected) < 5 * by_row.std() / rows**0.5
    correlations = simulator.log_square_autocorrelation(parameters, 4)[0]
    for lag in range(1, 5):
        by_row = (centred[:, lag:] * centred[:, :-lag]).mean(1) / expected
        assert abs(by_row.mean() - correlations[lag - 1]) < 5 * by_row.std() / rows**0.5


def test_it_is_the_recursion_of_the_paper() -> None:
    """Replayed number by number, on the noise that the compiled loop sees."""
    simulator = StochasticVolatility(20)
    mu, phi, sigma = 0.5, 0.9, 0.3
    stream = Stream.of(3)
    x = simulator._simulate(torch.tensor([[mu, phi, sigma]], dtype=torch.float64), stream)[0]
    first = draw_noise(("normal",), 1, 1, stream.key, stream=2)[0, 0, 0]
    shocks, returns = (draw_noise(("normal",), 1, 20, stream.key, stream=i)[0, :, 0] for i in (0, 1))
    h = mu + sigma / math.sqrt(1 - phi**2) * first
    expected = []
    for shock, noise in zip(shocks, returns, strict=True):
        h = mu + phi * (h - mu) + sigma * shock
        expected.append(math.exp(h / 2) * noise)
    np.testing.assert_allclose(x, expected, rtol=1e-10)


def test_it_is_stationary_from_the_first_return() -> None:
    _, y = returns((0.0, 0.97, 0.25), 5000, 200)
    assert stats.ks_2samp(y[:, 0].numpy(), y[:, -1].numpy()).pvalue > 1e-3


def test_the_prior_is_that_of_the_paper() -> None:
    prior = StochasticVolatility().prior
    with Stream.of(0).forked():
        theta = prior.sample((20_000,)).double().numpy()
    laws = [stats.norm(0, 10**0.5), stats.beta(20, 1.5, loc=-1, scale=2)]
    assert all(stats.kstest(theta[:, i], law.cdf).pvalue > 1e-3 for i, law in enumerate(laws))
    assert stats.kstest(theta[:, 2] ** 2, stats.invgamma(2.5, scale=0.025).cdf).pvalue > 1e-3
    error = prior.variance.sqrt().numpy() / len(theta) ** 0.5
    assert (np.abs(theta.mean(0) - prior.mean.numpy()) < 5 * error).all()
    # two moments only of the root of this inverse gamma variable have small errors
    np.testing.assert_allclose(theta.var(0)[:2], prior.variance.numpy()[:2], rtol=0.05)
    point = torch.tensor([[-0.5, 0.9, 0.2]])
    density = laws[0].logpdf(-0.5) + laws[1].logpdf(0.9)
    density += stats.invgamma(2.5, scale=0.025).logpdf(0.04) + math.log(0.4)  # of sigma, by the chain rule
    assert prior.log_prob(point).item() == pytest.approx(density, abs=1e-4)


def test_the_pound_is_that_of_the_paper() -> None:
    simulator = StochasticVolatility()
    y = simulator.observation("pound-1981-1985")
    assert y.shape == (945,)
    assert abs(y.mean()) < 1e-6
    # a year and more of volatility: at the posterior means of the paper, variance and tails are as observed
    theta = torch.tensor([[2 * math.log(0.6495), 0.9782, 0.1582]], dtype=torch.float64)
    drawn = simulator.simulate(theta.repeat(500, 1), seed=0)
    for statistic in (lambda y: y.square().mean(-1), lambda y: (y**4).mean(-1) / y.square().mean(-1) ** 2):
        share = (statistic(drawn) < statistic(y.double())).double().mean()
        assert 0.005 < share < 0.995
    share = (simulator.summarize(drawn) < simulator.summarize(y.double()[None])).double().mean(0)
    assert ((share > 0.002) & (share < 0.998)).all()


def test_summaries() -> None:
    simulator = StochasticVolatility()
    parameters, y = returns((0.0, 0.95, 0.3), 200, 945)
    s = simulator.summarize(y)
    assert s.shape == (200, 13)
    correlations = s[:, 2:12]
    expected = simulator.log_square_autocorrelation(parameters)[0]
    # the offset and the estimated mean bias them a little
    assert ((correlations.mean(0) - expected).abs() < 5 * correlations.std(0) / 200**0.5 + 0.03).all()
    # a change of scale moves the mean alone, but for the offset
    scaled = simulator.summarize(1000 * y)
    torch.testing.assert_close(scaled[:, 12], s[:, 12])
    assert (scaled[:, 0] > s[:, 0] + 13).all()
    normal = simulator.summarize(torch.randn(1, 100_000, generator=torch.Generator().manual_seed(0)))
    assert normal[0, 12] == pytest.approx(0.5 * math.log(math.pi / 2), abs=0.01)
    assert torch.isfinite(simulator.summarize(torch.zeros(1, 945))).all()


def test_outside_of_the_range_nothing_is_drawn() -> None:
    x = StochasticVolatility(11).simulate([[0.0, 1.0, 0.1], [0, -1.2, 0.1], [0, 0.5, 0], [0, 0.5, 0.1]], seed=0)
    assert x.isnan().all(1).tolist() == [True, True, True, False]


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="n_obs: expected an int above 10; got 10"):
        StochasticVolatility(10)
    with pytest.raises(ValueError, match="observation: stochastic-volatility ships none"):
        StochasticVolatility(50).observation("pound-1981-1985")
