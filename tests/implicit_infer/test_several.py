"""Several observations of one theta: potentials add, against the exact posterior of a normal and a bounded prior."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from implicit_infer.posteriors.base import Posterior
from implicit_infer.posteriors.mcmc import EnsembleSampler
from implicit_infer.posteriors.several import several_observations
from implicit_simulators import Stream
from implicit_simulators.benchmark import GaussianLinear, GaussianLinearUniform

QUICK = EnsembleSampler(walkers=200, warmup=30, thin=5)


class Exact(Posterior):
    """The exact posterior of one observation, with the potential shifted by a function of x."""

    def _law(self, x: Tensor) -> Distribution:
        if isinstance(self.simulator, GaussianLinearUniform):
            return self.simulator.posterior(x)
        return Independent(Normal(x / 2, 0.05**0.5), 1)

    def _sample(self, n: int, x: Tensor, stream: Stream, progress: bool) -> Tensor:
        with stream.forked():
            return torch.stack([self._law(one).sample((n,)) for one in x], 1)

    def _potential(self, theta: Tensor, x: Tensor) -> Tensor:
        return self._law(x).log_prob(theta) + x.sum()


def test_the_posterior_of_several_normals():
    simulator = GaussianLinear(2)
    x = simulator.simulate(torch.tensor([[0.4, -0.5]]).repeat(4, 1), seed=100)
    posterior = several_observations(Exact(simulator, x[0], method="exact", simulations=0), x, QUICK)
    assert posterior.simulator.event_shape == (4, 2)
    precision = 10 + 4 * 10
    exact = Independent(Normal(4 * 10 / precision * x.mean(0), torch.full((2,), precision**-0.5)), 1)
    theta = simulator.sample_prior(20, seed=0)
    difference = posterior.potential(theta) - exact.log_prob(theta)
    torch.testing.assert_close(difference, difference[:1].expand(20), rtol=1e-3, atol=1e-3)
    draws = posterior.sample((2000,), seed=1)
    sd = precision**-0.5
    # states of the ensemble are correlated: five standard errors at an effective number of a quarter of the draws
    assert ((draws.mean(0) - exact.mean).abs() < 5 * sd / 500**0.5).all()
    assert ((draws.std(0) / sd - 1).abs() < 5 / (2 * 500) ** 0.5).all()


def test_no_draw_leaves_a_bounded_prior():
    simulator = GaussianLinearUniform()
    x = simulator.simulate(torch.full((3, 10), 0.98), seed=100)
    posterior = several_observations(Exact(simulator, x[0], method="exact", simulations=0), x, QUICK)
    draws = posterior.sample((300,), seed=1)
    assert simulator.prior.support.check(draws).all()
    assert posterior.potential(torch.full((1, 10), 1.2)).item() == -torch.inf


def test_what_cannot_be_is_refused():
    simulator = GaussianLinear(2)

    class Draws(Exact):
        def _potential(self, theta: Tensor, x: Tensor) -> Tensor:
            raise NotImplementedError("draws only")

    one = torch.zeros(2)
    with pytest.raises(NotImplementedError, match="draws only"):
        several_observations(Draws(simulator, one, method="draws", simulations=0), torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"expects shape \(3, 2\); got \(3, 5\)"):
        several_observations(Exact(simulator, one, method="exact", simulations=0), torch.zeros(3, 5))
