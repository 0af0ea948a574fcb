"""Replenishment SMC-ABC against a closed form, at an exact budget, with as many moves as it says."""

import itertools
import math

import pytest
import torch

from implicit_infer.abc import ReplenishmentABC
from implicit_infer.abc.distances import robust_scale
from implicit_infer.abc.replenishment import moves_for
from implicit_infer.posteriors.method import Question
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear

SIMULATOR = GaussianLinear(dim=2)
OBSERVED = torch.tensor([0.4, -0.2])


class Counting(GaussianLinear):
    simulated = 0

    def _simulate(self, theta, stream):
        self.simulated += len(theta)
        return super()._simulate(theta, stream)


def ask(budget=5000, simulator=SIMULATOR, observed=OBSERVED, seed=100, **options):
    return Question(simulator, observed, budget, seed, progress=False, **options)


def test_mean_and_variance_within_what_the_tolerance_allows():
    """As for SMC: a radius r moves the mean by at most r / 2 and adds at most (r / 2)² to the variance."""
    posterior = ReplenishmentABC(particles=300).infer(ask(40_000))
    exact = SIMULATOR.posterior(OBSERVED)
    scale = float(robust_scale(SIMULATOR.simulate(SIMULATOR.sample_prior(50_000, 9), 9)).max())
    radius = 1.3 * scale * posterior.figures["tolerance"]  # 1.3: the run's own scale comes from 300 simulations
    assert radius / 2 < 0.4 * float(exact.stddev.max())
    particles = posterior.particles()
    theta, weights = particles.theta.double(), particles.weights
    mean = weights @ theta
    variance = weights @ (theta - mean) ** 2
    # particles descend from few: half of what distinct ones would be worth
    ess = particles.ess / 2
    assert ((mean - exact.mean).abs() <= radius / 2 + 4 * exact.stddev / math.sqrt(ess)).all()
    slack = 4 * exact.variance * math.sqrt(2 / ess)
    assert (variance >= exact.variance - slack).all()
    assert (variance <= exact.variance + (radius / 2) ** 2 + slack).all()


@pytest.mark.parametrize(("budget", "particles", "block"), [(7, 4, 3), (137, 20, 64), (1000, None, 1000)])
def test_the_budget_is_exact(budget, particles, block):
    simulator = Counting(dim=2)
    simulator.block = block
    posterior = ReplenishmentABC(particles=particles).infer(ask(budget, simulator))
    figures = posterior.figures
    assert simulator.simulated == posterior.simulations == sum(figures["paths"]["simulations"]) == budget
    path = figures["paths"]["tolerance"]
    assert all(later <= earlier for earlier, later in itertools.pairwise(path))


def test_half_are_dropped_and_the_copies_move_as_often_as_their_acceptance_asks():
    paths = ReplenishmentABC(particles=400).infer(ask(20_000)).figures["paths"]
    # trial moves count among those that are needed, so there are at least as many
    for moves, rate in list(zip(paths["moves"], paths["acceptance"], strict=True))[1:-1]:
        wanted = math.log(0.01) / math.log1p(-rate)
        assert moves >= 0.7 * wanted  # the rate of all moves is not quite that of the trials
    assert paths["tolerance"][1] == pytest.approx(paths["distance"][0], rel=0.02)  # the median of the one before


def test_copies_that_did_not_move_are_one_particle():
    posterior = ReplenishmentABC(particles=100).infer(ask(260))
    particles = posterior.particles()
    assert len(particles) == len(particles.theta.unique(dim=0)) < 100
    assert particles.ess == pytest.approx(posterior.figures["ess"])


@pytest.mark.parametrize(("rate", "unmoved", "moves"), [(0.5, 0.01, 7), (1.0, 0.01, 1), (0.99, 0.5, 1), (0.0, 0.5, 69)])
def test_number_of_moves(rate, unmoved, moves):
    """log 0.01 / log 0.5 = 6.6; no acceptance in 99 counts as one in 100: log 0.5 / log 0.99 = 69."""
    assert moves_for(rate, unmoved, 99) == moves


def test_stops_at_a_tolerance_and_when_few_moves_are_accepted():
    reached = ReplenishmentABC(tolerance=0.8).infer(ask(20_000))
    assert reached.figures["tolerance"] <= 0.8
    assert reached.figures["stopped"] == "the tolerance of 0.8 is reached"
    few = ReplenishmentABC(acceptance=0.3).infer(ask(20_000))
    assert few.figures["stopped"] == "fewer than 0.3 of the moves are accepted"
    assert few.simulations < 20_000


def test_failed_simulations_are_counted_and_never_kept():
    class Fails(GaussianLinear):
        def _simulate(self, theta, stream):
            x = super()._simulate(theta, stream)
            x[theta[:, 0] > 0.1] = torch.nan
            return x

    posterior = ReplenishmentABC().infer(ask(2000, Fails(dim=2)))
    assert 30 < posterior.figures["failed"] < 2000
    assert (posterior.particles().theta[:, 0] <= 0.1).all()
    assert posterior.figures["particles"] == 100  # those that failed at first were replaced


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"particles": 3}, "particles: expected an int of at least 4; got 3"),
        ({"dropped": 1.0}, r"dropped: expected a number in \(0, 1\); got 1.0"),
        ({"unmoved": 0.0}, r"unmoved: expected a number in \(0, 1\); got 0.0"),
        ({"max_time": 0.0}, "max_time: expected a positive number of seconds, or None; got 0.0"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        ReplenishmentABC(**options)
