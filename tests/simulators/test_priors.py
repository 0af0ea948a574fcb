"""Priors against scipy and against their own derivatives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import (
    Beta,
    Distribution,
    Exponential,
    Independent,
    LogNormal,
    MultivariateNormal,
    Normal,
    Poisson,
    Uniform,
)

from implicit_simulators.priors import Product, TruncatedNormal, unconstrained
from implicit_simulators.streams import Stream

LOC, SCALE = st.floats(-3, 3), st.floats(0.05, 3)


def double(*values: float) -> list[Tensor]:
    return [torch.tensor(value, dtype=torch.float64) for value in values]


def peer(loc: float, scale: float, low: float) -> Any:
    return scipy.stats.truncnorm((low - loc) / scale, np.inf, loc, scale)


@given(LOC, SCALE, st.floats(-2, 2), st.floats(0.001, 5))
def test_truncated_normal_agrees_with_scipy(loc: float, scale: float, low: float, above: float) -> None:
    ours, theirs = TruncatedNormal(*double(loc, scale, low)), peer(loc, scale, low)
    x = torch.tensor(low + above, dtype=torch.float64)
    assert math.isclose(ours.log_prob(x).item(), theirs.logpdf(x.item()), rel_tol=1e-9, abs_tol=1e-9)
    assert math.isclose(ours.mean.item(), theirs.mean(), rel_tol=1e-7, abs_tol=1e-9)
    # 1 + alpha h - h^2 cancels in the far tail, as alpha^-2 of itself
    assert math.isclose(ours.variance.item(), theirs.var(), rel_tol=1e-5, abs_tol=1e-9)
    if (low - loc) / scale < 5:  # beyond, the difference of two tails cancels
        assert math.isclose(ours.cdf(x).item(), theirs.cdf(x.item()), rel_tol=1e-7, abs_tol=1e-9)


@pytest.mark.parametrize(("loc", "scale", "low"), [(1.0, 0.5, 0.0), (0.05, 0.05, 0.0), (-1.0, 0.5, 0.0)])
def test_truncated_normal_draws_follow_their_law(loc: float, scale: float, low: float) -> None:
    with Stream.of(0).forked():
        draws = TruncatedNormal(loc, scale, low).sample((20_000,))
    assert (draws > low).all()
    assert scipy.stats.kstest(draws.double().numpy(), peer(loc, scale, low).cdf).pvalue > 1e-3


def test_truncated_normal_has_no_mass_below_its_bound() -> None:
    prior = TruncatedNormal(1.0, 1.0, 0.5)
    assert prior.log_prob(torch.tensor([0.5, 0.4])).tolist() == [-math.inf, -math.inf]
    assert prior.cdf(torch.tensor(0.4)) == 0


def test_truncated_normal_draws_carry_gradients() -> None:
    loc = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def draw(loc: Tensor) -> Tensor:
        with Stream.of(1).forked():
            return TruncatedNormal(loc, 0.5).rsample((100,)).mean()

    (gradient,) = torch.autograd.grad(draw(loc), loc)
    step = 1e-5
    difference = (draw(loc.detach() + step) - draw(loc.detach() - step)) / (2 * step)
    assert math.isclose(gradient.item(), difference.item(), rel_tol=1e-6)


def test_truncated_normal_expands() -> None:
    prior = TruncatedNormal(1.0, 0.5).expand((3, 2))
    assert prior.batch_shape == (3, 2)
    assert prior.sample((4,)).shape == (4, 3, 2)


def mixed() -> Product:
    return Product([Beta(2.0, 3.0), LogNormal(torch.zeros(2), torch.ones(2)), TruncatedNormal(1.0, 0.5)])


def test_product_sums_its_marginals_in_order() -> None:
    prior = mixed()
    with Stream.of(0).forked():
        theta = prior.sample((50,))
    parts = [
        Beta(2.0, 3.0).log_prob(theta[:, 0]),
        LogNormal(0.0, 1.0).log_prob(theta[:, 1:3]).sum(1),
        TruncatedNormal(1.0, 0.5).log_prob(theta[:, 3]),
    ]
    torch.testing.assert_close(prior.log_prob(theta), sum(parts))
    assert prior.event_shape == (4,)
    assert prior.sample().shape == (4,)


def test_product_moments_are_those_of_its_draws() -> None:
    prior = mixed()
    with Stream.of(0).forked():
        theta = prior.sample((100_000,))
    error = (prior.variance / len(theta)).sqrt()
    assert ((theta.mean(0) - prior.mean).abs() < 4.5 * error).all()  # in standard errors
    torch.testing.assert_close(theta.var(0), prior.variance, rtol=0.1, atol=0)  # log-normal: heavy tails


def test_product_off_its_support_is_minus_infinity_with_finite_gradients() -> None:
    theta = torch.tensor([[1.5, 1.0, 1.0, 1.0], [0.5, 1.0, -1.0, 1.0], [0.5, 1.0, 1.0, 1.0]], requires_grad=True)
    log_prob = mixed().log_prob(theta)
    assert torch.isinf(log_prob).tolist() == [True, True, False]
    (gradient,) = torch.autograd.grad(log_prob[2] + log_prob[:2].clamp_min(-1e9).sum(), theta)
    assert torch.isfinite(gradient).all()


def test_product_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    mixed()
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("marginals", "message"),
    [
        ([], "at least one distribution; got none"),
        ([Normal(0.0, 1.0), MultivariateNormal(torch.zeros(2), torch.eye(2))], r"marginals\[1\].*shape \(2,\)"),
        ([Normal(torch.zeros(2, 2), 1.0)], r"marginals\[0\].*shape \(2, 2\)"),
    ],
)
def test_product_refuses_what_is_not_scalar(marginals: list[Distribution], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Product(marginals)


PRIORS: dict[str, Distribution] = {
    "normal": Independent(Normal(torch.zeros(3), torch.ones(3)), 1),
    "correlated": MultivariateNormal(torch.zeros(2), torch.tensor([[2.0, 0.5], [0.5, 1.0]])),
    "box": Independent(Uniform(torch.tensor([-2.0, 1.0]), torch.tensor([3.0, 5.0])), 1),
    "positive": Independent(Exponential(torch.ones(2)), 1),
    "truncated": Independent(TruncatedNormal(torch.ones(2), 0.5, torch.tensor([0.0, 0.3])), 1),
    "mixed": mixed(),
}


@pytest.mark.parametrize("name", PRIORS)
@given(seed=st.integers(0, 10**6))
def test_unconstrained_goes_there_and_back(name: str, seed: int) -> None:
    prior = PRIORS[name]
    transform = unconstrained(prior)
    with Stream.of(seed).forked():
        theta = prior.sample((5,)).double()
        z = torch.randn(5, prior.event_shape[0], dtype=torch.float64)
    torch.testing.assert_close(transform(transform.inv(theta)), theta, rtol=1e-6, atol=1e-7)
    assert prior.support.check(transform(z)).all()  # type: ignore[union-attr]  # all of these have one


@pytest.mark.parametrize("name", PRIORS)
@given(seed=st.integers(0, 10**6))
def test_unconstrained_volume_is_that_of_autograd(name: str, seed: int) -> None:
    transform = unconstrained(PRIORS[name])
    d = PRIORS[name].event_shape[0]
    z = torch.randn(d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    ours = transform.log_abs_det_jacobian(z, transform(z))
    jacobian = torch.autograd.functional.jacobian(transform, z)
    assert ours.shape == ()
    torch.testing.assert_close(ours, torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("prior", [Poisson(torch.ones(2)), object()])
def test_unconstrained_needs_a_continuous_support(prior: object) -> None:
    with pytest.raises(TypeError, match="prior: expected a distribution with a continuous support"):
        unconstrained(prior)


def test_draws_far_in_the_tail_have_its_law():
    """Twelve standard deviations out the excess over the bound is nearly exponential, of mean 1/12 (1 - 1/144 ...)."""
    prior = TruncatedNormal(torch.tensor(0.0), torch.tensor(1.0), torch.tensor(12.0))
    with Stream.of(0).forked():
        x = prior.sample((20_000,)).double()
    excess = x - 12
    hazard = float(TruncatedNormal._hazard(torch.tensor(12.0, dtype=torch.float64)))
    assert abs(excess.mean() - (hazard - 12)) < 5 * excess.std() / 20_000**0.5 + 1e-6
    levels = prior.cdf(x.float()).double()
    assert abs(levels.mean() - 0.5) < 5 * (1 / 12) ** 0.5 / 20_000**0.5 + 1e-4
