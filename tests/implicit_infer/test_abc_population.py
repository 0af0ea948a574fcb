"""The weights of a generation are right: a wrong one changes the law that the particles stand for."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Independent, MultivariateNormal, Normal, Uniform

from implicit_infer.abc.kernels import kernel_factor
from implicit_infer.abc.population import Population, joined, mix, tolerance_at
from implicit_infer.abc.space import UnconstrainedPrior
from implicit_simulators import Product, TruncatedNormal
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear


def population(n, p=2, seed=0, weighted=False):
    generator = torch.Generator().manual_seed(seed)
    phi = torch.randn((n, p), generator=generator, dtype=torch.float64)
    log_weights = torch.randn(n, generator=generator, dtype=torch.float64) * weighted
    distances = torch.rand(n, generator=generator)
    return joined([Population(phi, log_weights, distances, phi.float())])


def factor_of(some, tolerance=1.0, kernel="twice"):
    factor = kernel_factor(some, tolerance, kernel)
    assert factor is not None
    return factor


def equal(n):
    return torch.full((n,), -math.log(n), dtype=torch.float64)


def weighted_ks(values, weights, cdf):
    """The largest distance between the weighted empirical distribution function and ``cdf``."""
    order = values.argsort()
    steps = weights[order].cumsum(0)
    exact = cdf(values[order])
    return float(torch.maximum((steps - exact).abs(), (steps - weights[order] - exact).abs()).max())


PRIORS = {
    "normal": Product([Normal(0.0, 1.0), Normal(1.0, 0.1)]),
    "bounded": Product([Uniform(-1.0, 3.0), TruncatedNormal(0.05, 0.05)]),
}


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
@pytest.mark.parametrize("kernel", ["twice", "optimal"])
def test_with_an_infinite_tolerance_every_generation_is_the_prior(prior, kernel):
    """Weights without the kernel, the prior or the Jacobian fail here: the particles would drift from the prior."""
    simulator = GaussianLinear(dim=2)
    simulator.prior = prior
    space, n, generator = UnconstrainedPrior(simulator), 3000, torch.Generator().manual_seed(3)
    first = space.to(simulator.sample_prior(n, 1))
    now = Population(first, equal(n), torch.zeros(n), torch.zeros(n, 1))
    for _ in range(4):
        factor = factor_of(now, math.inf, kernel)
        phi = now.propose(n, factor, generator)
        log_weights = space.log_prob(phi) - now.log_mixture(phi, factor)
        now = joined([Population(phi, log_weights, torch.zeros(n), torch.zeros(n, 1))])
    assert now.ess > n / 10
    theta, weights = space.back(now.phi).double(), now.log_weights.exp()
    for j, marginal in enumerate(prior.marginals):
        # Kolmogorov's bound at level 0.001 for as many draws as the weights are worth
        assert weighted_ks(theta[:, j], weights, marginal.cdf) < 1.95 / math.sqrt(now.ess)


def test_the_bound_above_sees_missing_weights():
    now = population(3000)
    moved = now.propose(3000, factor_of(now), torch.Generator().manual_seed(3))
    assert weighted_ks(moved[:, 0], equal(3000).exp(), Normal(0.0, 1.0).cdf) > 1.95 / math.sqrt(3000)


@pytest.mark.parametrize("pairs", [7, 2**21])
def test_log_mixture_is_its_formula(pairs, monkeypatch):
    monkeypatch.setattr("implicit_infer.abc.population.PAIRS", pairs)
    now, factor = population(50, weighted=True), torch.tensor([[0.3, 0.0], [-0.2, 0.1]], dtype=torch.float64)
    at = 3 * population(20, seed=1).phi + 1000 * torch.tensor([[1.0, 0.0]])
    now = Population(now.phi + torch.tensor([[1000.0, 0.0]]), now.log_weights, now.distances, now.features)
    kernels = MultivariateNormal(now.phi, scale_tril=factor)
    expected = torch.logsumexp(now.log_weights + kernels.log_prob(at[:, None]), dim=1)
    assert torch.allclose(now.log_mixture(at, factor), expected, rtol=1e-9)


def test_proposals_follow_the_mixture():
    now = population(4, weighted=True)
    factor = 0.1 * torch.eye(2, dtype=torch.float64)
    drawn = now.propose(20_000, factor, torch.Generator().manual_seed(0))
    mean, covariance = now.covariance()
    total = covariance + 0.01 * torch.eye(2)
    se = (total.diagonal() / 20_000).sqrt()
    assert ((drawn.mean(0) - mean).abs() < 4 * se).all()
    assert torch.allclose(drawn.T.cov(), total, atol=4 * float(total.max()) * math.sqrt(2 / 20_000))


def test_twice_is_twice_the_weighted_covariance():
    now = population(50, weighted=True)
    factor = factor_of(now)
    expected = now.phi.T.cov(correction=0, aweights=now.log_weights.exp())
    assert torch.allclose(factor @ factor.T, 2 * expected)


def test_optimal_is_the_covariance_of_moves_to_the_next_target():
    now = population(50, weighted=True)
    near = now.take(now.distances <= 0.4)
    moves = near.phi[None] - now.phi[:, None]
    weights = now.log_weights.exp()[:, None] * near.log_weights.exp()[None]
    expected = torch.einsum("jk,jka,jkb->ab", weights, moves, moves)
    factor = factor_of(now, 0.4, "optimal")
    assert torch.allclose(factor @ factor.T, expected)
    # all within the tolerance: the same as twice the covariance
    assert torch.allclose(factor_of(now, kernel="optimal"), factor_of(now))


def test_a_flat_population_can_move_and_a_collapsed_one_says_so():
    now = population(50)
    flat = Population(now.phi[:, :1].expand(-1, 2), now.log_weights, now.distances, now.features)
    factor = factor_of(flat)
    assert torch.isfinite(flat.log_mixture(flat.propose(10, factor, torch.Generator()), factor)).all()
    assert kernel_factor(now.take(torch.zeros(5, dtype=torch.long)), 1.0, "twice") is None


@given(st.integers(1, 40), st.integers(0, 60), st.integers(0, 2**20), st.data())
def test_mixing_leaves_as_many_as_asked_and_the_nearest(old, fresh, seed, data):
    size = data.draw(st.integers(1, old))
    first, second = population(old, seed=seed, weighted=True), population(max(fresh, 1), seed=seed + 1, weighted=True)
    second = second.take(torch.arange(fresh))
    mixed, tolerance = mix(first, second, size)
    distances = torch.cat([first.distances, second.distances])
    assert len(mixed) == (distances <= tolerance).sum() == size  # random distances have no ties
    assert mixed.distances.max() == tolerance
    assert float(mixed.log_weights.exp().sum()) == pytest.approx(1)


def test_mixing_keeps_ratios_of_weights_and_shares_by_effective_sample_size():
    first, second = population(30, weighted=True), population(20, seed=1, weighted=True)
    mixed, _ = mix(first, second, 50)
    weights = mixed.log_weights.exp()
    assert torch.allclose(weights[:30] / weights[:30].sum(), first.log_weights.exp())
    assert float(weights[:30].sum()) == pytest.approx(first.ess / (first.ess + second.ess))


@given(st.integers(2, 60), st.floats(0.05, 0.95), st.integers(0, 2**20))
def test_the_tolerance_at_a_share_of_the_effective_sample_size_is_the_first(n, share, seed):
    """Del Moral et al. (2012), equation 12, by trying every distance."""
    now = population(n, seed=seed, weighted=True)
    tried = [float(d) for d in now.distances.sort().values if now.within(float(d)).ess >= share * now.ess * (1 - 1e-9)]
    assert tolerance_at(now, share) == pytest.approx(tried[0])


def test_with_equal_weights_that_is_the_quantile():
    now = population(50)
    assert tolerance_at(now, 0.3) == float(now.distances.kthvalue(15).values)


def test_copies_are_merged_with_their_weights():
    now = population(6, weighted=True)
    merged = now.take(torch.tensor([0, 3, 0, 5])).merged()
    weights = now.log_weights.exp()[[0, 3, 0, 5]]
    expected = {
        float(now.phi[0, 0]): 2 * weights[0],
        float(now.phi[3, 0]): weights[1],
        float(now.phi[5, 0]): weights[3],
    }
    found = dict(zip(merged.phi[:, 0].tolist(), merged.log_weights.exp().tolist(), strict=True))
    assert found == pytest.approx({place: float(w / weights.sum()) for place, w in expected.items()})
    assert torch.equal(merged.features, merged.phi.float())
    assert now.merged() is now


def test_effective_sample_size_of_equal_weights():
    assert population(30).ess == pytest.approx(30)


def test_box_priors_are_handled_in_unconstrained_space():
    simulator = GaussianLinear(dim=2)
    simulator.prior = Independent(Uniform(torch.zeros(2), torch.ones(2)), 1)
    space = UnconstrainedPrior(simulator)
    phi = space.to(simulator.sample_prior(500, 1))
    now = Population(phi, equal(500), torch.zeros(500), phi.float())
    moved = space.back(now.propose(5000, factor_of(now), torch.Generator().manual_seed(0)))
    assert ((moved >= 0) & (moved <= 1)).all()
