"""TMNRE: boxes that hold the posterior, priors cut down to them, and marginals against exact ones."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Independent, LogNormal, MultivariateNormal, Normal, Uniform

from implicit_estimators.networks.train_ratio import RatioTraining
from implicit_infer.posteriors import NRE, TMNRE, EnsembleSampler, Question
from implicit_infer.posteriors.ratio.marginals import Marginal, truncate
from implicit_infer.posteriors.ratio.truncated_prior import TruncatedPrior
from implicit_infer.posteriors.tmnre import TMNREPosterior
from implicit_simulators import unconstrained
from implicit_simulators.benchmark import GaussianLinear

OBSERVED = torch.tensor([0.7, -1.2])
SIMULATOR = GaussianLinear(2, prior_variance=4.0, noise_variance=0.05)
METHOD = TMNRE(
    rounds=3,
    hidden=(32, 32),
    training=RatioTraining(25, 50, 5e-3),
    joint=NRE(epochs=8, hidden=(32,), sampler=EnsembleSampler(walkers=100, warmup=60, thin=20)),
)


@functools.cache
def answer() -> TMNREPosterior:
    return METHOD.infer(Question(SIMULATOR, OBSERVED, 3000, seed=0, progress=False))


@settings(max_examples=20, deadline=None)
@given(centre=st.floats(-2, 2), width=st.floats(0.05, 1.0), epsilon=st.floats(1e-8, 1e-2))
def test_bounds_are_where_an_exact_ratio_falls_below_epsilon(centre: float, width: float, epsilon: float) -> None:
    """A normal's ratio is epsilon of its largest at sqrt(-2 log epsilon) widths; ends lie there or one draw outside."""
    draws = torch.linspace(-10, 10, 2001)[:, None]
    log_ratio = -0.5 * ((draws.T - centre) / width) ** 2
    low, high = truncate(draws, log_ratio, torch.tensor([-torch.inf]), torch.tensor([torch.inf]), epsilon)
    reach = width * math.sqrt(-2 * math.log(epsilon))
    for end, exact in ((-float(low), reach - centre), (float(high), reach + centre)):
        assert exact - 0.011 <= end <= exact + 0.021  # the largest ratio is at a draw, up to half a step aside


def test_bounds_that_nothing_cuts_stay() -> None:
    draws = torch.rand(100, 2, generator=torch.Generator().manual_seed(0))
    old = torch.zeros(2), torch.ones(2)
    low, high = truncate(draws, torch.zeros(2, 100), *old, 1e-6)
    assert torch.equal(low, old[0])
    assert torch.equal(high, old[1])


PRIORS = {
    "uniform": Independent(Uniform(torch.zeros(2), torch.tensor([1.0, 4.0]), validate_args=False), 1),
    "normal": Independent(Normal(torch.zeros(2), torch.ones(2)), 1),
    "log-normal": Independent(LogNormal(torch.zeros(2), torch.ones(2), validate_args=False), 1),
}


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("half", [False, True])
def test_truncated_priors_are_densities_on_their_box(name: str, half: bool) -> None:
    """Draws inside; their mean is that of the density on a grid, within 5 standard errors and 0.01 for the grid."""
    low = torch.tensor([0.3, 0.1])
    high = torch.tensor([0.9, torch.inf if half else 0.8])
    truncated = TruncatedPrior(PRIORS[name], low, high)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = truncated.sample((20_000,))
    assert (draws > truncated.low).all()
    assert (draws < truncated.high).all()
    assert truncated.support.check(draws).all()
    transform = unconstrained(truncated)
    assert truncated.support.check(transform(torch.randn(100, 2))).all()
    columns = [torch.linspace(float(a), min(float(b), 30.0), n) for a, b, n in zip(low, high, (60, 3000), strict=True)]
    if math.isfinite(float(truncated.high[1])):
        columns[1] = torch.linspace(float(low[1]), float(truncated.high[1]), 3000)
    grid = torch.cartesian_prod(*columns)
    density = truncated.log_prob(grid).exp().reshape(60, 3000)
    inner = torch.trapezoid(density, columns[1], dim=1)
    assert float(torch.trapezoid(inner, columns[0])) == pytest.approx(1, abs=0.03)
    mean = float(torch.trapezoid(inner * columns[0], columns[0]))
    assert abs(float(draws[:, 0].mean()) - mean) < 5 * float(draws[:, 0].std()) / 20_000**0.5 + 0.01
    assert torch.isinf(truncated.log_prob(torch.tensor([[0.1, 0.5], [0.5, 0.5]]))).tolist() == [True, False]


def test_open_sides_are_the_priors_own() -> None:
    """A positive parameter with an upper bound alone has 0 below, where the prior has no mass either."""
    truncated = TruncatedPrior(PRIORS["log-normal"], torch.full((2,), -torch.inf), torch.tensor([1.0, torch.inf]))
    u = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    theta = unconstrained(truncated)(u)
    assert (theta > 0).all()
    assert (theta[:, 0] < 1).all()
    assert torch.isfinite(truncated.log_prob(theta)).all()


def test_priors_that_cannot_be_cut_are_refused() -> None:
    low, high = torch.full((2,), -1.0), torch.ones(2)
    correlated = MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.5], [0.5, 1.0]]))
    with pytest.raises(ValueError, match="prior: expected independent parameters"):
        TruncatedPrior(correlated, low, high)
    TruncatedPrior(MultivariateNormal(torch.zeros(2), torch.eye(2)), low, high)
    with pytest.raises(ValueError, match="low, high: expected bounds"):
        TruncatedPrior(PRIORS["normal"], high, low)
    with pytest.raises(ValueError, match="prior: expected some mass"):
        TruncatedPrior(PRIORS["normal"], torch.tensor([0.0, 50.0]), torch.tensor([1.0, 51.0]))


def test_the_box_holds_the_posterior_and_shrinks() -> None:
    """Four exact standard deviations on either side are inside; epsilon = 1e-6 is at 5.3 of them."""
    exact = SIMULATOR.posterior(OBSERVED)
    last = answer().figures["rounds"][-1]
    sd = exact.variance.sqrt()
    sides = [
        (a if a is not None else -torch.inf, b if b is not None else torch.inf)
        for a, b in zip(last["low"], last["high"], strict=True)
    ]
    low, high = torch.tensor(sides).T
    assert (low < exact.mean - 4 * sd).all()
    assert (high > exact.mean + 4 * sd).all()
    masses = [entry["prior_mass"] for entry in answer().figures["rounds"]]
    assert masses[-1] < 0.9
    assert masses == sorted(masses, reverse=True)


def test_the_budget_is_spent_to_the_last_simulation() -> None:
    assert answer().simulations == 3000
    assert sum(entry["simulations"] for entry in answer().figures["rounds"]) == 3000
    assert answer().figures["rounds"][-1]["used"] > answer().figures["rounds"][-1]["simulations"]


def test_marginals_are_the_exact_ones() -> None:
    """Means within 0.35 and spreads within 40 % of the exact spread, a ninth of the prior's."""
    exact = SIMULATOR.posterior(OBSERVED)
    sd = exact.variance.sqrt()
    for j, name in enumerate(SIMULATOR.parameter_names):
        marginal = answer().marginals[name,]
        assert abs(float(marginal.mean - exact.mean[j])) < 0.35 * float(sd[j])
        assert abs(float(marginal.std / sd[j]) - 1) < 0.4
        assert marginal.effective > 500
    pair = answer().marginals[SIMULATOR.parameter_names]
    assert ((pair.mean - exact.mean).abs() < 1.5 * sd).all()
    density, edges = pair.histogram(20)
    cells = torch.outer(edges[0].diff(), edges[1].diff())
    assert float((density * cells).sum()) == pytest.approx(1, abs=1e-4)


def test_the_joint_posterior_is_within_the_box():
    posterior = answer()
    draws = posterior.sample((500,), seed=1)
    assert posterior.joint.simulator.prior.support.check(draws).all()
    exact = SIMULATOR.posterior(OBSERVED)
    assert (((draws.mean(0) - exact.mean) / exact.variance.sqrt()).abs() < 0.5).all()
    assert torch.isinf(posterior.potential(torch.tensor([50.0, 50.0])))


def test_another_observation_is_a_run_of_its_own() -> None:
    quick = TMNRE(
        rounds=2,
        pairs=False,
        hidden=(8,),
        training=RatioTraining(3, 50),
        joint=NRE(epochs=1, hidden=(8,), sampler=EnsembleSampler(walkers=20, warmup=5, thin=2)),
    )
    posterior = quick.infer(Question(SIMULATOR, OBSERVED, 400, seed=0, progress=False))
    other = torch.tensor([-3.0, 3.0])
    again = quick.infer(Question(SIMULATOR, other, 400, seed=0, progress=False))
    torch.testing.assert_close(posterior.sample((5,), other, seed=1), again.sample((5,), seed=1), rtol=0, atol=0)
    assert set(posterior.marginals) == {("theta_1",), ("theta_2",)}


def test_marginals_weigh_their_draws() -> None:
    marginal = Marginal(("a",), torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0.5, 0.25, 0.25]))
    assert marginal.mean == pytest.approx(1.0)
    assert marginal.std == pytest.approx(1.5**0.5)
    share = (marginal.sample(4000, seed=0) == 0).float().mean()
    assert abs(float(share) - 0.5) < 5 * (0.25 / 4000) ** 0.5
    with pytest.raises(ValueError, match="bins: expected"):
        marginal.histogram(0)


@pytest.mark.parametrize("setting", [{"rounds": 0}, {"epsilon": 0.0}, {"enough": 1.0}, {"validation": 0.0}])
def test_bad_settings_are_refused(setting) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(setting))}: expected"):
        TMNRE(**setting)


def test_what_is_no_joint_method_and_a_small_budget_are_refused() -> None:
    with pytest.raises(TypeError, match="joint: expected a Method"):
        TMNRE(joint="nre")
    with pytest.raises(ValueError, match="budget: expected at least 4"):
        TMNRE().infer(Question(SIMULATOR, OBSERVED, 10, seed=0, progress=False))
