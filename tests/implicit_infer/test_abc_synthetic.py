"""Synthetic likelihoods against the laws they estimate, and matrices of few simulations against what they promise."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import LogNormal, MultivariateNormal

from implicit_infer.abc.synthetic import (
    GraphicalLasso,
    NormalEstimate,
    Optimal,
    Ridge,
    Sample,
    SemiParametricEstimate,
    UnbiasedEstimate,
)
from implicit_infer.abc.synthetic.covariance import standardised
from implicit_infer.abc.synthetic.semiparametric import _normal_scores, _quantile
from implicit_infer.abc.synthetic.whitening import whitening

ROOT = torch.tensor([[1.0, 0.0], [0.7, 0.5]], dtype=torch.float64)
EXACT = MultivariateNormal(torch.tensor([1.0, -2.0], dtype=torch.float64), scale_tril=ROOT)
OBSERVED = torch.tensor([1.8, -1.9], dtype=torch.float64)
ESTIMATES = [NormalEstimate(), NormalEstimate(Ridge(0.5)), UnbiasedEstimate(), SemiParametricEstimate()]


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    noise = torch.randn((*shape, 2), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return EXACT.mean + noise @ ROOT.T


def test_the_unbiased_estimate_is_right_on_average_and_the_plug_in_is_not() -> None:
    sets = draws(40_000, 8)
    exact = float(EXACT.log_prob(OBSERVED).exp())
    for estimate, unbiased in ((UnbiasedEstimate(), True), (NormalEstimate(), False)):
        values = estimate(sets, OBSERVED).exp()
        error = float(values.std()) / math.sqrt(len(values))
        assert (abs(float(values.mean()) - exact) < 5 * error) is unbiased


def test_an_observation_out_of_reach_has_no_unbiased_likelihood() -> None:
    far = UnbiasedEstimate()(draws(1, 8), OBSERVED + 1000)
    assert far.tolist() == [-math.inf]
    assert torch.isfinite(NormalEstimate()(draws(1, 8), OBSERVED + 1000)).all()


@pytest.mark.parametrize("estimate", [NormalEstimate(), NormalEstimate(Optimal()), UnbiasedEstimate()])
def test_many_simulations_tell_the_density(estimate) -> None:
    """Errors of mean and covariance are 1/sqrt(m), and move the log density by a few times that."""
    found = estimate(draws(1, 100_000), OBSERVED)
    assert float(found) == pytest.approx(float(EXACT.log_prob(OBSERVED)), abs=6 / math.sqrt(100_000))


def test_a_kernel_density_sees_what_is_not_normal() -> None:
    law = LogNormal(torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    # ranks are those of the normal draws, so the copula is theirs
    normal = (draws(1, 20_000, seed=1) - EXACT.mean) / ROOT.square().sum(1).sqrt()
    observed = torch.tensor([0.4, 0.5], dtype=torch.float64)
    rho = float(ROOT[1, 0] / ROOT[1].norm())
    copula = MultivariateNormal(
        torch.zeros(2, dtype=torch.float64), torch.tensor([[1, rho], [rho, 1]], dtype=torch.float64)
    )
    standard = torch.distributions.Normal(0.0, 1.0)
    at = observed.log()
    exact = float(law.log_prob(observed).sum() + copula.log_prob(at) - standard.log_prob(at).sum())
    # the bandwidth, 0.1 of a deviation for so many, flattens the density by some hundredths there
    assert float(SemiParametricEstimate()(normal.exp(), observed)) == pytest.approx(exact, abs=0.1)
    assert abs(float(NormalEstimate()(normal.exp(), observed)) - exact) > 0.5


def test_kernel_densities_are_scipys() -> None:
    from scipy.stats import gaussian_kde, norm

    rows = draws(1, 60, seed=3)
    value = float(SemiParametricEstimate(Ridge(0.0))(rows, OBSERVED))
    expected = 0.0
    for column, at in zip(rows[0].T.numpy(), OBSERVED.numpy(), strict=True):
        low, high = torch.quantile(torch.tensor(column), torch.tensor([0.25, 0.75], dtype=torch.float64)).tolist()
        width = 0.9 * min(column.std(ddof=1), (high - low) / 1.34) * len(column) ** -0.2
        density = gaussian_kde(column, bw_method=width / column.std(ddof=1))
        assert density.integrate_box_1d(-math.inf, at) == pytest.approx(norm.cdf((at - column) / width).mean())
        expected += float(density.logpdf(at)[0])
    assert value == pytest.approx(expected, abs=1e-6)


def test_quantiles_reach_far_into_the_tail() -> None:
    at = torch.tensor([-0.1, -5.0, -30.0, -38.0, -200.0], dtype=torch.float64)
    assert torch.allclose(_quantile(torch.special.log_ndtr(at)), at, rtol=1e-4)


@given(st.integers(0, 10**6))
@settings(max_examples=20)
def test_rank_correlations_do_not_see_monotone_maps(seed: int) -> None:
    z, valid, _, _ = standardised(draws(1, 30, seed=seed))
    assert torch.allclose(_normal_scores(z, valid), _normal_scores(z.exp(), valid))


@pytest.mark.parametrize("estimate", ESTIMATES, ids=lambda made: type(made).__name__)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100))
@settings(max_examples=15)
def test_units_change_a_density_by_their_size(estimate, seed: int, scale: float, shift: float) -> None:
    rows = draws(3, 25, seed=seed)
    plain = estimate(rows, OBSERVED)
    changed = estimate(rows * scale + shift, OBSERVED * scale + shift)
    assert torch.allclose(changed, plain - 2 * math.log(scale), atol=1e-3)


@pytest.mark.parametrize("estimate", ESTIMATES, ids=lambda made: type(made).__name__)
def test_a_failed_simulation_is_one_that_cannot_be_the_observation(estimate) -> None:
    rows = draws(2, 40, seed=5)
    broken = rows.clone()
    broken[0, 10:] = torch.nan
    broken[1, 3:] = torch.nan
    found = estimate(broken, OBSERVED)
    assert float(found[0]) == pytest.approx(float(estimate(rows[:1, :10], OBSERVED)) + math.log(10 / 40), abs=1e-8)
    if estimate.least(2) > 3:
        assert float(found[1]) == -math.inf


@pytest.mark.parametrize("shrinkage", [Ridge(0.4), Optimal(), GraphicalLasso(0.1)], ids=repr)
def test_correlation_matrices_keep_their_diagonal_and_shrink_the_rest(shrinkage) -> None:
    z, valid, _, _ = standardised(torch.randn(5, 12, 4, generator=torch.Generator().manual_seed(1)))
    found, plain = shrinkage(z, valid), Sample()(z, valid)
    assert torch.allclose(found.diagonal(dim1=1, dim2=2), torch.ones(5, 4, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(found, found.mT, atol=1e-6)
    assert torch.linalg.eigvalsh(found).min() > 0
    # the lasso shrinks what its inverse joins, and may raise what it takes for independent given the rest
    inverses = [torch.linalg.inv(made).abs().sum() for made in (found, plain)]
    assert inverses[0] < inverses[1]
    if not isinstance(shrinkage, GraphicalLasso):
        assert (found.abs() <= plain.abs() + 1e-6).all()


def test_the_graphical_lasso_finds_what_is_not_joined() -> None:
    """In a chain 1 - 2 - 3 the ends are correlated, but independent given the middle."""
    noise = torch.randn(1, 3, 20_000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    first = noise[:, 0]
    second = 0.4 * first + 0.84**0.5 * noise[:, 1]
    third = 0.4 * second + 0.84**0.5 * noise[:, 2]
    z, valid, _, _ = standardised(torch.stack((first, second, third), 2))
    precision = torch.linalg.inv(GraphicalLasso(0.05)(z, valid)[0])
    assert abs(float(precision[0, 2])) < 1e-3
    assert float(precision[0, 1]) < -0.3


def test_whitening_changes_a_likelihood_by_a_constant() -> None:
    turned = whitening(draws(200, seed=8))
    spread = turned @ draws(200, seed=8).T
    assert torch.allclose(spread.cov(), torch.eye(2, dtype=torch.float64), atol=0.1)
    rows = draws(4, 30, seed=9)
    difference = NormalEstimate()(rows @ turned.T, turned @ OBSERVED) - NormalEstimate()(rows, OBSERVED)
    assert torch.allclose(difference, -torch.linalg.slogdet(turned)[1].expand(4), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ridge(1.5), "gamma: expected a number in"),
        (lambda: GraphicalLasso(0.0), "penalty: expected a positive number"),
    ],
)
def test_settings_out_of_range_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()
