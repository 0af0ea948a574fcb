"""The yardstick itself: NUTS against a closed form, and the pelts against an independent sampler."""

import pytest
import torch

from implicit_infer.posteriors import nuts, reference_posterior
from implicit_simulators import LotkaVolterra
from implicit_simulators.benchmark import GaussianLinear


def test_nuts_on_a_gaussian():
    """Mean within 4.5 standard errors of 1,000 draws at their own effective size, variances likewise."""
    simulator = GaussianLinear(dim=3)
    observed = torch.tensor([0.3, -0.2, 0.0])
    posterior = nuts(simulator, observed, seed=0, draws=1000, chains=2, warmup=150, progress=False)
    exact = simulator.posterior(observed)
    effective = min(1000.0, posterior.figures["effective_sample_size"])
    assert effective > 200
    se = (exact.variance / effective).sqrt()
    assert ((posterior.draws.mean(0) - exact.mean).abs() < 4.5 * se).all()
    assert ((posterior.draws.var(0) / exact.variance - 1).abs() < 4.5 * (2 / effective) ** 0.5).all()
    assert posterior.figures["split_r_hat"] < 1.03


def test_a_closed_form_is_used_where_there_is_one():
    posterior = reference_posterior(GaussianLinear(), torch.zeros(10), seed=0, draws=50, progress=False)
    assert posterior.method == "exact"
    assert posterior.sample((50,), seed=0).unique(dim=0).shape == (50, 10)


def test_there_is_none_where_the_likelihood_is_unknown():
    assert reference_posterior(LotkaVolterra("jump"), LotkaVolterra().observation("hudson-bay"), progress=False) is None


def test_more_draws_than_there_are_is_refused():
    posterior = reference_posterior(GaussianLinear(), torch.zeros(10), seed=0, draws=50, progress=False)
    with pytest.raises(ValueError, match="holds 50 draws; 51 were asked for"):
        posterior.sample((51,))
    with pytest.raises(NotImplementedError, match="its own observation"):
        posterior.sample((5,), x=torch.ones(10))


@pytest.mark.slow
def test_hudson_bay_agrees_with_an_independent_ensemble_sampler():
    """Posterior means found by an affine-invariant ensemble sampler run elsewhere on this model, to the digits given.

    The bound for each is 4 standard errors of 2,000 draws (sd / sqrt(ESS), about 0.025 sd) plus half a unit of the last
    digit given.
    """
    simulator = LotkaVolterra()
    posterior = nuts(
        simulator, simulator.observation("hudson-bay"), seed=1, draws=2000, chains=4, warmup=300, progress=False
    )
    published = torch.tensor([0.548, 0.0279, 0.802, 0.0242, 34.2, 5.93, 0.292, 0.294])
    digit = torch.tensor([1e-3, 1e-4, 1e-3, 1e-4, 0.1, 0.01, 1e-3, 1e-3]) / 2
    se = posterior.draws.std(0) / posterior.figures["effective_sample_size"] ** 0.5
    assert posterior.figures["split_r_hat"] < 1.01
    # the published figures have a standard error of their own, taken to be as large
    assert ((posterior.draws.mean(0) - published).abs() < 4 * 2**0.5 * se + digit).all()
