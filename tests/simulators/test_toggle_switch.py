"""Toggle switch: the truncated noise against SciPy's law, one cell by hand, and the population against a reference."""

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.special import ndtr, ndtri

from implicit_simulators.toggle_switch import LEVELS, ToggleSwitch, _above_zero

THETA = torch.tensor([ToggleSwitch.reference_theta], dtype=torch.float64)


@pytest.mark.parametrize("mean", [-0.9, 0.0, 0.3, 5.0, 400.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_is_a_truncated_normal(mean, dtype):
    uniform = torch.rand(5000, generator=torch.Generator().manual_seed(0), dtype=dtype)
    draws = _above_zero(torch.full_like(uniform, mean), uniform)
    assert (draws > 0).all()
    law = scipy.stats.truncnorm(-mean / 0.5, np.inf, loc=mean, scale=0.5)
    assert scipy.stats.kstest(draws.double().numpy(), law.cdf).pvalue > 1e-3


def test_ends_of_the_uniform_numbers_are_finite():
    ends = torch.tensor([0.0, 1.0 - 2**-24])
    for mean in (-1.0, 0.0, 1.0, 1000.0):
        draws = _above_zero(torch.full((2,), mean), ends)
        assert torch.isfinite(draws).all()
        assert (draws > 0).all()


def test_a_cell_is_that_of_the_paper():
    simulator = ToggleSwitch(cells=1, steps=50)
    uniform = torch.rand(100, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alpha_u, alpha_v, beta_u, beta_v = THETA[0, :4].tolist()
    u = v = 10.0
    for a, b in uniform[:, 0, 0].reshape(50, 2).tolist():
        mean_u = u + alpha_u / (1 + v**beta_u) - (1 + 0.03 * u)
        mean_v = v + alpha_v / (1 + u**beta_v) - (1 + 0.03 * v)
        u, v = (m - 0.5 * ndtri(q * ndtr(m / 0.5)) for m, q in ((mean_u, a), (mean_v, b)))
    assert float(simulator._products(THETA, uniform)) == pytest.approx(u, rel=1e-9)


def reference(cells, steps, rng):
    """A population of cells, with SciPy's truncated normal numbers."""
    alpha_u, alpha_v, beta_u, beta_v, mu, sigma, gamma = THETA[0].tolist()
    u = v = np.full(cells, 10.0)
    for _ in range(steps):
        mean_u = u + alpha_u / (1 + v**beta_u) - (1 + 0.03 * u)
        mean_v = v + alpha_v / (1 + u**beta_v) - (1 + 0.03 * v)
        u, v = (m + 0.5 * scipy.stats.truncnorm.rvs(-m / 0.5, np.inf, random_state=rng) for m in (mean_u, mean_v))
    return u + mu + mu * sigma * rng.standard_normal(cells) / u**gamma


def test_population_is_the_references():
    ours = ToggleSwitch(cells=1500, steps=60).simulate(THETA.float(), seed=3)[0]
    theirs = reference(1500, 60, np.random.default_rng(0))
    assert scipy.stats.ks_2samp(ours.numpy(), theirs).pvalue > 1e-3


def test_at_the_published_parameters_there_are_two_kinds_of_cells():
    x = ToggleSwitch(cells=400).simulate(THETA.float(), seed=0)[0]
    high = (x > 700).float().mean()
    assert 0.3 < high < 0.9
    assert ((x > 600) & (x < 800)).float().mean() < 0.02


def test_rows_do_not_depend_on_how_many_are_simulated_at_once():
    simulator = ToggleSwitch(cells=6000, steps=4)  # three rows at once
    theta = simulator.sample_prior(8, seed=0)
    assert torch.equal(simulator.simulate(theta, seed=1)[:4], simulator.simulate(theta[:4], seed=1))


def test_a_block_holds_so_many_cells():
    assert ToggleSwitch().block == 100
    assert ToggleSwitch(cells=20).block == 1000
    assert ToggleSwitch(cells=1_000_000).block == 1
    simulator = ToggleSwitch(cells=100_000, steps=1)  # two rows a block
    theta = simulator.sample_prior(1, seed=0).expand(3, -1)
    x = simulator.simulate(theta, seed=1)
    assert torch.equal(simulator.simulate_block(theta[2:], 1, 1), x[2:])
    assert not torch.equal(x[2], x[0])


def test_summaries_are_quantiles():
    x = torch.rand(3, 500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    s = ToggleSwitch(cells=500).summarize(x)
    np.testing.assert_allclose(s, np.quantile(x.numpy(), LEVELS, axis=1).T, rtol=1e-12)


@pytest.mark.parametrize(
    ("settings", "match"), [({"cells": 0}, "cells: expected"), ({"steps": 1.5}, "steps: expected")]
)
def test_bad_settings_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        ToggleSwitch(**settings)
