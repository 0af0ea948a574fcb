"""Learned summaries find what data say of parameters, and drive any ABC method as distances do."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal

from implicit_infer import load_posterior
from implicit_infer.abc import PNorm, RejectionABC
from implicit_infer.abc.regression import Training
from implicit_infer.abc.summaries import Learned, SemiAutomatic
from implicit_infer.abc.summaries.semi_automatic import moments
from implicit_infer.posteriors.method import Question
from implicit_infer.simulate import simulate
from implicit_simulators import Simulator

QUICK = Training(hidden=(32,), members=2, epochs=15)
M = 20


class Scale(Simulator):
    """Normal draws about zero whose log standard deviation is theta, which no linear function of them tells."""

    name = "scale"
    event_shape = torch.Size([M])
    parameter_names = ("log_sd",)
    prior = Independent(Normal(torch.zeros(1), torch.ones(1)), 1)

    def _simulate(self, theta, stream):
        return theta.exp() * torch.randn(len(theta), M, generator=stream.torch())

    def summarize(self, x):
        return x.abs()


@pytest.fixture(scope="module")
def bank():
    return simulate(Scale(), 3000, seed=1, progress=False)


def exact(x):
    """Mean and standard deviation of the posterior by a grid."""
    grid = torch.linspace(-5, 5, 4001, dtype=torch.float64)
    log = -grid.square() / 2 - M * grid - x.double().square().sum() * (-2 * grid).exp() / 2
    weights = log.softmax(0)
    mean = float(weights @ grid)
    return mean, math.sqrt(float(weights @ (grid - mean).square()))


def test_linear_summaries_are_the_least_squares_of_the_parameters(bank):
    features = Scale().summarize(bank.x)
    measure = SemiAutomatic(kind="linear").fit(features, bank.theta)
    standard = (bank.theta - bank.theta.mean(0)) / bank.theta.std(0)
    learned = measure.regressors(features)
    assert learned.shape == (3000, 1)
    # residuals of a least-squares fit with a constant have mean zero and nothing left to explain by what it predicts
    residual = standard - learned
    assert abs(float(residual.mean())) < 1e-4
    assert abs(float((residual * learned).mean())) < 1e-3
    inner = PNorm().fit(learned)
    assert torch.allclose(measure(features[:9], features[0]), inner(learned[:9], learned[0]), atol=1e-6)


def test_networks_and_powers_learn_more_than_a_line(bank):
    features, fresh = (Scale().summarize(x) for x in (bank.x[:2000], bank.x[2000:]))
    target = ((bank.theta - bank.theta[:2000].mean(0)) / bank.theta[:2000].std(0))[2000:]

    def error(**settings):
        measure = SemiAutomatic(**settings).fit(features, bank.theta[:2000])
        return float((measure.regressors(fresh) - target).square().mean())

    line, powers, neural = error(kind="linear"), error(kind="linear", powers=2), error(training=QUICK)
    # the least possible is the posterior variance, about 1 / (2 M); lines leave several times as much
    assert neural < 0.7 * powers < 0.7 * line
    assert neural < 3 / (2 * M)


@pytest.mark.parametrize(
    "distance",
    [
        SemiAutomatic(training=QUICK),
        SemiAutomatic(kind="linear", powers=2, pilot=0.5),
        Learned("quadratic", anchors=20),
    ],
    ids=["neural", "linear", "ratio"],
)
def test_learned_summaries_drive_rejection_and_its_adjustment(bank, distance):
    observed = bank.x[7]
    question = Question(Scale(), observed, 3000, 0, progress=False, bank=bank)
    particles = RejectionABC(keep=300, distance=distance, adjust="ridge").infer(question).particles()
    mean = float(particles.weights @ particles.theta[:, 0].double())
    spread = math.sqrt(float(particles.weights @ (particles.theta[:, 0].double() - mean).square()))
    right, width = exact(observed)
    # within a standard deviation, and at most twice as wide: with all simulations kept it would be six times
    assert abs(mean - right) < width + 4 * spread / math.sqrt(particles.ess)
    assert spread < 2 * width


def test_second_moments_see_what_means_do_not():
    theta = torch.randn(2000, 1, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(2000, 1, generator=torch.Generator().manual_seed(1))
    features = theta.abs() + 0.1 * noise  # tells the size of theta, and nothing of its sign
    first, second = (
        SemiAutomatic(kind="linear", powers=2, moments=order).fit(features, theta).regressors(features)
        for order in (1, 2)
    )
    assert first.shape == (2000, 1)
    assert second.shape == (2000, 2)
    assert float(first.var()) < 0.05
    assert float(torch.corrcoef(torch.stack([second[:, 1], theta[:, 0].square()]))[0, 1]) > 0.9


def test_moments_are_standardised_squares():
    theta = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * 5 + 2
    found = moments(theta, 2)
    assert found.shape == (500, 6)
    z = (theta - theta.mean(0)) / theta.std(0)
    assert torch.allclose(found[:, :3], z)
    assert torch.allclose(found[:, 4], z[:, 1] ** 2, atol=1e-5)


def test_a_pilot_share_is_all_that_is_learned_from(bank):
    features = Scale().summarize(bank.x)
    changed = bank.theta.clone()
    changed[1500:] = 1e3
    half = SemiAutomatic(kind="linear", pilot=0.5)
    plain, other = (half.fit(features, theta).regressors(features) for theta in (bank.theta, changed))
    assert torch.equal(plain, other)


@pytest.mark.parametrize("distance", [SemiAutomatic(kind="linear"), Learned("quadratic", anchors=5)])
def test_failed_simulations_neither_teach_nor_count(bank, distance):
    features = Scale().summarize(bank.x[:500]).clone()
    holes = torch.cat([features, torch.full((5, M), torch.nan)])
    theta = torch.cat([bank.theta[:500], torch.full((5, 1), 1e6)])
    measure = distance.fit(holes, theta)
    found = measure(holes, features[0])
    assert (found[500:] == torch.inf).all()
    assert torch.equal(found[:500], distance.fit(features, bank.theta[:500])(features, features[0]))
    assert found[0] == 0


def test_a_posterior_with_learned_summaries_can_be_saved(bank, tmp_path):
    for distance in (
        SemiAutomatic(training=Training(hidden=(8,), members=1, epochs=2)),
        Learned("quadratic", anchors=5),
    ):
        question = Question(Scale(), bank.x[3], 600, 0, progress=False, bank=bank)
        posterior = RejectionABC(keep=50, distance=distance, adjust="linear").infer(question)
        posterior.save(tmp_path / "saved.safetensors")
        loaded = load_posterior(tmp_path / "saved.safetensors", Scale())
        other = bank.x[5]
        assert torch.equal(posterior.sample((20,), other, seed=0), loaded.sample((20,), other, seed=0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SemiAutomatic(kind="cubic"), "kind: expected 'linear' or 'neural'; got 'cubic'"),
        (lambda: SemiAutomatic(powers=0), "powers: expected a positive int; got 0"),
        (lambda: SemiAutomatic(moments=3), "moments: expected 1 or 2; got 3"),
        (lambda: SemiAutomatic(pilot=0.0), r"pilot: expected a number in \(0, 1\]; got 0.0"),
        (lambda: SemiAutomatic(distance=Learned()), "distance: expected one that is not learned itself; got Learned"),
        (lambda: SemiAutomatic().fit(torch.zeros(3, 1)), "theta: semi-automatic summaries are learned from parameters"),
        (lambda: Learned("oracle"), "estimator: expected one of .*; got 'oracle'"),
        (lambda: Learned(anchors=0), "anchors: expected a positive int; got 0"),
        (lambda: Learned().fit(torch.zeros(9, 1)), "theta: a learned ratio needs parameters"),
        (lambda: Learned().fit(torch.zeros(3, 1), torch.zeros(3, 1)), "features: expected at least four simulations"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()
