"""Rejection ABC against a closed-form posterior, within bounds that follow from its tolerance."""

import math

import pytest
import torch
from torch.distributions import Independent, Uniform

from implicit_infer.abc import Mahalanobis, PNorm, RejectionABC
from implicit_infer.abc.distances import robust_scale
from implicit_infer.posteriors.method import Question
from implicit_infer.simulate import simulate
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear

SIMULATOR = GaussianLinear(dim=2)
OBSERVED = torch.tensor([0.4, -0.2])


class Counting(GaussianLinear):
    simulated = 0

    def _simulate(self, theta, stream):
        self.simulated += len(theta)
        return super()._simulate(theta, stream)


class HalfFail(GaussianLinear):
    def _simulate(self, theta, stream):
        x = super()._simulate(theta, stream)
        x[::2] = torch.nan
        return x


def ask(budget=1000, simulator=SIMULATOR, observed=OBSERVED, seed=0, **options):
    return Question(simulator, observed, budget, seed, progress=False, **options)


@pytest.fixture(scope="module")
def bank():
    return simulate(SIMULATOR, 100_000, seed=1, progress=False)


def moments(particles):
    weights = particles.weights
    mean = weights @ particles.theta.double()
    return mean, weights @ (particles.theta.double() - mean) ** 2


@pytest.mark.parametrize("distance", [PNorm(), Mahalanobis()], ids=["euclidean", "mahalanobis"])
def test_mean_and_variance_within_what_the_tolerance_allows(bank, distance):
    r"""The exact posterior mean is linear in x, :math:`x / 2`, so accepting x within r of the observation moves the
    mean by at most :math:`r / 2` and adds at most :math:`(r / 2)^2` to the variance."""
    posterior = RejectionABC(keep=1000, distance=distance).infer(ask(100_000, bank=bank))
    exact = SIMULATOR.posterior(OBSERVED)
    radius = posterior.figures["tolerance"] * float(robust_scale(bank.x).max())
    assert radius / 2 < 0.3 * float(exact.stddev.max())  # otherwise the bound says little
    mean, variance = moments(posterior.particles())
    se = exact.stddev / math.sqrt(1000)
    assert ((mean - exact.mean).abs() <= radius / 2 + 4 * se).all()
    slack = 4 * exact.variance * math.sqrt(2 / 1000)
    assert (variance >= exact.variance - slack).all()
    assert (variance <= exact.variance + (radius / 2) ** 2 + slack).all()


def test_linear_adjustment_removes_the_bias_of_a_wide_tolerance(bank):
    """The regression of theta on x is exactly linear here, so it is right at any tolerance."""
    wide = {"keep": 10_000, "adjust": "linear"}
    posterior = RejectionABC(**wide).infer(ask(100_000, bank=bank))
    exact = SIMULATOR.posterior(OBSERVED)
    mean, variance = moments(posterior.particles())
    ess = posterior.figures["ess"]
    assert ((mean - exact.mean).abs() < 4 * exact.stddev / math.sqrt(ess)).all()
    assert ((variance - exact.variance).abs() < 4 * exact.variance * math.sqrt(2 / ess)).all()
    plain = moments(RejectionABC(keep=10_000).infer(ask(100_000, bank=bank)).particles())[1]
    assert (plain > exact.variance + 4 * exact.variance * math.sqrt(2 / 10_000)).all()  # what was to be removed


def test_linear_adjustment_stays_inside_the_support():
    simulator = GaussianLinear(dim=2)
    simulator.prior = Independent(Uniform(torch.zeros(2), torch.ones(2)), 1)
    question = ask(2000, simulator, torch.tensor([0.0, 1.0]))
    draws = RejectionABC(adjust="linear", keep=1000).infer(question).sample((1000,), seed=0)
    assert ((draws >= 0) & (draws <= 1)).all()


def test_linear_adjustment_needs_more_simulations_than_summaries():
    with pytest.raises(ValueError, match="adjust: linear adjustment on 2 summaries needs more than 4 accepted"):
        RejectionABC(adjust="linear", keep=4).infer(ask())


def test_a_regression_on_few_simulations_is_said(bank):
    posterior = RejectionABC(adjust="linear", keep=14).infer(ask(5000, bank=bank))
    assert posterior.warnings == [
        "linear adjustment regresses on 2 summaries from 14 simulations, which makes the posterior too narrow; "
        "keep at least 15"
    ]
    assert RejectionABC(adjust="linear", keep=15).infer(ask(5000, bank=bank)).warnings == []


@pytest.mark.parametrize("budget", [1, 99, 100, 1234])
def test_the_budget_is_exact(budget):
    simulator = Counting(dim=2)
    posterior = RejectionABC().infer(ask(budget, simulator))
    assert simulator.simulated == posterior.simulations == budget


@pytest.mark.parametrize(
    ("settings", "budget", "kept"),
    [
        ({}, 50, 50),
        ({}, 5000, 100),
        ({}, 20_000, 200),
        ({"keep": 7}, 5000, 7),
        ({"keep": 7000}, 5000, 5000),
        ({"quantile": 0.05}, 5000, 250),
        ({"quantile": 1e-9}, 5000, 1),
    ],
)
def test_how_many_are_kept(bank, settings, budget, kept):
    posterior = RejectionABC(**settings).infer(ask(budget, bank=bank))
    assert posterior.figures["accepted"] == len(posterior.particles()) == kept


def test_the_nearest_are_kept_and_a_tolerance_keeps_all_within(bank):
    nearest = RejectionABC(keep=50).infer(ask(5000, bank=bank))
    accepted = nearest.accept(OBSERVED)
    distances = nearest.measure(nearest.features, OBSERVED)
    assert (distances <= accepted.tolerance).sum() == 50
    within = RejectionABC(tolerance=accepted.tolerance).infer(ask(5000, bank=bank))
    assert torch.equal(within.particles().theta, nearest.particles().theta)
    with pytest.raises(ValueError, match=r"none of 5000 simulations is within 0 of the observation; the nearest is at"):
        RejectionABC(tolerance=0.0).infer(ask(5000, bank=bank))


def test_one_bank_answers_other_observations(bank):
    posterior = RejectionABC(keep=400).infer(ask(20_000, bank=bank))
    for x in (torch.tensor([0.5, 0.5]), torch.tensor([-0.5, 0.0])):
        mean, _ = moments(posterior.particles(x))
        radius = posterior.accept(x).tolerance * float(robust_scale(bank.x).max())
        exact = SIMULATOR.posterior(x)
        assert ((mean - exact.mean).abs() <= radius / 2 + 4 * exact.stddev / math.sqrt(400)).all()
    assert posterior.simulations == 20_000


def test_the_bank_is_read_from_its_start(bank):
    a = RejectionABC().infer(ask(5000, bank=bank))
    b = RejectionABC().infer(ask(5000, bank=bank.first(5000)))
    assert torch.equal(a.particles().theta, b.particles().theta)
    assert set(map(tuple, a.particles().theta.tolist())) <= set(map(tuple, bank.theta[:5000].tolist()))


def test_draws_repeat_only_when_there_are_too_few_and_that_is_said(bank):
    posterior = RejectionABC(keep=100).infer(ask(5000, bank=bank))
    assert len(posterior.sample((100,), seed=0).unique(dim=0)) == 100
    assert posterior.warnings == []
    assert len(posterior.sample((250,), seed=0).unique(dim=0)) == 100
    assert (posterior.figures["draws"], posterior.figures["distinct draws"]) == (250, 100)
    assert [w[:52] for w in posterior.warnings] == ["250 draws were asked for and 100 of them differ: the"]
    posterior.sample((1000,), seed=0)
    assert len(posterior.warnings) == 1  # the newest word only
    posterior.sample((50,), seed=0)
    assert posterior.warnings == []


def test_seeds_repeat_draws(bank):
    posterior = RejectionABC().infer(ask(5000, bank=bank))
    assert torch.equal(posterior.sample((20,), seed=3), posterior.sample((20,), seed=3))
    assert not torch.equal(posterior.sample((20,), seed=3), posterior.sample((20,), seed=4))
    assert posterior.sample(seed=1).shape == (2,)
    assert posterior.sample((3, 4), seed=1).shape == (3, 4, 2)
    assert posterior.sample_batched((5,), torch.zeros(6, 2), seed=1).shape == (5, 6, 2)
    again = RejectionABC().infer(ask(500, seed=8)).sample((20,), seed=3)
    assert torch.equal(again, RejectionABC().infer(ask(500, seed=8)).sample((20,), seed=3))


def test_failed_simulations_are_counted_and_never_kept():
    posterior = RejectionABC(keep=1000).infer(ask(1000, HalfFail(dim=2)))
    assert posterior.figures["failed"] == 500
    assert posterior.figures["accepted"] == 500
    assert posterior.warnings == ["500 of 1000 simulations failed and can never be accepted"]


def test_all_failing_is_an_error():
    class AllFail(GaussianLinear):
        def _simulate(self, theta, stream):
            return torch.full_like(theta, torch.nan)

    with pytest.raises(ValueError, match="none of 500 simulations has finite summaries"):
        RejectionABC().infer(ask(500, AllFail(dim=2)))


def test_an_observation_without_finite_summaries_is_refused():
    class Log(GaussianLinear):
        def summarize(self, x):
            return (x + 10).log()

    with pytest.raises(ValueError, match="observed: its summary statistics are not finite"):
        RejectionABC().infer(ask(500, Log(dim=2), torch.tensor([-10.0, 0.0])))


def test_has_draws_but_no_density(bank):
    with pytest.raises(NotImplementedError, match="rejection-abc posterior has draws but no normalised density"):
        RejectionABC().infer(ask(500, bank=bank)).log_prob(torch.zeros(1, 2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": 5, "quantile": 0.1}, "keep, quantile, tolerance: expected at most one; got keep=5, quantile=0.1"),
        ({"keep": 0}, "keep: expected a positive int; got 0"),
        ({"quantile": 0.0}, r"quantile: expected a number in \(0, 1\]; got 0.0"),
        ({"tolerance": -1.0}, "tolerance: expected a non-negative number; got -1.0"),
        ({"adjust": "cubic"}, "adjust: expected one of none, linear.*; got 'cubic'"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        RejectionABC(**settings)


def test_settings_are_told():
    assert RejectionABC(keep=5).settings()["keep"] == 5
    assert (RejectionABC.name, RejectionABC.amortised) == ("rejection-abc", True)


@pytest.mark.filterwarnings("ignore:Number of")
def test_works_in_the_diagnostics_of_sbi(bank):
    from sbi.diagnostics import run_sbc, run_tarp

    posterior = RejectionABC(keep=50).infer(ask(5000, bank=bank))
    theta, x = bank.theta[-20:], bank.x[-20:]
    ranks, averaged = run_sbc(theta, x, posterior, num_posterior_samples=50, show_progress_bar=False)
    assert ranks.shape == averaged.shape == (20, 2)
    assert ((ranks >= 0) & (ranks <= 50)).all()
    coverage, _ = run_tarp(theta, x, posterior, num_posterior_samples=50, show_progress_bar=False, num_bins=5)
    assert float(coverage[-1]) == pytest.approx(1)
