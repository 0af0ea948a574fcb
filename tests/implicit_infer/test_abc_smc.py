"""SMC-ABC against closed forms, at an exact budget, whatever fails and however many workers there are."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Independent, Uniform

from implicit_infer.abc import SMCABC, RejectionABC
from implicit_infer.abc.distances import robust_scale
from implicit_infer.abc.population import Population
from implicit_infer.abc.smc_run import SMCRun
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


def ask(budget=2000, simulator=SIMULATOR, observed=OBSERVED, seed=0, **options):
    return Question(simulator, observed, budget, seed, progress=False, **options)


def moments(particles):
    weights = particles.weights
    mean = weights @ particles.theta.double()
    return mean, weights @ (particles.theta.double() - mean) ** 2


@pytest.mark.parametrize("kernel", ["twice", "optimal"])
def test_mean_and_variance_within_what_the_tolerance_allows(kernel):
    r"""As for rejection: the exact mean is :math:`x / 2`, so a radius r moves it by at most r / 2 and adds at most
    :math:`(r / 2)^2` to the variance. Without weights the mean would be near x itself."""
    posterior = SMCABC(particles=1000, kernel=kernel).infer(ask(60_000))
    exact = SIMULATOR.posterior(OBSERVED)
    scale = float(robust_scale(SIMULATOR.simulate(SIMULATOR.sample_prior(50_000, 9), 9)).max())
    radius = 1.1 * scale * posterior.figures["tolerance"]  # 1.1: the run's own scale comes from 5,000 simulations
    assert radius / 2 < 0.4 * float(exact.stddev.max())
    mean, variance = moments(posterior.particles())
    ess = posterior.figures["ess"]
    assert ((mean - exact.mean).abs() <= radius / 2 + 4 * exact.stddev / math.sqrt(ess)).all()
    slack = 4 * exact.variance * math.sqrt(2 / ess)
    assert (variance >= exact.variance - slack).all()
    assert (variance <= exact.variance + (radius / 2) ** 2 + slack).all()


def test_a_bounded_prior_shapes_the_posterior():
    """Prior uniform on (0, 1), noise as wide as that: the posterior is the normal likelihood cut to (0, 1)."""
    simulator = GaussianLinear(dim=1, noise_variance=0.25)
    simulator.prior = Independent(Uniform(torch.zeros(1), torch.ones(1)), 1)
    posterior = SMCABC(particles=1000).infer(ask(40_000, simulator, torch.tensor([-0.3])))
    grid = torch.linspace(0, 1, 2001, dtype=torch.float64)
    density = torch.exp(-0.5 * (grid + 0.3) ** 2 / 0.25)
    density = density / density.sum()
    mean = float(density @ grid)
    sd = math.sqrt(float(density @ (grid - mean) ** 2))
    found, _ = moments(posterior.particles())
    assert ((posterior.particles().theta >= 0) & (posterior.particles().theta <= 1)).all()
    # x moves the mean by Var(theta | x) / noise variance, 0.25, for each unit; scale of x is below 0.7
    radius = 0.7 * posterior.figures["tolerance"]
    assert abs(float(found) - mean) < sd**2 / 0.25 * radius * 1.2 + 4 * sd / math.sqrt(posterior.figures["ess"])


def test_comes_nearer_than_rejection_where_the_prior_is_wide():
    simulator = GaussianLinear(dim=2, prior_variance=10.0)
    rejection = RejectionABC(keep=100).infer(ask(10_000, simulator))
    smc = SMCABC(particles=100).infer(ask(10_000, simulator))
    assert smc.figures["tolerance"] < rejection.figures["tolerance"] / 2


def test_linear_adjustment_removes_bias():
    posterior = SMCABC(particles=1000, adjust="linear").infer(ask(10_000))
    exact = SIMULATOR.posterior(OBSERVED)
    particles = posterior.particles()
    mean, variance = moments(particles)
    # the regression's slope has an error of its own, as large as the mean's where the cloud is one-sided: 6, not 4
    assert ((mean - exact.mean).abs() < 6 * exact.stddev / math.sqrt(particles.ess)).all()
    assert ((variance - exact.variance).abs() < 6 * exact.variance * math.sqrt(2 / particles.ess)).all()


@settings(deadline=None, max_examples=40)
@given(
    st.integers(2, 700),
    st.one_of(st.none(), st.integers(2, 150)),
    st.floats(0.05, 0.9),
    st.sampled_from([3, 64, 1000]),
    st.integers(0, 2**20),
)
def test_the_budget_is_exact_whatever_the_settings(budget, particles, quantile, block, seed):
    simulator = Counting(dim=2)
    simulator.block = block
    method = SMCABC(particles=particles, quantile=quantile)
    posterior = method.infer(ask(budget, simulator, seed=seed))
    figures = posterior.figures
    assert simulator.simulated == posterior.simulations == sum(figures["paths"]["simulations"])
    assert posterior.simulations <= budget
    if figures["stopped"] == "the budget is spent":
        assert posterior.simulations == budget
    assert len(posterior.particles()) == figures["particles"] == method.size(budget)
    path = figures["paths"]["tolerance"]
    assert all(later <= earlier for earlier, later in itertools.pairwise(path))
    assert torch.isfinite(posterior.particles().weights).all()


@pytest.mark.parametrize(("budget", "size"), [(50, 50), (1000, 100), (10_000, 100), (50_000, 500)])
def test_default_number_of_particles(budget, size):
    assert SMCABC().size(budget) == size


def test_figures_tell_the_path():
    figures = SMCABC().infer(ask(10_000)).figures
    assert figures["generations"] == len(figures["paths"]["ess"]) > 2
    assert figures["paths"]["tolerance"][-1] == figures["tolerance"]
    assert figures["stopped"] == "the budget is spent"
    assert 0 < figures["ess"] <= figures["particles"] == 100
    assert all(0 < rate <= 1 for rate in figures["paths"]["acceptance"])


def test_all_particles_are_within_the_last_tolerance():
    run = SMCRun(SMCABC(particles=50), ask(3000))
    run.all_generations()
    assert run.population.distances.max() <= run.tolerance
    assert torch.equal(run.measure(run.population.features, run.observed), run.population.distances)


def test_stops_at_a_tolerance():
    posterior = SMCABC(tolerance=0.5).infer(ask(50_000))
    assert posterior.figures["tolerance"] == 0.5
    assert posterior.figures["particles"] == 500  # a finished generation, though its last batch gave more
    assert posterior.simulations < 50_000
    assert posterior.warnings == [
        f"stopped after {posterior.simulations} of 50000 simulations: the tolerance of 0.5 is reached"
    ]


def test_stops_when_too_few_are_accepted():
    posterior = SMCABC(acceptance=0.1).infer(ask(50_000))
    assert posterior.figures["stopped"] == "fewer than 0.1 of the simulations are accepted"
    assert posterior.simulations < 20_000


def test_stops_when_distances_are_discrete():
    class Rounded(GaussianLinear):
        def summarize(self, x):
            return (4 * x).round()

    posterior = SMCABC(particles=1000, quantile=0.5).infer(ask(50_000, Rounded(dim=2), torch.zeros(2)))
    assert posterior.figures["tolerance"] == 0.0
    assert posterior.figures["generations"] > 1
    assert posterior.warnings[0].endswith("of 50000 simulations: the tolerance of 0 is reached")


def test_a_budget_for_one_generation_is_rejection_and_says_so():
    posterior = SMCABC(particles=100).infer(ask(150))
    assert posterior.figures["particles"] == 100
    assert posterior.warnings[0].startswith("only the first generation was run, which is rejection ABC")


def test_collapsed_weights_are_said():
    simulator = GaussianLinear(dim=10)
    posterior = SMCABC(particles=30, quantile=0.5).infer(ask(20_000, simulator, torch.full((10,), 0.5)))
    assert posterior.figures["ess"] < 6
    assert posterior.warnings[0].startswith("the weights have collapsed: 30 particles are worth")


def test_failed_simulations_are_counted_and_never_kept():
    class Fails(GaussianLinear):
        def _simulate(self, theta, stream):
            x = super()._simulate(theta, stream)
            x[theta[:, 0] > 0.1] = torch.nan
            return x

    posterior = SMCABC().infer(ask(3000, Fails(dim=2)))
    assert 300 < posterior.figures["failed"] < 3000
    assert posterior.warnings[-1] == (
        f"{posterior.figures['failed']} of 3000 simulations failed and can never be accepted"
    )
    assert (posterior.particles().theta[:, 0] <= 0.1).all()


def test_raising_simulations_are_counted():
    class Raises(GaussianLinear):
        def _simulate(self, theta, stream):
            if (theta[:, 0] > 0.5).any():
                raise ArithmeticError("diverged")
            return super()._simulate(theta, stream)

    simulator = Raises(dim=2)
    simulator.block = 20
    assert SMCABC().infer(ask(1500, simulator)).figures["failed"] > 20


def test_all_failing_is_an_error():
    class AllFail(GaussianLinear):
        def _simulate(self, theta, stream):
            return torch.full_like(theta, torch.nan)

    with pytest.raises(ValueError, match="none of 500 simulations has finite summaries"):
        SMCABC().infer(ask(500, AllFail(dim=2)))


def test_seeds_repeat_and_workers_do_not_matter():
    simulator = GaussianLinear(dim=2)
    simulator.block = 64
    one, two, other = (
        SMCABC().infer(ask(1500, simulator, **options)).particles() for options in ({}, {"workers": 2}, {"seed": 1})
    )
    assert torch.equal(one.theta, two.theta)
    assert torch.equal(one.log_weights, two.log_weights)
    assert not torch.equal(one.theta, other.theta)


def test_no_noise_is_used_twice(monkeypatch):
    """The bank, the moves and their simulations come from streams of their own."""
    seen, moved, keys = [], [], []
    propose = Population.propose

    def listened(population, n, factor, generator):
        keys.append(generator.initial_seed())
        return propose(population, n, factor, generator)

    monkeypatch.setattr(Population, "propose", listened)

    class Noise(GaussianLinear):
        def _simulate(self, theta, stream):
            x = super()._simulate(theta, stream)
            seen.append(x - theta)
            moved.append(theta)
            return x

    simulator = Noise(dim=2)
    simulator.block = 50
    SMCABC().infer(ask(2000, simulator, bank=simulate(simulator, 500, seed=0, progress=False)))
    starts = torch.stack([noise[0] for noise in seen])
    # float32 sums round differently: noise that was replayed would agree to about 1e-7
    assert (torch.cdist(starts, starts) + torch.eye(len(starts)) > 1e-5).all()
    assert len(torch.cat(moved).unique(dim=0)) == 2000
    assert len(set(keys)) == len(keys) > 1


def test_the_first_generation_comes_from_the_bank():
    simulator = Counting(dim=2)
    bank = simulate(SIMULATOR, 5000, seed=4, progress=False)
    posterior = SMCABC(particles=100, quantile=0.2).infer(ask(2000, simulator, bank=bank))
    assert simulator.simulated == 1500
    assert posterior.simulations == 2000


def test_another_observation_is_another_run_with_the_same_budget():
    simulator = Counting(dim=2)
    posterior = SMCABC(particles=200).infer(ask(4000, simulator))
    other = torch.tensor([-0.5, 0.5])
    draws = posterior.sample((200,), other, seed=3)
    assert simulator.simulated == posterior.simulations == 8000
    exact = SIMULATOR.posterior(other)
    # the tolerance's bias is below half its radius, about 0.4 * 0.45 / 2
    assert ((draws.mean(0) - exact.mean).abs() < 0.1 + 4 * exact.stddev / math.sqrt(100)).all()
    assert torch.equal(draws, posterior.sample((200,), other, seed=3))
    before = posterior.simulations
    posterior.sample((10,), OBSERVED, seed=3)
    assert posterior.simulations == before


def test_draws_that_repeat_are_said():
    posterior = SMCABC(particles=100).infer(ask())
    draws = posterior.sample((1000,), seed=0)
    distinct = len(draws.unique(dim=0))
    assert posterior.figures["distinct draws"] == distinct <= 100
    assert posterior.warnings[-1].startswith(f"1000 draws were asked for and {distinct} of them differ")


def test_draws_follow_the_weights():
    posterior = SMCABC(particles=100).infer(ask())
    mean, _ = moments(posterior.particles())
    draws = posterior.sample((20_000,), seed=0).double()
    # systematic resampling: each count is within one of its expectation
    assert torch.allclose(draws.mean(0), mean, atol=100 * float(draws.abs().max()) / 20_000)


def test_a_regression_on_few_particles_is_said():
    assert "from 12 simulations" in SMCABC(particles=12, adjust="linear").infer(ask(300)).warnings[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"particles": 1}, "particles: expected an int of at least 2; got 1"),
        ({"quantile": 1.0}, r"quantile: expected a number in \(0, 1\); got 1.0"),
        ({"kernel": "uniform"}, "kernel: expected one of component-wise, twice, .*; got 'uniform'"),
        ({"tolerance": -1.0}, "tolerance: expected a non-negative number; got -1.0"),
        ({"acceptance": 1.0}, r"acceptance: expected a number in \[0, 1\); got 1.0"),
        ({"adjust": "cubic"}, "adjust: expected one of none, linear.*; got 'cubic'"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        SMCABC(**options)


@pytest.mark.filterwarnings("ignore:Number of")
def test_works_in_the_diagnostics_of_sbi():
    from sbi.diagnostics import run_sbc, run_tarp

    posterior = SMCABC(particles=30).infer(ask(300))
    theta = SIMULATOR.sample_prior(10, 5)
    x = SIMULATOR.simulate(theta, 5)
    ranks, averaged = run_sbc(theta, x, posterior, num_posterior_samples=30, show_progress_bar=False)
    assert ranks.shape == averaged.shape == (10, 2)
    coverage, _ = run_tarp(theta, x, posterior, num_posterior_samples=30, show_progress_bar=False, num_bins=5)
    assert float(coverage[-1]) == pytest.approx(1)
