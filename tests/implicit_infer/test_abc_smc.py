"""SMC-ABC against closed forms, at an exact budget, whatever fails and however many workers there are."""

import itertools
import math
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Independent, Normal, Uniform

from implicit_infer.abc import SMCABC, PNorm, RejectionABC
from implicit_infer.abc.distances import Measure, robust_scale
from implicit_infer.abc.kernels import KERNELS
from implicit_infer.abc.population import Population, tolerance_at
from implicit_infer.abc.smc_run import SMCRun
from implicit_infer.executors import run_blocks
from implicit_infer.posteriors.method import Question
from implicit_infer.simulate import simulate
from implicit_simulators import FunctionSimulator, Simulator
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


@pytest.mark.parametrize("kernel", KERNELS)
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
    st.sampled_from(["quantile", "ess"]),
    st.booleans(),
    st.integers(0, 2**20),
)
def test_the_budget_is_exact_whatever_the_settings(budget, particles, quantile, block, schedule, adaptive, seed):
    simulator = Counting(dim=2)
    simulator.block = block
    method = SMCABC(particles=particles, quantile=quantile, schedule=schedule, adaptive=adaptive)
    posterior = method.infer(ask(budget, simulator, seed=seed))
    figures = posterior.figures
    assert simulator.simulated == posterior.simulations == sum(figures["paths"]["simulations"])
    assert posterior.simulations <= budget
    if figures["stopped"] == "the budget is spent":
        assert posterior.simulations == budget
    assert len(posterior.particles()) == figures["particles"] == method.size(budget)
    path = figures["paths"]["tolerance"]
    assert adaptive or all(later <= earlier for earlier, later in itertools.pairwise(path))
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


def test_seeds_repeat():
    one, two, other = (SMCABC().infer(ask(1500, seed=seed)).particles() for seed in (0, 0, 1))
    assert torch.equal(one.theta, two.theta)
    assert torch.equal(one.log_weights, two.log_weights)
    assert not torch.equal(one.theta, other.theta)


class Uneven(GaussianLinear):
    """Takes its time where the first parameter is large."""

    block = 20

    def _simulate(self, theta, stream):
        time.sleep(0.04 if theta[:, 0].mean() > 0 else 0.0)
        return super()._simulate(theta, stream)


def test_uneven_run_times_change_nothing(monkeypatch):
    """Whoever keeps those that finish first prefers parameters whose simulations are quick."""
    serial = SMCABC(particles=60).infer(ask(700, Uneven(dim=2)))
    orders = []

    def listened(*args, **kwargs):
        orders.append([])
        for block in run_blocks(*args, **kwargs):
            orders[-1].append(block.index)
            yield block

    monkeypatch.setattr("implicit_infer.abc.simulations.run_blocks", listened)
    parallel = SMCABC(particles=60).infer(ask(700, Uneven(dim=2), workers=2))
    assert any(order != sorted(order) for order in orders)  # they did finish in another order
    assert torch.equal(parallel.particles().theta, serial.particles().theta)
    assert torch.equal(parallel.particles().log_weights, serial.particles().log_weights)


def torch_noise(theta):
    return torch.randn(len(theta), 2)


def numpy_noise(theta):
    return np.random.standard_normal((len(theta), 2))  # noqa: NPY002 - the global generator is what workers repeat


@pytest.mark.parametrize("noise", [torch_noise, numpy_noise])
def test_workers_never_repeat_random_numbers(noise):
    prior = Independent(Uniform(torch.zeros(2), torch.ones(2)), 1)
    simulator = FunctionSimulator(noise, prior, event_shape=(2,), batched=True, array="torch")
    simulator.block = 10
    run = SMCRun(SMCABC(particles=300, quantile=0.5), ask(1500, simulator, torch.zeros(2), workers=2))
    run.all_generations()
    assert run.population.features[:, 0].unique().numel() == 300


def test_threads_of_an_executor_do_the_same():
    with ThreadPoolExecutor(2) as threads:
        there = SMCABC(particles=60).infer(ask(700, Uneven(dim=2), executor=threads))
    assert torch.equal(there.particles().theta, SMCABC(particles=60).infer(ask(700, Uneven(dim=2))).particles().theta)


def test_no_block_is_begun_once_time_is_over():
    begun = []

    class Slow(GaussianLinear):
        block = 10

        def _simulate(self, theta, stream):
            begun.append(time.monotonic())
            time.sleep(0.005)
            return super()._simulate(theta, stream)

    start = time.monotonic()
    posterior = SMCABC(particles=50, max_time=1.0).infer(ask(10**6, Slow(dim=2)))
    assert posterior.figures["stopped"] == "the time is over"
    assert 50 < posterior.simulations <= 10 * len(begun) < 2500
    assert begun[-1] - start < 1.3  # the machine may be busy between looking at the clock and beginning
    assert posterior.warnings[-1].startswith(f"stopped after {posterior.simulations} of 1000000 simulations")
    with pytest.raises(TimeoutError, match="before the first block was finished"):
        SMCABC(max_time=1e-9).infer(ask(1000, Slow(dim=2)))


def test_an_interruption_keeps_what_there_is():
    class Interrupted(Counting):
        block = 50

        def _simulate(self, theta, stream):
            before = self.simulated
            x = super()._simulate(theta, stream)
            if before < 700 <= self.simulated:
                signal.raise_signal(signal.SIGINT)
            return x

    simulator = Interrupted(dim=2)
    posterior = SMCABC(particles=50).infer(ask(5000, simulator))
    assert posterior.figures["stopped"] == "it was interrupted"
    assert 700 <= posterior.simulations == simulator.simulated < 750


def test_a_bank_that_is_too_short_is_completed():
    simulator = Counting(dim=2)
    bank = simulate(SIMULATOR, 300, seed=0, progress=False)
    run = SMCRun(SMCABC(particles=100, quantile=0.2), ask(2000, simulator, bank=bank))
    run.all_generations()
    assert run.generations[0]["simulations"] == 500
    assert simulator.simulated == 1700
    assert run.simulations.spent == 2000


class Scales(Simulator):
    """Prangle's example: the prior's draws hide that the first summary is the one to look at."""

    name = "scales"
    parameter_names = ("theta",)
    event_shape = torch.Size([2])
    prior = Independent(Normal(torch.zeros(1), torch.full((1,), 100.0)), 1)

    def _simulate(self, theta, stream):
        noise = torch.randn(len(theta), 2, generator=stream.torch())
        return torch.cat([theta + 0.1 * noise[:, :1], noise[:, 1:]], 1)


def test_an_adaptive_distance_learns_what_the_prior_hid():
    """Scales of the prior's draws, 100 and 1, make the second summary count, which tells nothing of theta."""
    fixed, adaptive = (
        SMCABC(particles=200, adaptive=adaptive).infer(ask(20_000, Scales(), torch.zeros(2)))
        for adaptive in (False, True)
    )
    spread = [float(moments(posterior.particles())[1].sqrt()) for posterior in (fixed, adaptive)]
    assert spread[1] < spread[0] / 3
    assert spread[1] > 0.1 * (1 - 4 / math.sqrt(2 * adaptive.figures["ess"]))


def test_an_adaptive_distance_keeps_what_lies_within_all_earlier_ones():
    run = SMCRun(SMCABC(particles=100, adaptive=True), ask(6000, Scales(), torch.zeros(2)))
    run.all_generations()
    assert len(run.fits) == len(run.generations) > 2
    for measure, tolerance in run.fits:
        assert (measure(run.population.features, run.observed) <= tolerance).all()
    scales = torch.tensor([float(measure(torch.eye(2), torch.zeros(2))[0]) for measure, _ in run.fits])
    assert scales[-1] > 3 * scales[0]  # the first summary counts for more and more
    assert run.simulations.spent == 6000


def test_an_adaptive_distance_is_right():
    """The bounds of the fixed one; its units are those of the last generation, whose scales are no larger."""
    posterior = SMCABC(particles=1000, adaptive=True).infer(ask(60_000))
    exact = SIMULATOR.posterior(OBSERVED)
    scale = float(robust_scale(SIMULATOR.simulate(SIMULATOR.sample_prior(50_000, 9), 9)).max())
    radius = 1.1 * scale * posterior.figures["tolerance"]
    mean, variance = moments(posterior.particles())
    ess = posterior.figures["ess"]
    assert ((mean - exact.mean).abs() <= radius / 2 + 4 * exact.stddev / math.sqrt(ess)).all()
    slack = 4 * exact.variance * math.sqrt(2 / ess)
    assert (variance >= exact.variance - slack).all()
    assert (variance <= exact.variance + (radius / 2) ** 2 + slack).all()


def test_the_tolerance_falls_by_effective_sample_size():
    run = SMCRun(SMCABC(particles=200, schedule="ess", quantile=0.5), ask(20_000))
    run.first()
    for _ in range(3):
        expected = tolerance_at(run.population, 0.5)
        run.following()
        assert run.tolerance == expected
        assert (run.population.distances <= expected).all()


def test_distances_that_are_no_numbers_are_counted():
    @dataclass(frozen=True)
    class Patchy(PNorm):
        def _fit(self, features, theta):
            inner = super()._fit(features, theta)
            return Measure(lambda s, o: torch.where(s[:, 0] > 0.5, torch.nan, inner.far(s, o)))

    posterior = SMCABC(distance=Patchy()).infer(ask(2000))
    figures = posterior.figures
    assert 100 < figures["undefined"] == sum(figures["paths"]["undefined"]) < 2000
    assert figures["failed"] == 0
    assert posterior.warnings == [f"{figures['undefined']} of 2000 distances are no numbers and can never be accepted"]


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
        ({"schedule": "list"}, "schedule: expected 'quantile' or 'ess'; got 'list'"),
        ({"max_time": -1.0}, "max_time: expected a positive number of seconds, or None; got -1.0"),
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
