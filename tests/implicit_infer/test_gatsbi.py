"""GATSBI: draws against a closed form, inside the prior, at any observation."""

import pytest
import torch

from implicit_infer.diagnose import marginal_wasserstein
from implicit_infer.games import GAMES, Extragradient, Training
from implicit_infer.posteriors import GATSBI, Question
from implicit_simulators.benchmark import GaussianLinear, TwoMoons


@pytest.fixture(scope="module")
def trained():
    simulator = GaussianLinear(dim=2)
    method = GATSBI(hidden=(64, 64), training=Training(1200, 5e-4, 1e-3))
    return simulator, method.infer(Question(simulator, torch.zeros(2), 5000, seed=0, progress=False))


@pytest.mark.parametrize("observed", [[0.0, 0.0], [0.5, -0.4]])
def test_gaussian_posterior_at_more_than_one_observation(trained, observed):
    """Amortised: mean within 0.15 and standard deviation within 15 % of the exact posterior's.

    The simulations alone allow sqrt((1 + |x'|^2) / n) = 0.03 and 0.01; the game adds its own wandering: at most 0.06
    in the mean and 0.09 in the standard deviation over seeds 100 to 102.
    An untrained generator misses the second observation by 0.5 to 1.8 standard deviations.
    """
    simulator, posterior = trained
    x = torch.tensor(observed)
    exact = simulator.posterior(x)
    draws = posterior.sample((4000,), x=x, seed=1)
    sd = exact.variance.sqrt()
    assert (((draws.mean(0) - exact.mean) / sd).abs() < 0.15).all()
    assert ((draws.std(0) / sd - 1).abs() < 0.15).all()


def test_batched_draws_are_those_of_each_observation(trained):
    _, posterior = trained
    x = torch.tensor([[0.0, 0.0], [0.5, -0.4]])
    draws = posterior.sample_batched((500,), x, seed=2)
    assert draws.shape == (500, 2, 2)
    for i in range(2):
        alone = posterior.sample((500,), x=x[i], seed=3)
        assert (draws[:, i].mean(0) - alone.mean(0)).abs().max() < 5 * 0.22 * (2 / 500) ** 0.5


def test_it_has_no_density(trained):
    _, posterior = trained
    with pytest.raises(NotImplementedError, match="no normalised density"):
        posterior.log_prob(torch.zeros(1, 2))


@pytest.mark.slow
def test_two_moons_stays_inside_the_prior_and_beats_it():
    simulator = TwoMoons()
    method = GATSBI(hidden=(64, 64), training=Training(1500, 5e-4, 1e-3))
    posterior = method.infer(Question(simulator, torch.zeros(2), 4000, seed=0, progress=False))
    draws = posterior.sample((1000,), seed=1)
    assert simulator.prior.support.check(draws).all()
    distance = marginal_wasserstein(draws, simulator.posterior(torch.zeros(2)).sample((1000,)))
    assert distance.mean() < 0.6  # the prior is 1.28 away


@pytest.mark.parametrize(
    "settings",
    [
        {"ratio_loss": "brier"},
        {"generator_loss": "kl"},
        {"penalty": None},
        *({"game": name} for name in GAMES),
        {"game": Extragradient(past=True)},
    ],
    ids=str,
)
def test_every_piece_can_be_chosen(settings):
    simulator = GaussianLinear(dim=2)
    method = GATSBI(hidden=(16,), training=Training(steps=20), **settings)
    posterior = method.infer(Question(simulator, torch.zeros(2), 200, seed=0, progress=False))
    assert torch.isfinite(posterior.sample((20,), seed=0)).all()
    assert posterior.figures["generator_steps"] == 20


def test_few_simulations_end_the_game_early():
    """200 simulations, 130 passes, batches of 256: 102 steps, however many the game would have."""
    method = GATSBI(hidden=(16,), training=Training(5000, 5e-4, 1e-3))
    posterior = method.infer(Question(GaussianLinear(dim=2), torch.zeros(2), 200, seed=0, progress=False))
    assert posterior.figures["generator_steps"] == 102


def test_same_seed_same_posterior():
    simulator = GaussianLinear(dim=2)
    question = Question(simulator, torch.zeros(2), 200, seed=3, progress=False)
    method = GATSBI(hidden=(16,), training=Training(steps=30))
    first, second = (method.infer(question).sample((10,), seed=1) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"ratio_loss": "nope"}, "loss"),
        ({"generator_loss": "nope"}, "loss"),
        ({"penalty": "nope"}, "penalty"),
        ({"game": "nope"}, "game"),
    ],
)
def test_unknown_pieces_are_refused_at_once(settings, match):
    with pytest.raises(ValueError, match=match):
        GATSBI(**settings)
