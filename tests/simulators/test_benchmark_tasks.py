"""The tasks' likelihoods integrate to one, their exact posteriors stay inside, and what is published can be had."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from scipy.stats import binom, multivariate_normal

from implicit_simulators import Stream
from implicit_simulators.benchmark import (
    SIR,
    SLCP,
    BernoulliGLM,
    BernoulliGLMRaw,
    GaussianLinear,
    GaussianMixture,
    LotkaVolterra,
    SLCPDistractors,
    published,
)
from implicit_simulators.benchmark.bernoulli_glm import design, statistics
from implicit_simulators.benchmark.box_normal import BoxNormal
from implicit_simulators.benchmark.publication import DIMENSIONS


def test_slcp_is_four_draws_from_the_normal_of_its_definition() -> None:
    task = SLCP()
    theta = task.sample_prior(20, seed=0).double()
    x = task.simulate(theta, seed=0)
    for row, data, value in zip(theta.numpy(), x.numpy(), task.log_likelihood(theta, x), strict=True):
        s1, s2, rho = row[2] ** 2, row[3] ** 2, math.tanh(row[4])
        covariance = [[s1**2 + 1e-6, rho * s1 * s2], [rho * s1 * s2, s2**2 + 1e-6]]
        expected = multivariate_normal(row[:2], covariance).logpdf(data.reshape(4, 2)).sum()
        assert float(value) == pytest.approx(expected, rel=1e-6)


def test_slcp_does_not_know_the_signs_of_two_parameters() -> None:
    task = SLCP()
    theta = task.sample_prior(50, seed=0)
    flipped = theta * torch.tensor([1.0, 1.0, -1.0, -1.0, 1.0])
    x = task.observation("1")
    torch.testing.assert_close(task.log_likelihood(theta, x), task.log_likelihood(flipped, x))


def test_distractors_say_nothing_and_hide_what_slcp_says() -> None:
    hidden, plain = SLCPDistractors(), SLCP()
    theta = hidden.sample_prior(200, seed=0)
    x = hidden.simulate(theta, seed=0)
    assert torch.equal(hidden.informative(x), plain.simulate(theta, seed=0))
    assert torch.equal(hidden.log_likelihood(theta, x), plain.log_likelihood(theta, hidden.informative(x)))
    other = hidden.simulate(theta.flip(0), seed=0)
    assert int((x != other).any(0).sum()) == 8
    for name in hidden.observations:
        assert torch.equal(hidden.informative(hidden.observation(name)), plain.observation(name))


def test_the_statistics_of_the_glm_are_sufficient() -> None:
    r"""Raw data and statistics have the same likelihood, which sums to one over all trains of a short stimulus."""
    short, raw = BernoulliGLM(), BernoulliGLMRaw()
    theta = short.sample_prior(30, seed=0).double()
    x = raw.simulate(theta, seed=1)
    assert set(x.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(short.simulate(theta, seed=1), statistics(x))
    torch.testing.assert_close(raw.log_likelihood(theta, x), short.log_likelihood(theta, statistics(x)))
    for name in raw.observations:
        torch.testing.assert_close(statistics(raw.observation(name)[None])[0], short.observation(name))
    drive = theta @ design().double().T
    expected = torch.distributions.Bernoulli(logits=drive).log_prob(x).sum(1)
    torch.testing.assert_close(raw.log_likelihood(theta, x), expected)
    torch.testing.assert_close(
        raw.log_likelihood(theta, x[3]), torch.distributions.Bernoulli(logits=drive).log_prob(x[3]).sum(1)
    )


def test_no_two_short_spike_trains_have_the_same_statistics() -> None:
    """So that the probability of the statistics is that of the train."""
    trains = torch.tensor(list(itertools.product((0.0, 1.0), repeat=12)), dtype=torch.float64)
    sums = statistics(torch.nn.functional.pad(trains, (0, 88)))
    assert len((sums * 1e4).round().unique(dim=0)) == len(trains)


def test_the_prior_of_the_glm_has_the_precision_of_its_definition() -> None:
    f = torch.zeros(9, 9, dtype=torch.float64)
    for i in range(9):
        f[i, i] = 1 + (i / 9) ** 0.5
        if i >= 1:
            f[i, i - 1] = -2
        if i >= 2:
            f[i, i - 2] = 1
    prior: Any = BernoulliGLM().prior
    covariance = prior.covariance_matrix.double()
    torch.testing.assert_close(covariance[1:, 1:] @ f.T @ f, torch.eye(9, dtype=torch.float64), rtol=0, atol=1e-4)
    assert float(covariance[0, 0]) == pytest.approx(2)
    assert (covariance[0, 1:] == 0).all()


def test_sir_is_binomial() -> None:
    task = SIR()
    theta = task.sample_prior(30, seed=0).double()
    x = task.simulate(theta, seed=0)
    assert torch.equal(x, x.round())
    assert 0 <= x.min() <= x.max() <= 1000
    p = task.log_infectious(theta).exp()
    expected = torch.from_numpy(binom.logpmf(x.numpy(), 1000, p.numpy())).sum(1)
    torch.testing.assert_close(task.log_likelihood(theta, x), expected, rtol=1e-8, atol=1e-8)
    assert p[:, 0].tolist() == pytest.approx([1e-6] * 30)


def test_lotka_volterra_is_log_normal() -> None:
    task = LotkaVolterra()
    theta = task.sample_prior(30, seed=0).double()
    x = task.simulate(theta, seed=0)
    expected = torch.distributions.LogNormal(task.log_populations(theta), 0.1).log_prob(x).sum(1)
    torch.testing.assert_close(task.log_likelihood(theta, x), expected)
    torch.testing.assert_close(
        task.log_populations(theta)[:, [0, 10]].exp(), torch.tensor([[30.0, 1.0]]).double().expand(30, 2)
    )


@pytest.mark.parametrize("kind", [SIR, LotkaVolterra])
def test_likelihoods_of_differential_equations_have_the_gradient_of_differences(kind: Any) -> None:
    """Differences of the likelihood along theta, at steps that leave the number of Runge-Kutta steps as it is."""
    task = kind()
    x = task.observation("2")
    theta = task.true_parameters("2").double()[None].requires_grad_()
    (slope,) = torch.autograd.grad(task.log_likelihood(theta, x).sum(), theta)
    theta = theta.detach()
    for j in range(task.dim):
        step = torch.zeros_like(theta)
        step[0, j] = 1e-6 * float(theta[0, j])
        ahead, behind = (float(task.log_likelihood(theta + s * step, x)) for s in (1, -1))
        assert float(slope[0, j]) == pytest.approx((ahead - behind) / (2 * float(step[0, j])), rel=1e-4)


# --- the normal in a box


@pytest.mark.parametrize(
    ("loc", "low", "high"), [(0.0, -1.0, 1.0), (3.0, -1.0, 1.0), (-9.0, -1.0, 1.0), (0.95, -1.0, 1.0), (0.0, 4.0, 9.0)]
)
def test_a_normal_in_a_box_is_normalised_and_drawn_from(loc: float, low: float, high: float) -> None:
    """The density by the midpoint rule; mean and variance of draws within five standard errors."""
    box = BoxNormal(torch.tensor([loc], dtype=torch.float64), 0.5, low, high)
    nodes = 400_000
    grid = low + (high - low) * (torch.arange(nodes, dtype=torch.float64)[:, None] + 0.5) / nodes
    weight = box.log_prob(grid).exp() * (high - low) / nodes
    assert float(weight.sum()) == pytest.approx(1, rel=1e-5)
    with Stream.of(0).forked():
        draws = box.sample((20_000,))[:, 0]
    assert ((draws >= low) & (draws < high)).all()
    mean = float((weight * grid[:, 0]).sum())
    variance = float((weight * (grid[:, 0] - mean) ** 2).sum())
    fourth = float((weight * (grid[:, 0] - mean) ** 4).sum())
    assert abs(float(draws.mean()) - mean) < 5 * (variance / 20_000) ** 0.5
    assert abs(float(draws.var()) - variance) < 5 * ((fourth - variance**2) / 20_000) ** 0.5
    assert box.log_prob(torch.tensor([[low - 0.1], [high + 0.1]])).tolist() == [-math.inf, -math.inf]


def test_a_box_out_of_reach_is_refused() -> None:
    with pytest.raises(ValueError, match="loc: expected a mean within 37 standard deviations of the box"):
        BoxNormal(torch.tensor([30.0]), 0.5, -1.0, 1.0)
    with pytest.raises(ValueError, match="low: expected less than high"):
        BoxNormal(torch.tensor([0.0]), 0.5, 1.0, -1.0)


@pytest.mark.parametrize("x", [[0.0, 0.0], [9.5, -9.9], [10.2, 0.0], [11.0, 11.0], [14.0, 0.0]])
def test_the_posterior_of_the_mixture_is_likelihood_times_prior(x: list[float]) -> None:
    """Up to one constant, for data near the edge and outside, where the square leaves little of a component."""
    task = GaussianMixture()
    observed = torch.tensor(x, dtype=torch.float64)
    posterior = task.posterior(observed)
    with Stream.of(1).forked():
        theta = posterior.sample((200,))
    assert (theta.abs() <= 10).all()
    constant = task.log_likelihood(theta, observed) - posterior.log_prob(theta)
    assert float(constant.max() - constant.min()) < 1e-6
    assert posterior.log_prob(torch.tensor([[10.5, 0.0]], dtype=torch.float64)).tolist() == [-math.inf]


# --- what is published


def test_published_observations_belong_to_the_published_settings() -> None:
    assert len(GaussianLinear().observations) == 10
    assert GaussianLinear(dim=3).observations == ()
    with pytest.raises(ValueError, match="gaussian-linear ships none"):
        GaussianLinear(prior_variance=1.0).observation("1")
    with pytest.raises(ValueError, match="slcp ships 1, 2, 3, 4, 5, 6, 7, 8, 9, 10; got '11'"):
        SLCP().true_parameters("11")


@pytest.mark.parametrize("name", DIMENSIONS)
def test_without_sbibm_it_is_told_how_to_get_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from implicit_simulators.benchmark import publication

    publication._samples.cache_clear()
    monkeypatch.setattr(publication, "find_spec", lambda package: None)
    with pytest.raises(ImportError, match=r"pip install --no-deps sbibm==1\.1\.0"):
        published(name, 1)


@pytest.mark.parametrize(
    ("task", "observation", "message"),
    [
        ("sir", 1, "task: expected one of gaussian-linear, .*; got 'sir'"),
        ("slcp", 0, "observation: expected a number from 1 to 10; got 0"),
        ("slcp", "first", "observation: expected a number from 1 to 10; got 'first'"),
    ],
)
def test_what_was_not_published_is_refused(task: str, observation: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        published(task, observation)


def test_what_is_published_cannot_be_spoilt() -> None:
    SLCP().observation("1").zero_()
    assert (SLCP().observation("1") != 0).all()
