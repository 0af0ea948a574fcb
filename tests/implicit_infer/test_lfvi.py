"""LFVI against closed forms, for one observation and for independent points."""

import pytest
import torch
from torch.distributions import Independent, Normal

from implicit_infer.posteriors import LFVI, Question
from implicit_infer.posteriors.lfvi_family import FlowFamily, NormalFamily
from implicit_simulators import Simulator
from implicit_simulators.benchmark import GaussianLinear, TwoMoons
from implicit_simulators.engines.noise import row_normal


class Points(Simulator):
    """Independent points from N(theta, 1), with theta from N(0, 1)."""

    name = "points"
    parameter_names = ("theta",)

    def __init__(self, count):
        self.points, self.event_shape = count, torch.Size([count])
        self.prior = Independent(Normal(torch.zeros(1), torch.ones(1)), 1)

    def _simulate(self, theta, stream):
        return theta + row_normal((len(theta), self.points), stream.torch(), theta.dtype)


@pytest.mark.slow
def test_gaussian_posterior():
    """Mean within 0.2, deviation within 20 % and density within 0.2: seeds 100, 101 were off by 0.065, 2 % and 0.07."""
    simulator, x = GaussianLinear(dim=2), torch.tensor([0.5, -0.4])
    posterior = LFVI(rounds=4, epochs=15, steps=150).infer(Question(simulator, x, 4000, seed=0, progress=False))
    exact, draws = simulator.posterior(x), posterior.sample((4000,), seed=1)
    sd = exact.variance.sqrt()
    assert (((draws.mean(0) - exact.mean) / sd).abs() < 0.2).all()
    assert ((draws.std(0) / sd - 1).abs() < 0.2).all()
    assert (posterior.log_prob(draws[:5]) - exact.log_prob(draws[:5])).abs().max() < 0.2
    assert posterior.simulations == 4000
    assert posterior.figures["reference"] == "simulations"


@pytest.mark.parametrize(("count", "reference"), [(4, "simulations"), (60, "data")])
def test_where_the_reference_comes_from(count, reference):
    simulator = Points(count)
    method = LFVI(rounds=2, hidden=(8,), epochs=1, steps=2, draws=8)
    posterior = method.infer(Question(simulator, torch.zeros(count), 100, seed=0, progress=False))
    assert posterior.figures["reference"] == reference
    assert torch.isfinite(posterior.sample((10,), seed=1)).all()


@pytest.mark.parametrize("family", ["normal", "flow"])
def test_bounded_priors_leak_nothing_and_the_seed_decides(family):
    simulator = TwoMoons()
    method = LFVI(family=family, rounds=2, hidden=(8,), epochs=1, steps=2, draws=8)
    question = Question(simulator, torch.zeros(2), 201, seed=3, progress=False)
    first, second = (method.infer(question) for _ in range(2))
    draws = first.sample((50,), seed=1)
    assert simulator.prior.support.check(draws).all()
    assert torch.equal(draws, second.sample((50,), seed=1))
    assert first.simulations == 201
    assert torch.isfinite(first.log_prob(draws)).all()
    assert first.log_prob(torch.tensor([[2.0, 0.0]])) == -torch.inf


@pytest.mark.parametrize("kind", [NormalFamily, FlowFamily])
def test_draws_and_density_agree(kind):
    """Mean of exp(log N(v; 0, 2) - log q(v)) over draws of q is 1; its standard error is measured beside it."""
    family = kind(2, seed=0)
    if isinstance(family, NormalFamily):
        torch.nn.init.constant_(family.lower, 0.5)
        torch.nn.init.constant_(family.mean, 0.2)
    v, log_q = family.draw_and_density(4000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(log_q, family.density(v), atol=1e-4, rtol=1e-4)
    weights = (Normal(0.0, 0.7).log_prob(v).sum(1) - log_q).exp()
    assert abs(weights.mean() - 1) < 4 * weights.std() / 4000**0.5


@pytest.mark.parametrize(
    "settings", [{"family": "student"}, {"reference": "prior"}, {"rounds": 0}, {"step_size": 0.0}], ids=str
)
def test_bad_settings_are_refused_at_once(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        LFVI(**settings)


def test_a_budget_too_small_for_the_rounds_is_refused():
    question = Question(GaussianLinear(dim=1), torch.zeros(1), 9, seed=0, progress=False)
    with pytest.raises(ValueError, match="budget: expected at least 2 simulations for each of 8 rounds"):
        LFVI().infer(question)
