"""The ensemble sampler leaves known targets alone, several at once."""

import pytest
import torch

from implicit_infer.posteriors.mcmc import EnsembleSampler


def normal_targets(means, covariance):
    precision = torch.linalg.inv(covariance)

    def log_density(u):
        z = u - means[:, None]
        return -0.5 * torch.einsum("bwd,de,bwe->bw", z, precision, z)

    return log_density


def test_two_gaussians_at_once():
    """Means within 5 standard errors and variances within 5, at an effective sample of one in three kept states."""
    means = torch.tensor([[0.0, 0.0, 0.0], [5.0, -3.0, 100.0]])
    covariance = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 25.0]])
    generator = torch.Generator().manual_seed(0)
    start = means[:, None] + torch.randn(2, 100, 3, generator=generator)
    sampler = EnsembleSampler(walkers=100, warmup=300, thin=40)
    draws, acceptance = sampler.sample(normal_targets(means, covariance), start, 6000, generator)
    assert draws.shape == (6000, 2, 3)
    effective = 2000
    se = (covariance.diagonal() / effective).sqrt()
    assert ((draws.mean(0) - means).abs() < 5 * se).all()
    ratio = draws.var(0) / covariance.diagonal()
    assert ((ratio - 1).abs() < 5 * (2 / effective) ** 0.5).all()
    correlation = torch.corrcoef(draws[:, 1].T)[0, 1]
    assert abs(correlation - 0.9) < 0.03
    assert 0.15 < acceptance < 0.8


def test_modes_keep_their_weights():
    """Two modes of mass 1/4 and 3/4, ten standard deviations apart: jumps with gamma = 1 find the shares again."""

    def log_density(u):
        near = -0.5 * (u**2).sum(-1)
        far = -0.5 * ((u - 10) ** 2).sum(-1)
        return torch.logaddexp(near + torch.tensor(0.25).log(), far + torch.tensor(0.75).log())

    generator = torch.Generator().manual_seed(1)
    start = torch.randn(1, 400, 1, generator=generator)
    start[:, :200] += 10  # half of the walkers in each: wrong on purpose
    sampler = EnsembleSampler(walkers=400, warmup=400, thin=20, jump_every=2)
    draws, _ = sampler.sample(log_density, start, 8000, generator)
    share = (draws > 5).float().mean()
    assert abs(share - 0.75) < 0.06  # 5 standard errors of 8000 draws with an effective size near 1,300


def test_same_generator_same_draws():
    def log_density(u):
        return -0.5 * (u**2).sum(-1)

    def run():
        generator = torch.Generator().manual_seed(4)
        start = torch.randn(2, 20, 2, generator=generator)
        return EnsembleSampler(walkers=20, warmup=5, thin=2).sample(log_density, start, 50, generator)[0]

    torch.testing.assert_close(run(), run(), rtol=0, atol=0)


def test_regions_without_density_are_never_entered():
    def log_density(u):
        inside = (u > 0).all(-1)
        return torch.where(inside, -u.sum(-1), torch.tensor(float("nan")))

    generator = torch.Generator().manual_seed(2)
    start = torch.rand(1, 50, 2, generator=generator)
    draws, _ = EnsembleSampler(walkers=50, warmup=50, thin=5).sample(log_density, start, 500, generator)
    assert (draws > 0).all()


@pytest.mark.parametrize("walkers", [5, 4])
def test_too_few_or_odd_walkers_are_refused(walkers):
    with pytest.raises(ValueError, match="walkers: expected an even number"):
        EnsembleSampler(walkers=walkers).sample(
            lambda u: u.sum(-1), torch.zeros(1, walkers, 3), 10, torch.Generator().manual_seed(0)
        )


@pytest.mark.parametrize(("acceptance", "sweeps"), [(0.5, 20), (0.1, 44), (0.01, 100), (0.0, 100), (1.0, 20)])
def test_walkers_that_seldom_move_are_kept_seldom(acceptance, sweeps):
    """0.9^44 is the first below 1 %; five times what was asked for is the most."""
    assert EnsembleSampler(thin=20)._thin(acceptance) == sweeps
