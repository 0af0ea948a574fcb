"""Poisson source: likelihood and posterior against sums and quadrature, counts against the law."""

import numpy as np
import pytest
import scipy.stats
import torch

from implicit_simulators.poisson_source import PoissonSource


@pytest.mark.parametrize("mean", [0.0, 0.4, 7.0, 60.0])
def test_likelihood_sums_to_one(mean):
    counts = torch.arange(400, dtype=torch.float64)[:, None]
    theta = torch.full((400, 1), mean, dtype=torch.float64)
    p = PoissonSource().log_likelihood(theta, counts).exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(p, scipy.stats.poisson(mean).pmf(counts[:, 0]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("mean", [0.5, 7.0, 300.0])
def test_counts_have_the_law(mean):
    n = 20_000
    x = PoissonSource(events=2).simulate(torch.full((n // 2, 1), mean), seed=0).flatten().numpy()
    law = scipy.stats.poisson(mean)
    edges = np.unique(law.ppf(np.linspace(0, 1, 12)[1:-1]))
    observed = np.bincount(np.searchsorted(edges, x), minlength=len(edges) + 1)
    expected = n * np.diff(np.concatenate(([0.0], law.cdf(edges), [1.0])))
    assert scipy.stats.chisquare(observed, expected).pvalue > 1e-3


def test_posterior_is_prior_times_likelihood():
    simulator = PoissonSource(events=3, prior_shape=2.5, prior_rate=0.3)
    x = torch.tensor([4.0, 9.0, 6.0])
    grid = torch.linspace(1e-3, 40, 8001, dtype=torch.float64)[:, None]
    joint = (simulator.log_likelihood(grid, x) + simulator.prior.log_prob(grid.float()).double()).exp()
    expected = joint / (joint.sum() * (grid[1] - grid[0]))
    ours = simulator.posterior(x).log_prob(grid.float()).double().exp()
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-6)


def test_summary_is_sufficient():
    """The likelihood ratio of two means depends on the counts through their mean alone."""
    simulator = PoissonSource(events=4)
    x, y = torch.tensor([[1.0, 2.0, 3.0, 6.0], [3.0, 3.0, 3.0, 3.0]])
    assert torch.equal(simulator.summarize(x[None]), simulator.summarize(y[None]))
    a, b = torch.tensor([[2.0]]), torch.tensor([[5.0]])
    ratios = [simulator.log_likelihood(a, z) - simulator.log_likelihood(b, z) for z in (x, y)]
    torch.testing.assert_close(ratios[0], ratios[1])


def test_a_negative_mean_is_a_failure():
    x = PoissonSource().simulate(torch.tensor([[-1.0], [0.0]]), seed=0)
    assert torch.isnan(x[0]).all()
    assert x[1].item() == 0


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"events": 0}, "events: expected a positive int"),
        ({"prior_shape": 0.0}, "prior_shape: expected a positive number; got 0.0"),
        ({"prior_rate": float("inf")}, "prior_rate: expected"),
    ],
)
def test_bad_settings_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        PoissonSource(**settings)


def test_negative_counts_are_refused():
    with pytest.raises(ValueError, match="observed: expected counts; the least is -1"):
        PoissonSource(events=2).posterior([3.0, -1.0])
